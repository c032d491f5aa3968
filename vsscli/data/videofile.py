"""Video files, decoded with PyAV, upright and to their end; single frames by number, exactly."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vsscli.data.containers import OPTIONS, is_cut, lacks_packets, refuse_other_files
from vsscli.data.orientation import UPRIGHT, Turn, matrix_turn
from vsscli.data.pixels import require_pixels
from vsscli.data.recall import recall, remember
from vsscli.data.video import Video, other_size
from vsscli.errors import VssError
from vsscli.names import require_names

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


INDEX = "videos"
"""Name under which `data.recall` keeps indexes."""

UNTIMED = np.iinfo(np.int64).min
"""In place of the time of a frame without one."""


@dataclass(frozen=True)
class VideoIndex:
    """Facts about the N frames of a file, in the order of display.

    Parameters
    ----------
    size
        Height and width of the first, upright.
    times
        (N,) int64, each in the units of the file.
    keys
        (N,) bool, whether decoding can begin there.
    checks
        (N,) uint32, `checksum` of each.
    """

    size: tuple[int, int]
    times: np.ndarray
    keys: np.ndarray
    checks: np.ndarray

    def __len__(self) -> int:
        return len(self.times)

    @cached_property
    def is_timed(self) -> bool:
        """Whether every frame has a time later than that of the previous one."""
        return bool((np.diff(self.times) > 0).all() and self.times[0] != UNTIMED)

    def key_before(self, number: int) -> int:
        """The last frame up to ``number`` at which decoding can begin."""
        keys = np.flatnonzero(self.keys[: number + 1])
        return int(keys[-1]) if len(keys) else 0

    def arrays(self) -> dict[str, np.ndarray]:
        """The index as arrays, to be remembered."""
        return {"size": np.array(self.size), "times": self.times, "keys": self.keys, "checks": self.checks}

    @staticmethod
    def from_arrays(arrays: dict[str, np.ndarray]) -> VideoIndex | None:
        """The index from what `arrays` returned; `None` for anything else."""
        wanted = {"size": (np.int64, 1), "times": (np.int64, 1), "keys": (np.bool_, 1), "checks": (np.uint32, 1)}
        found = {name: (array.dtype.type, array.ndim) for name, array in arrays.items()}
        count = {len(array) for name, array in arrays.items() if name != "size"}
        if found != wanted or len(arrays["size"]) != 2 or len(count) != 1 or count == {0}:
            return None
        height, width = arrays["size"].tolist()
        return VideoIndex((height, width), arrays["times"], arrays["keys"], arrays["checks"])


def checksum(frame: VideoFrame) -> int:
    """CRC-32 of a decoded frame's first plane, its brightness in most formats, to distinguish pictures."""
    plane = frame.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    width = min(plane.line_size, plane.width * max(1, frame.format.components[0].bits // 8))
    return zlib.crc32(rows[:, :width].tobytes())


class FileVideo(Video):
    """A video file, read with PyAV, by default named after the file.

    Frames are named by their number, from ``000000`` on, and turned upright by the file's orientation. They are those
    that a player shows: an edit list is respected, the header's number of frames is not. They are counted by decoding
    the file once.

    `VssError` if the file is missing, has no pictures, can't be opened, is a playlist or a picture, or has frames that
    are too large or not upright after quarter turns; and, when frames are read, if it is damaged or cut off.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.stem
        require_names([self.name], "name of a video", "rename its file")
        if not self.path.is_file():
            raise VssError(f"video file {self.path} does not exist", "check the path")
        with self.stream():
            pass

    def __repr__(self) -> str:
        return f"FileVideo({str(self.path)!r})"

    @cached_property
    def index(self) -> VideoIndex:
        """What decoding the whole file once says about its frames, remembered until the file changes."""
        known = recall(self.path, INDEX)
        index = None if known is None else VideoIndex.from_arrays(known)
        if index is None:
            index = self._decoded_index()
            remember(self.path, INDEX, index.arrays())
        return index

    def _decoded_index(self) -> VideoIndex:
        times: list[int] = []
        keys: list[bool] = []
        checks: list[int] = []
        size = (0, 0)
        for frame in self.decode():
            size = size if times else self._turn(frame).size(frame.height, frame.width)
            times.append(UNTIMED if frame.pts is None else frame.pts)
            keys.append(bool(frame.key_frame))
            checks.append(checksum(frame))
        if not times:
            raise VssError(f"video file {self.path} has no frames", "check that it plays; export it again")
        return VideoIndex(size, np.array(times, np.int64), np.array(keys), np.array(checks, np.uint32))

    @cached_property
    def stems(self) -> tuple[str, ...]:
        """``000000``, ``000001``, …"""
        return tuple(f"{number:06d}" for number in range(len(self.index)))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the first frame, upright."""
        return self.index.size

    @cached_property
    def fps(self) -> float:
        """Frames per second, on average; 10 if the file does not say."""
        with self.stream() as (_, stream):
            return float(stream.average_rate or 10)

    def images(self, start: int = 0) -> Iterator[np.ndarray]:
        """Decode the frames from ``start`` on; see `Video.images`.

        Earlier frames are decoded and dropped.
        """
        for number, frame in enumerate(self.decode()):
            if number >= start:
                yield self.upright(frame, number)

    def upright(self, frame: VideoFrame, number: int) -> np.ndarray:
        """The pixels of a decoded frame, turned upright, (H, W, 3) uint8, RGB; `VssError` if it differs in size from
        the first frame."""
        image = self._turn(frame).apply(frame.to_ndarray(format="rgb24"))
        if image.shape[:2] != self.size:
            raise other_size(f"frame {number} of {self.path}", image, self)
        return image

    def _turn(self, frame: VideoFrame) -> Turn:
        """How a frame is turned upright."""
        note: Any = frame.side_data.get("DISPLAYMATRIX")
        if note is None:
            return UPRIGHT
        matrix = np.frombuffer(bytes(note)[:36], np.int32)
        if not matrix.any():
            return UPRIGHT
        turn = matrix_turn(matrix)
        if turn is None:
            angle = round(np.degrees(np.arctan2(matrix[1], matrix[0])), 1)
            raise VssError(
                f"video file {self.path} is displayed turned by {angle:g} degrees, or skewed; only quarter turns and "
                "mirroring are supported",
                f"export it upright (ffmpeg -i {self.path.name} upright.mp4)",
            )
        return turn

    def decode(self) -> Iterator[VideoFrame]:
        """All frames as PyAV decodes them, one by one; `VssError` for a file that is damaged or cut off."""
        number = packets = 0
        with self.stream() as (container, stream):
            for packet in container.demux(stream):
                packets += packet.size > 0
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise self._damaged(f"frame {number} does not decode")
                    yield frame
                    number += 1
            self._require_whole(container, stream, packets)

    def _require_whole(self, container: InputContainer, stream: VideoStream, packets: int) -> None:
        """Refuse a file that was cut off, which FFmpeg does not report."""
        ended = f"it ends after {packets} of {max(stream.frames, packets)} frames"
        entries = stream.index_entries if hasattr(stream, "index_entries") else ()
        if lacks_packets(entries, packets, os.path.getsize(self.path)):
            raise self._damaged(ended if packets < stream.frames else "its last frames are missing")
        # MP4 has its index apart from the pictures; in other formats it follows them, or FFmpeg generates it.
        indexed = "mp4" in container.format.name and stream.frames > 0 and len(entries) > 0
        cut = None if indexed else is_cut(self.path)
        if cut or (cut is None and not indexed and packets < stream.frames):
            raise self._damaged("it is cut off before its own end" if cut else ended)

    @contextmanager
    def stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The opened file and its first video stream; see `errors`."""
        import av

        refuse_other_files(self.path)
        # Its tags are not used, so they may be any bytes.
        with self.errors(), av.open(f"file:{self.path}", options=OPTIONS, metadata_errors="replace") as container:
            cover = av.stream.Disposition.attached_pic
            streams = [stream for stream in container.streams.video if not stream.disposition & cover]
            if not streams:
                raise VssError(f"{self.path} has no pictures", "give a video file or a folder of images")
            stream, codec = streams[0], streams[0].codec_context
            if codec is None:
                raise self._damaged("there is no decoder for its pictures")
            require_pixels(codec.height, codec.width, f"a frame of video file {self.path}")
            codec.options = {"max_pixels": OPTIONS["max_pixels"]}
            # Threads over frames would be faster, but lose decoding errors in the last frames.
            yield container, stream

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn errors of PyAV and FFmpeg in the block into a `VssError` that names the file."""
        import av

        try:
            yield
        except av.FFmpegError as cause:  # may also be a MemoryError: a damaged file claims too much
            raise self._damaged(cause.strerror or str(cause)) from cause
        except (VssError, MemoryError):
            raise
        except Exception as cause:  # a damaged file can make PyAV raise almost anything
            raise self._damaged(str(cause) or type(cause).__name__) from cause

    def _damaged(self, reason: str) -> VssError:
        return VssError(
            f"video file {self.path} is damaged or not a video: {reason}",
            "check that it plays; export it again",
        )
