"""Video files: decoded through PyAV, upright, and to their end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from vsscli.data.containers import OPTIONS, is_cut, lacks_packets, refuse_other_files
from vsscli.data.orientation import UPRIGHT, Turn, matrix_turn
from vsscli.data.pixels import require_pixels
from vsscli.data.videos import Video, other_size
from vsscli.errors import VssError
from vsscli.names import require_names

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream


class FileVideo(Video):
    """A video file, read through PyAV (the extra ``video``), called after the file if nothing else is said.

    Frames are named by their number, ``000000`` onwards, and turned upright where the file says how it was held. They
    are those that a player shows: an edit list counts, and what the header claims does not. Their number is counted by
    decoding the file once.

    A file that is missing, has no pictures or can't be opened, is a playlist or a picture, has frames absurdly large or
    shown askew is an error, and when its frames are asked for, one that is damaged or cut short.
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
                size = self._turn(frame).size(frame.height, frame.width)
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
            image = self._turn(frame).apply(frame.to_ndarray(format="rgb24"))
            if image.shape[:2] != self.size:
                raise other_size(f"frame {number} of {self.path}", image, self)
            yield image

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
                f"video file {self.path} is shown turned by {angle:g} degrees, or askew; only quarter turns and "
                "mirrored pictures are read",
                f"turn it and export it again (ffmpeg -i {self.path.name} upright.mp4)",
            )
        return turn

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
            self._require_whole(container, stream, packets)

    def _require_whole(self, container: InputContainer, stream: VideoStream, packets: int) -> None:
        """Refuse a file that was cut, and so ends early without any error of FFmpeg's."""
        ended = f"it ends after {packets} of {max(stream.frames, packets)} frames"
        entries = stream.index_entries if hasattr(stream, "index_entries") else ()
        if lacks_packets(entries, packets, os.path.getsize(self.path)):
            raise self._damaged(ended if packets < stream.frames else "its last frames are missing")
        # The index of MP4 stands apart from the pictures; other formats' is written behind them, or made up.
        indexed = "mp4" in container.format.name and stream.frames > 0 and len(entries) > 0
        cut = None if indexed else is_cut(self.path)
        if cut or (cut is None and not indexed and packets < stream.frames):
            raise self._damaged("it is cut: it ends before it says that it does" if cut else ended)

    @contextmanager
    def _stream(self) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The opened file and its first stream of pictures; FFmpeg's errors become ours until the block ends."""
        av = _pyav()
        refuse_other_files(self.path)
        try:
            # What its tags say is not wanted, so it may be any bytes.
            with av.open(f"file:{self.path}", options=OPTIONS, metadata_errors="replace") as container:
                cover = av.stream.Disposition.attached_pic
                streams = [stream for stream in container.streams.video if not stream.disposition & cover]
                if not streams:
                    raise VssError(f"{self.path} holds no pictures", "give a video file or a folder of images")
                stream, codec = streams[0], streams[0].codec_context
                if codec is None:
                    raise self._damaged("there is no decoder for its pictures")
                require_pixels(codec.height, codec.width, f"a frame of video file {self.path}")
                codec.options = {"max_pixels": OPTIONS["max_pixels"]}
                # Threads over frames would be faster but lose a decoding error that comes with the last frames.
                yield container, stream
        except av.FFmpegError as cause:  # also one that is a MemoryError: a damaged file claims more than there can be
            raise self._damaged(cause.strerror or str(cause)) from cause
        except (VssError, MemoryError):
            raise
        except Exception as cause:  # of a damaged file's numbers and texts PyAV can raise almost anything
            raise self._damaged(str(cause) or type(cause).__name__) from cause

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
