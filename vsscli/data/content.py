"""What files hold, as digests: a frame or a mask is known by its content, not by its name, size and time.

A frame exported again under its name, a mask corrected in place, a file replaced by an older one: size and time may be
the same, the content is not. Reading a file and digesting it takes a fiftieth of the time of decoding it, and a file is
not read again as long as all that the system says of it stays: besides size and time of change also its number (inode)
and the time when anything about it changed, which no program sets back. Where these change and the content does not
(a file is touched, copied, moved to another disk) the digest is the same, so nothing is done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.video import Video
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.files import whole_file
from vsscli.talk import SILENCE, Talk

INDEX = "digests.txt"
"""What the index is called in a workspace. It may be removed at any time: files are then read again."""

HEAD = "vss digests 1\n"

SETTLED = 2 * 10**9
"""Nanoseconds. A file that changed within them may change again and keep its times, which are no finer on some disks:
its digest holds for now and is not remembered."""

LARGEST = 2**28
"""Bytes that an index may have."""

ENTRIES = 10**6
"""Files that an index remembers at most; beyond that only those that were asked for last."""

DIGITS = 64
THREADS = 4
TOLD = 2**29
"""Bytes from which on reading is told of."""

Known = dict[str, tuple[str, str]]
"""State and digest of files, by their absolute paths."""


class Digests:
    """Digests of files, remembered between two runs in a small file, whose folder is never made for it; where there is
    none, nothing is remembered.

    As a context it writes what it has learned when it ends. May be asked from several threads.
    """

    def __init__(self, index: Path | None = None) -> None:
        self._index = index
        self._known = _read_index(index) if index is not None else {}
        self._asked: set[str] = set()
        self._learned = False

    def __enter__(self) -> Digests:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.save()

    def of(self, path: str | Path) -> str:
        """SHA-256 of a file's bytes, 64 hexadecimal digits."""
        place = os.path.abspath(path)
        try:
            status = os.stat(place)
            if not stat.S_ISREG(status.st_mode):
                raise VssError(f"{path} is no file", "check what lies there")
            known = self._remembered(place, _state(status))
            return known if known is not None else self._read(place)
        except OSError as error:
            raise VssError(f"{path} can't be read: {error.strerror or error}", "check that it is there") from error

    def of_all(self, paths: Iterable[str | Path], talk: Talk = SILENCE) -> list[str]:
        """The digests of many files, in their order; ``talk`` follows where there is much to read."""
        paths = list(paths)
        wanted = list(dict.fromkeys(map(str, paths)))
        unread = sum(map(self._unread, wanted))
        found: dict[str, str] = {}
        listener = talk if unread >= TOLD else SILENCE
        with listener.track("compare files", len(wanted), "file") as done, ThreadPoolExecutor(THREADS) as pool:
            for path, digest in zip(wanted, pool.map(self.of, wanted), strict=True):
                found[path] = digest
                done(1)
        return [found[str(path)] for path in paths]

    def known(self, paths: Iterable[Path | None], talk: Talk = SILENCE) -> dict[Path, str]:
        """The digests of those of some files that can be read; what is wrong with the others shows elsewhere."""
        there = [
            path for path in dict.fromkeys(paths) if path is not None and path.is_file() and os.access(path, os.R_OK)
        ]
        return dict(zip(there, self.of_all(there, talk), strict=True))

    def video(self, video: Video, talk: Talk = SILENCE) -> str:
        """What stands for the frames of a video: SHA-256 over the content of its files in their order; empty for one of
        no files."""
        found = self.frames(video, talk)
        return digest_of_frames(found) if found else ""

    def frames(self, video: Video, talk: Talk = SILENCE) -> list[str]:
        """What each frame of a video is made from: its file's content, and of a numbered frame of a video file its
        number too. Frames of a `FileVideo` have one digest in common."""
        digests = self.of_all(frame_files(video), talk)
        numbers = [frame.number for frame in video.frames] if isinstance(video, FolderVideo) else [None] * len(digests)
        return [numbered(digest, number) for digest, number in zip(digests, numbers, strict=True)]

    def split(self, videos: Sequence[FolderVideo], table: ClassTable, ids: MaskIds | None, talk: Talk = SILENCE) -> str:
        """What stands for the frames of a split: SHA-256 over the classes, the names of all frames and their content;
        where ``ids``, what their values mean, are given, of masks too."""
        frames = [frame for video in videos for frame in video.frames]
        parts = [() if ids is None or frame.mask is None else ids.parts(frame.mask) for frame in frames]
        known = self.known([*(frame.image for frame in frames), *(path for own in parts for path in own)], talk)
        meaning = None if ids is None else ids.to_dict()
        digest = hashlib.sha256(json.dumps([table.to_dict(), meaning], sort_keys=True).encode())
        for frame, own in zip(frames, parts, strict=True):
            image = "" if frame.image is None else numbered(known.get(frame.image, "?"), frame.number)
            line = " ".join((frame.address, image, *(known.get(path, "?") for path in own)))
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def save(self) -> None:
        """Write what was learned; where that can't be done, files are read again the next time."""
        if self._index is None or not self._learned or not self._index.parent.is_dir():
            return
        # Another process may have learned something since this one began.
        merged = _read_index(self._index) | self._known
        if len(merged) > ENTRIES:
            merged = {place: known for place, known in self._known.items() if place in self._asked}
        lines = (f"{digest} {state} {place}\n" for place, (state, digest) in merged.items() if "\n" not in place)
        with suppress(VssError), whole_file(self._index) as part:
            part.write_text("".join((HEAD, *lines)), encoding="utf-8", errors="surrogateescape")
            self._learned = False

    def _unread(self, path: str) -> int:
        """How many bytes must be read to know a file."""
        with suppress(OSError):
            status = os.stat(path)
            return 0 if self._remembered(os.path.abspath(path), _state(status)) is not None else status.st_size
        return 0

    def _remembered(self, place: str, state: str) -> str | None:
        self._asked.add(place)
        known = self._known.get(place)
        return known[1] if known is not None and known[0] == state else None

    def _read(self, place: str) -> str:
        now = time.time_ns()
        with open(place, "rb") as file:
            before = os.fstat(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(file.fileno())
        if _state(before) == _state(after) and max(after.st_mtime_ns, after.st_ctime_ns) < now - SETTLED:
            self._known[place] = _state(after), digest
            self._learned = True
        return digest


def numbered(digest: str, number: int | None) -> str:
    """What stands for a frame of a file: the file's digest, and if the file has several frames one with the number."""
    return digest if number is None else hashlib.sha256(f"{digest} {number}".encode()).hexdigest()


def digest_of_frames(digests: Sequence[str]) -> str:
    """One digest for those of a video's frames, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def frame_files(video: Video) -> list[Path]:
    """The files that the frames of a video are decoded from, one a frame; of a video file that file alone."""
    if isinstance(video, FileVideo):
        return [video.path]
    files: list[Path] = []
    if not isinstance(video, FolderVideo):
        return files
    for frame in video.frames:
        if frame.image is None:
            raise VssError(f"frame {frame.address} has a mask but no image", "add the image, or take the mask away")
        files.append(frame.image)
    return files


def _state(status: os.stat_result) -> str:
    """What changes with every way to change a file: size, time of change, time of any change about it, number."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_index(path: Path) -> Known:
    """What an index remembers; whatever else lies there is no index."""
    known: Known = {}
    with suppress(OSError), path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        if os.fstat(file.fileno()).st_size > LARGEST or file.readline() != HEAD:
            return known
        for line in file:
            digest, size, changed, touched, number, place = (*line.rstrip("\n").split(" ", 5), *[""] * 5)[:6]
            if len(digest) == DIGITS and place:
                known[place] = f"{size} {changed} {touched} {number}", digest
    return known
