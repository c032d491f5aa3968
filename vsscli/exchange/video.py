"""Video: the colours of the classes, or these over the frames, as an mp4 for each video. Written only."""

from __future__ import annotations

from typing import Any

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Item, Size, Writer
from vsscli.exchange.sink import Sink
from vsscli.files import whole_file

ALPHA = 0.55
"""Of the colours over frames, as in the pictures of `vss show`."""


class VideoWriter(Writer):
    """``<video>.mp4`` (H.264), a frame for each in the order in which they come; sides are cut to even numbers."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._paint = np.zeros((256, 3), np.uint8)
        self._paint[: table.num_classes] = table.colours
        self._name, self._size = "", (0, 0)
        self._place: Any = None
        self._file: Any = None
        self._stream: Any = None

    def add(self, item: Item) -> None:
        if item.video != self._name:
            if self.sink.single and self._name:
                raise VssError(f"{self.sink.out} is one file, and there are several videos", "name a folder with --out")
            self._end()
            self._begin(item.video, item.size)
        if item.size != self._size:
            raise VssError(f"frame {item.address} is of another size than its video", "export it --to png")
        picture = self._paint[item.label]
        if self.choices.overlay:
            picture = self._over(item, picture)
        self._encode(np.ascontiguousarray(picture[: self._size[0] & ~1, : self._size[1] & ~1]))

    def _over(self, item: Item, colours: np.ndarray) -> np.ndarray:
        if item.frame is None:
            raise VssError(f"the image of frame {item.address} is not at hand", "leave --overlay out, or name --data")
        image = item.frame.read().astype(np.float32)
        if image.shape[:2] != item.size:
            raise VssError(f"frame {item.address} is of another size than its labels", "name the data set with --data")
        alpha = ALPHA * (item.label < self.table.num_classes)[..., None]
        return np.round(image * (1 - alpha) + colours * alpha).astype(np.uint8)

    def _begin(self, video: str, size: Size) -> None:
        try:
            import av
        except ImportError as cause:
            raise VssError("video files need PyAV", 'pip install "vsscli[video]"') from cause
        if min(size) < 2:
            raise VssError(f"video {video} is too small for a video file", "export it --to png")
        self._name, self._size = video, size
        self._place = whole_file(self.sink.path(f"{video}.mp4"), "video")
        self._file = av.open(str(self._place.__enter__()), "w", format="mp4")
        self._stream = self._file.add_stream("libx264", rate=round(self.choices.fps) or 1)
        self._stream.width, self._stream.height = size[1] & ~1, size[0] & ~1
        self._stream.pix_fmt, self._stream.options = "yuv420p", {"crf": "18"}

    def _encode(self, picture: np.ndarray) -> None:
        import av

        for packet in self._stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
            self._file.mux(packet)

    def _end(self, error: BaseException | None = None) -> None:
        if self._place is None:
            return
        place, self._place = self._place, None
        if error is None:
            for packet in self._stream.encode():
                self._file.mux(packet)
        self._file.close()
        place.__exit__(type(error) if error else None, error, None)

    def finish(self) -> dict[str, float]:
        self._end()
        return {}

    def close(self, error: BaseException | None) -> None:
        self._end(error)
