"""Videos: frames in order, all of one size. Those from a folder; `data.videofile` has those from a file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vsscli.data.pixels import image_size, read_image
from vsscli.errors import VssError
from vsscli.names import require_names, shown_name

_ENDINGS = (
    "mp4 m4v mov qt mkv mk3d webm avi divx wmv asf mpg mpeg mpe m1v m2v vob ts mts m2t m2ts 3gp 3g2 flv f4v ogv mxf dv "
    "y4m mjpg mjpeg ivf h264 264 h265 265 hevc"
)
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Of files that are looked for in folders. A file that is named is opened whatever its suffix."""


@dataclass(frozen=True)
class Frame:
    """One frame of a folder: name of the video, and of the files without their suffix; the files, None where there is
    none."""

    video: str
    stem: str
    image: Path | None
    mask: Path | None = None

    @property
    def address(self) -> str:
        """``<video>/<stem>``."""
        return f"{self.video}/{self.stem}"


class Video(ABC):
    """Frames in order, all of one size."""

    name: str

    @property
    @abstractmethod
    def stems(self) -> tuple[str, ...]:
        """A name for every frame, in order."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width of every frame, in pixels."""

    @abstractmethod
    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on, one after the other: (H, W, 3) uint8, RGB.

        Raises
        ------
        VssError
            A frame can't be decoded or is not of the video's size.
        """

    def __len__(self) -> int:
        return len(self.stems)


class FolderVideo(Video):
    """A video whose frames are image files; at least one, in order."""

    def __init__(self, name: str, frames: tuple[Frame, ...]) -> None:
        if not frames:
            raise VssError(f"video {name} has no frames", "put its images into its folder, or take it out of the list")
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
        """Height and width as the header of the first file tells (its mask's where there are only masks)."""
        first = self.frames[0]
        return image_size(first.image or first.mask or _no_image(first))

    def read(self, index: int) -> np.ndarray:
        """Decode one frame, (H, W, 3) uint8, RGB. One without an image, damaged, or not of the video's size is an
        error."""
        frame = self.frames[index]
        path = frame.image or _no_image(frame)
        image = read_image(path)
        if image.shape[:2] != self.size:
            raise other_size(f"image {path}", image, self)
        return image

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on; see `Video.images`."""
        for index in range(start, len(self.frames)):
            yield self.read(index)


def _no_image(frame: Frame) -> Path:
    raise VssError(f"frame {frame.address} has a mask but no image", "add the image, or take the mask away")


def other_size(what: str, image: np.ndarray, video: Video) -> VssError:
    height, width = video.size
    return VssError(
        f"{what} is {image.shape[1]}x{image.shape[0]}, but video {video.name} is {width}x{height} (width x height)",
        "all frames of a video must be of one size: split the video, or bring its frames to one size",
    )
