"""The interface of videos: frames in order, all of one size, from any source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np

from vsscli.errors import VssError

_ENDINGS = (
    "mp4 m4v mov qt mkv mk3d webm avi divx wmv asf mpg mpeg mpe m1v m2v vob ts mts m2t m2ts 3gp 3g2 flv f4v ogv mxf dv "
    "y4m mjpg mjpeg ivf h264 264 h265 265 hevc"
)
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Suffixes of files that are searched in folders. A file given by name is opened whatever its suffix."""


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
        """Decode the frames from ``start`` on, one by one: (H, W, 3) uint8, RGB.

        Raises
        ------
        VssError
            A frame can't be decoded or does not have the video's size.
        """

    def __len__(self) -> int:
        return len(self.stems)


def other_size(what: str, image: np.ndarray, video: Video) -> VssError:
    height, width = video.size
    return VssError(
        f"{what} is {image.shape[1]}x{image.shape[0]}, but video {video.name} is {width}x{height} (width x height)",
        "all frames of a video must have one size: split the video, or resize its frames",
    )
