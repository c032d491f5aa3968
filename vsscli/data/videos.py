"""Videos whose frames are known one by one: image files of a folder, or frames of a video file by number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vsscli.data.pixels import image_size, read_image
from vsscli.data.seek import numbered_size, read_numbered
from vsscli.data.video import Video, other_size
from vsscli.errors import VssError
from vsscli.names import require_names, shown_name


@dataclass(frozen=True)
class Frame:
    """One frame of a video.

    Parameters
    ----------
    video, stem
        Names of the video and of the frame in it.
    image, mask
        The files that it and its labels are read from; `None` if there is no such file.
    number
        Which frame of `image` it is, if that is a video file.
    """

    video: str
    stem: str
    image: Path | None
    mask: Path | None = None
    number: int | None = None

    @property
    def address(self) -> str:
        """``<video>/<stem>``."""
        return f"{self.video}/{self.stem}"

    def read(self) -> np.ndarray:
        """Decode the image, (H, W, 3) uint8, RGB.

        Raises
        ------
        VssError
            There is no image, or it can't be decoded.
        """
        path = self.image or _no_image(self)
        return read_image(path) if self.number is None else read_numbered(path, self.number)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the image, or of the mask if there is no image, by the file's header."""
        if self.number is not None and self.image is not None:
            return numbered_size(self.image)
        return image_size(self.image or self.mask or _no_image(self))


class FolderVideo(Video):
    """A video whose frames are known one by one, mostly files of a folder; at least one, in order."""

    def __init__(self, name: str, frames: tuple[Frame, ...]) -> None:
        if not frames:
            raise VssError(f"video {name} has no frames", "put its images into its folder, or remove it from the list")
        require_names([name], "name of a video", "rename its folder")
        of_frame = f"name of a frame of video {shown_name(name)}"
        require_names((frame.stem for frame in frames), of_frame, "rename its file")
        self.name = name
        self.frames = frames

    def __repr__(self) -> str:
        return f"FolderVideo({self.name!r}, {len(self.frames)} frames)"

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """The stems of the frames' files."""
        return tuple(frame.stem for frame in self.frames)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame."""
        return self.frames[0].size

    def read(self, index: int, read: Callable[[Frame], np.ndarray] = Frame.read) -> np.ndarray:
        """Read one frame, (H, W, 3) uint8, RGB. `VssError` if it has no image, is damaged, or does not have the video's
        size."""
        frame = self.frames[index]
        image = read(frame)
        if image.shape[:2] != self.size:
            raise other_size(f"image {frame.image}" if frame.number is None else f"frame {frame.address}", image, self)
        return image

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on; see `Video.images`."""
        for index in range(start, len(self.frames)):
            yield self.read(index)


def _no_image(frame: Frame) -> Path:
    raise VssError(f"frame {frame.address} has a mask but no image", "add the image, or remove the mask")
