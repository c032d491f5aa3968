"""Single frames of video files by number, identical to those that decoding from the start gives."""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vsscli.data.videofile import FileVideo, checksum
from vsscli.errors import VssError

if TYPE_CHECKING:
    from av import VideoFrame

OPENED = 4
"""Most files that a thread keeps open."""

_here = threading.local()
_opened: weakref.WeakSet[Seeker] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Close all files while PyAV can still do it."""
    for seeker in list(_opened):
        seeker.close()


def read_numbered(path: Path, number: int) -> np.ndarray:
    """Decode one frame of a video file.

    Parameters
    ----------
    path, number
        The file, and the number of the frame, from 0 in the order of display.

    Returns
    -------
    np.ndarray
        (H, W, 3) uint8, RGB, upright: the same pixels as from `FileVideo.images`.

    Raises
    ------
    VssError
        The file is unusable, or has no such frame.
    """
    return _seeker(path).read(number)


def numbered_size(path: Path) -> tuple[int, int]:
    """Height and width of a video file's frames, upright."""
    return _seeker(path).video.size


def numbered_rate(path: Path) -> float:
    """A video file's frames per second."""
    return _seeker(path).video.fps


def _seeker(path: Path) -> Seeker:
    """This thread's seeker for a file; after a fork a new one, since the parent continues to read with the old one."""
    if getattr(_here, "process", None) != os.getpid():
        # The parent's are kept: closing them here would wait for threads that do not exist after a fork.
        _here.parents = getattr(_here, "seekers", None)
        _here.process, _here.seekers = os.getpid(), OrderedDict()
    seekers: OrderedDict[tuple[str, int, int], Seeker] = _here.seekers
    try:
        status = os.stat(path)
    except OSError as cause:
        raise VssError(f"video file {path} does not exist", "check the path") from cause
    key = (os.fspath(path), status.st_ino, status.st_mtime_ns)
    if key not in seekers:
        while len(seekers) >= OPENED:
            seekers.popitem(last=False)[1].close()
        seekers[key] = Seeker(FileVideo(path))
    seekers.move_to_end(key)
    return seekers[key]


class Seeker:
    """An open video file from which single frames are read. Reading consecutive frames is as fast as plain decoding.

    Decoding begins at the last key frame before the wanted frame. Containers do not always seek to the requested
    position, and codecs do not always decode the same from there, so every frame is compared with the index: if it
    differs, the file is decoded from its start.
    """

    def __init__(self, video: FileVideo) -> None:
        self.video = video
        self._stack = ExitStack()
        self._frames: Iterator[VideoFrame] = iter(())
        self._next = -1
        self._process = os.getpid()
        _opened.add(self)

    def close(self) -> None:
        """Close the file; a forked process leaves it to its parent."""
        if self._process != os.getpid():
            return
        self._frames, self._next = iter(()), -1
        self._stack.close()

    def read(self, number: int) -> np.ndarray:
        """Decode a frame; see `read_numbered`."""
        index = self.video.index
        if not 0 <= number < len(index):
            raise VssError(
                f"video file {self.video.path} has {len(index)} frames, so none with number {number}",
                "frames are numbered from 0",
            )
        near = self._next >= 0 and index.key_before(number) <= self._next <= number
        frame = self._forward(number) if near else None
        if frame is None and index.is_timed:
            frame = self._seek(number)
        if frame is None:
            frame = self._from_start(number)
        return self.video.upright(frame, number)

    def _forward(self, number: int) -> VideoFrame | None:
        """Continue decoding up to a frame; `None` if another frame comes in its place."""
        index, timed = self.video.index, self.video.index.is_timed
        with self.video.errors():
            for frame in self._frames:
                if timed and (frame.pts is None or frame.pts > index.times[number]):
                    break
                if (frame.pts == index.times[number]) if timed else (self._next == number):
                    self._next = number + 1
                    return frame if checksum(frame) == index.checks[number] else None
                self._next += 1
        self._next = -1
        return None

    def _seek(self, number: int) -> VideoFrame | None:
        index = self.video.index
        key = index.key_before(number)
        self.close()
        container, stream = self._stack.enter_context(self.video.stream())
        with self.video.errors():
            container.seek(int(index.times[key]), stream=stream)
        self._frames, self._next = container.decode(stream), key
        return self._forward(number)

    def _from_start(self, number: int) -> VideoFrame:
        self.close()
        container, stream = self._stack.enter_context(self.video.stream())
        self._frames, self._next = container.decode(stream), 0
        frame = self._forward(number)
        if frame is None:
            raise VssError(
                f"video file {self.video.path} decodes differently each time: frame {number} has changed",
                "export it again (ffmpeg -i OLD NEW.mp4)",
            )
        return frame
