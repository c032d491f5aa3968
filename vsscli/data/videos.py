"""Videos: frames in order, all of one size, from a folder or a video file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from vsscli.data.pixels import image_size, read_image
from vsscli.errors import VssError
from vsscli.names import require_names, shown_name

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

_ENDINGS = (
    "mp4 m4v mov qt mkv mk3d webm avi divx wmv asf mpg mpeg mpe m1v m2v vob ts mts m2t m2ts 3gp 3g2 flv f4v ogv mxf dv "
    "y4m mjpg mjpeg ivf h264 264 h265 265 hevc"
)
VIDEO_SUFFIXES = frozenset(f".{ending}" for ending in _ENDINGS.split())
"""Of files that are looked for in folders. A file that is named is opened whatever its suffix."""


@dataclass(frozen=True)
class Frame:
    """One frame of a folder.

    Parameters
    ----------
    video, stem
        Name of the video, and of the frame's files without their suffix.
    image, mask
        The files; none where there is none.
    """

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
    """A video whose frames are image files.

    Parameters
    ----------
    name
        What the video is called.
    frames
        Its frames in order; at least one.
    """

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
        """Decode one frame.

        Returns
        -------
        ndarray
            (H, W, 3) uint8, RGB.

        Raises
        ------
        VssError
            The frame has no image, its image is damaged, or it is not of the video's size.
        """
        frame = self.frames[index]
        path = frame.image or _no_image(frame)
        image = read_image(path)
        if image.shape[:2] != self.size:
            raise _other_size(f"image {path}", image, self)
        return image

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on; see `Video.images`."""
        for index in range(start, len(self.frames)):
            yield self.read(index)


class FileVideo(Video):
    """A video file, read through PyAV (the extra ``video``).

    Frames are named by their number, ``000000`` onwards, and turned upright where the file says how it was held.
    The number of frames is counted by decoding the file once, because what containers tell is often missing or wrong.

    Parameters
    ----------
    path
        The file.
    name
        What the video is called; none: the file's name without suffix.

    Raises
    ------
    VssError
        The file is missing, has no pictures or can't be opened, or PyAV is not installed.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.stem
        require_names([self.name], "name of a video", "rename its file")
        if not self.path.is_file():
            raise VssError(f"video file {self.path} is not there", "check the path")
        with self._stream():
            pass

    def __repr__(self) -> str:
        return f"FileVideo({str(self.path)!r})"

    @cached_property
    def _counted(self) -> tuple[int, tuple[int, int]]:
        """Number of frames, and height and width, from decoding everything once without converting any pixel."""
        count, size = 0, (0, 0)
        for frame in self._decode():
            if count == 0:
                upright = frame.rotation % 180 == 0
                size = (frame.height, frame.width) if upright else (frame.width, frame.height)
            count += 1
        if count == 0:
            raise VssError(f"video file {self.path} holds no frame", "check that it plays; export it again")
        return count, size

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """``000000``, ``000001``, …"""
        return tuple(f"{number:06d}" for number in range(self._counted[0]))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame, upright."""
        return self._counted[1]

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on; see `Video.images`.

        Frames before ``start`` are decoded and dropped: seeking by time is not exact in every container.
        """
        for number, frame in enumerate(self._decode()):
            if number < start:
                continue
            # PyAV tells the angle counterclockwise, which is how rot90 turns.
            image = np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
            if image.shape[:2] != self.size:
                raise _other_size(f"frame {number} of {self.path}", image, self)
            yield image

    def _decode(self) -> Iterator[VideoFrame]:
        number = packets = 0
        with self._stream() as (container, stream):
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise self._damaged(f"frame {number} does not decode")
                    yield frame
                    number += 1
            if packets < stream.frames:
                raise self._damaged(f"it ends after {packets} of {stream.frames} frames")

    @contextmanager
    def _stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The opened file and its first stream of pictures; FFmpeg's errors become ours until the block ends."""
        av = _pyav()
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    raise VssError(f"{self.path} holds no pictures", "give a video file or a folder of images")
                # Threads over frames would be faster but lose a decoding error that comes with the last frames.
                yield container, container.streams.video[0]
        except av.FFmpegError as cause:
            raise self._damaged(cause.strerror or str(cause)) from cause

    def _damaged(self, reason: str) -> VssError:
        return VssError(
            f"video file {self.path} is damaged or no video: {reason}", "check that it plays; copy or export it again"
        )


def _pyav() -> ModuleType:
    try:
        import av
    except ImportError as cause:
        raise VssError(
            "video files are read with PyAV, which is not installed", 'pip install "vsscli[video]"'
        ) from cause
    return av


def _no_image(frame: Frame) -> Path:
    raise VssError(f"frame {frame.address} has a mask but no image", "add the image, or take the mask away")


def _other_size(what: str, image: np.ndarray, video: Video) -> VssError:
    height, width = video.size
    return VssError(
        f"{what} is {image.shape[1]}x{image.shape[0]}, but video {video.name} is {width}x{height} (width x height)",
        "all frames of a video must be of one size: split the video, or bring its frames to one size",
    )
