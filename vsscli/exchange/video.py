"""Video: the colours of the classes, or these over the frames, as an mp4 for each video. Written only."""

from __future__ import annotations

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.seek import numbered_rate
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Item, Writer
from vsscli.exchange.sink import Sink
from vsscli.report.film import FPS, Film
from vsscli.report.overlay import coloured


class VideoWriter(Writer):
    """``<video>.mp4`` (H.264), a frame for each in the order in which they come; sides are cut to even numbers."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._paint = np.zeros((256, 3), np.uint8)
        self._paint[: table.num_classes] = table.colours
        self._name, self._size = "", (0, 0)
        self._film: Film | None = None

    def add(self, item: Item) -> None:
        if item.video != self._name:
            if self.sink.single and self._name:
                raise VssError(f"{self.sink.out} is one file, and there are several videos", "name a folder with --out")
            self.close(None)
            self._name, self._size = item.video, item.size
            self._film = Film(self.sink.path(f"{item.video}.mp4"), item.size, self.choices.fps or _rate(item))
        if item.size != self._size:
            raise VssError(f"frame {item.address} is of another size than its video", "export it --to png")
        assert self._film is not None
        self._film.add(self._over(item) if self.choices.overlay else self._paint[item.label])

    def _over(self, item: Item) -> np.ndarray:
        if item.frame is None:
            raise VssError(f"the image of frame {item.address} is not at hand", "leave --overlay out, or name --data")
        image = item.frame.read()
        if image.shape[:2] != item.size:
            raise VssError(f"frame {item.address} is of another size than its labels", "name the data set with --data")
        return coloured(image, item.label, self.table)

    def finish(self) -> dict[str, float]:
        self.close(None)
        return {}

    def close(self, error: BaseException | None) -> None:
        film, self._film = self._film, None
        if film is not None:
            film.end(error)


def _rate(item: Item) -> float:
    """Frames per second of the file that a frame is from."""
    if item.frame is None or item.frame.image is None or item.frame.number is None:
        return FPS
    return numbered_rate(item.frame.image)
