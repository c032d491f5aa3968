"""Video files of drawn pictures, written as the pictures come, so that memory does not grow with their number."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.files import whole_file

FPS = 10.0
"""Pictures per second, where the source does not say."""

LOSSLESS = ".mkv"
"""Suffix of files that keep every pixel as it is (FFV1). Others are H.264, whose sides are cut to even numbers."""


class Film:
    """A video file; a context that leaves it in full, or not at all if the block fails.

    Parameters
    ----------
    path
        The file: ``.mp4``, or ``.mkv`` for one without loss.
    size
        Height and width of the pictures.
    fps
        Pictures per second.

    Raises
    ------
    VssError
        The pictures are too small; or, also at the end of the block, the file can't be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float = FPS) -> None:
        import av

        if min(size) < 2:
            raise VssError(f"pictures of {size[1]}x{size[0]} are too small for a video file", "write them as PNGs")
        exact = path.suffix.lower() == LOSSLESS
        self.size = size if exact else (size[0] & ~1, size[1] & ~1)
        with ExitStack() as stack:
            part = stack.enter_context(whole_file(path, "video"))
            self._file = stack.enter_context(av.open(str(part), "w", format="matroska" if exact else "mp4"))
            self._stream: Any = self._file.add_stream(
                "ffv1" if exact else "libx264", rate=Fraction(fps).limit_denominator(1001) or 1
            )
            self._open = stack.pop_all()
        self._stream.height, self._stream.width = self.size
        self._stream.pix_fmt = "bgr0" if exact else "yuv420p"
        self._stream.options = {} if exact else {"crf": "18"}

    def add(self, picture: np.ndarray) -> None:
        """Add a picture, (H, W, 3) uint8, RGB."""
        import av

        cut = np.ascontiguousarray(picture[: self.size[0], : self.size[1]])
        for packet in self._stream.encode(av.VideoFrame.from_ndarray(cut, format="rgb24")):
            self._file.mux(packet)

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def end(self, error: BaseException | None = None) -> None:
        """Finish the file; or if there was an error, drop it and raise that: a `VssError` if the disk refused."""
        with self._open:
            if error is not None:
                raise error
            for packet in self._stream.encode():
                self._file.mux(packet)
