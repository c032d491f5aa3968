"""Digests of files: a frame or a mask is identified by its content, not by its name, size and time.

If a frame is exported again, a mask corrected in place, or a file replaced by an older one, size and time may be the
same, but the content is not. Reading a file and computing its digest takes a fiftieth of the time of decoding it, and a
file is not read again while its status is unchanged: size, modification time, inode, and the time of the last status
change, which no program can set back. If these change and the content does not (a file is touched, copied, or moved to
another disk), the digest is the same, so nothing is done again.
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

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.video import Video
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.files import whole_file
from vsscli.talk import SILENCE, Talk

INDEX = "digests.txt"
"""Name of the index in a workspace. It may be removed at any time: files are then read again."""

HEAD = "vss digests 1\n"

SETTLED = 2 * 10**9
"""Nanoseconds. Since some file systems store times no finer than this, a file changed more recently may change again
without a new time; its digest is not remembered."""

LARGEST = 2**28
"""Most bytes of an index."""

ENTRIES = 10**6
"""Most files in an index; beyond that, only those requested in this run are kept."""

SELDOM = 20
"""A process that works on few videos at a time spends at most one part in so many of its time on writing the index.
What it learned last may be lost: those files are read again by the next run."""

DIGITS = 64
THREADS = 4
REPORTED = 2**29
"""Progress is reported when at least this many bytes are to be read."""

Known = dict[str, tuple[str, str]]
"""State and digest of files by their absolute paths."""


class Digests:
    """Digests of files, remembered between runs in a small file. Its folder is not created: if it does not exist,
    nothing is remembered.

    As a context manager it writes new digests at its end; if it is used again and again, as seldom as `SELDOM` says. It
    may be used from several threads.
    """

    def __init__(self, index: Path | None = None) -> None:
        self._index = index
        self._known = _read_index(index) if index is not None else {}
        self._asked: set[str] = set()
        self._learned = False
        self._next = 0.0

    def __enter__(self) -> Digests:
        return self

    def __exit__(self, *error: object) -> None:
        began = time.monotonic()
        if began >= self._next:
            self.save()
            self._next = began + SELDOM * (time.monotonic() - began)

    def of(self, path: str | Path) -> str:
        """SHA-256 of a file's bytes, 64 hexadecimal digits."""
        place = os.path.abspath(path)
        try:
            status = os.stat(place)
            if not stat.S_ISREG(status.st_mode):
                raise VssError(f"{path} is not a file", "check the path")
            known = self._remembered(place, _state(status))
            return known if known is not None else self._read(place)
        except OSError as error:
            raise VssError(f"{path} can't be read: {error.strerror or error}", "check that it exists") from error

    def of_all(self, paths: Iterable[str | Path], talk: Talk = SILENCE) -> list[str]:
        """The digests of many files, in order; ``talk`` is called with the progress if there is much to read."""
        paths = list(paths)
        wanted = list(dict.fromkeys(map(str, paths)))
        unread = sum(map(self._unread, wanted))
        found: dict[str, str] = {}
        listener = talk if unread >= REPORTED else SILENCE
        with listener.track("compare files", len(wanted), "file") as done, ThreadPoolExecutor(THREADS) as pool:
            for path, digest in zip(wanted, pool.map(self.of, wanted), strict=True):
                found[path] = digest
                done(1)
        return [found[str(path)] for path in paths]

    def known(self, paths: Iterable[Path | None], talk: Talk = SILENCE) -> dict[Path, str]:
        """The digests of those files that can be read; faults of the others are reported elsewhere."""
        readable = [
            path for path in dict.fromkeys(paths) if path is not None and path.is_file() and os.access(path, os.R_OK)
        ]
        return dict(zip(readable, self.of_all(readable, talk), strict=True))

    def video(self, video: Video, talk: Talk = SILENCE) -> str:
        """Digest of a video's frames: SHA-256 over the digests of its files, in order; empty if it has no files."""
        found = self.frames(video, talk)
        return digest_of_frames(found) if found else ""

    def frames(self, video: Video, talk: Talk = SILENCE) -> list[str]:
        """Digest of each frame of a video: that of its file, combined with the number if it is a numbered frame of a
        video file. Frames of a `FileVideo` have one digest in common."""
        digests = self.of_all(frame_files(video), talk)
        numbers = [frame.number for frame in video.frames] if isinstance(video, FolderVideo) else [None] * len(digests)
        return [numbered(digest, number) for digest, number in zip(digests, numbers, strict=True)]

    def split(self, videos: Sequence[FolderVideo], table: ClassTable, ids: MaskIds | None, talk: Talk = SILENCE) -> str:
        """Digest of a split: SHA-256 over the classes and the names and contents of all frames; with ``ids``, also over
        the masks and what their values, and former names of classes in them, mean."""
        frames = [frame for video in videos for frame in video.frames]
        parts = [() if ids is None or frame.mask is None else ids.parts(frame.mask) for frame in frames]
        known = self.known([*(frame.image for frame in frames), *(path for own in parts for path in own)], talk)
        meaning = [table.to_dict(), None if ids is None else ids.to_dict()]
        meaning += [dict(table.former)] if ids is not None and table.former else []
        digest = hashlib.sha256(json.dumps(meaning, sort_keys=True).encode())
        for frame, own in zip(frames, parts, strict=True):
            image = "" if frame.image is None else numbered(known.get(frame.image, "?"), frame.number)
            line = " ".join((frame.address, image, *(known.get(path, "?") for path in own)))
            digest.update(f"{line}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()

    def save(self) -> None:
        """Write the index; if that fails, files are read again by the next run."""
        if self._index is None or not self._learned or not self._index.parent.is_dir():
            return
        # Another process may have added to it since this one began.
        merged = _read_index(self._index) | self._known
        if len(merged) > ENTRIES:
            merged = {place: known for place, known in self._known.items() if place in self._asked}
        lines = (f"{digest} {state} {place}\n" for place, (state, digest) in merged.items() if "\n" not in place)
        with suppress(VssError), whole_file(self._index) as part:
            part.write_text("".join((HEAD, *lines)), encoding="utf-8", errors="surrogateescape")
            self._learned = False

    def _unread(self, path: str) -> int:
        """How many bytes must be read for a file's digest."""
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
    """One digest over those of a video's frames, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def frame_files(video: Video) -> list[Path]:
    """The files that a video's frames are decoded from, one for each frame; for a video file that file alone."""
    if isinstance(video, FileVideo):
        return [video.path]
    files: list[Path] = []
    if not isinstance(video, FolderVideo):
        return files
    for frame in video.frames:
        if frame.image is None:
            raise VssError(f"frame {frame.address} has a mask but no image", "add the image, or remove the mask")
        files.append(frame.image)
    return files


def _state(status: os.stat_result) -> str:
    """Status that changes with any change of a file: size, modification time, status change time, inode."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _read_index(path: Path) -> Known:
    """The entries of an index; empty if the file is not an index."""
    known: Known = {}
    with suppress(OSError), path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
        if os.fstat(file.fileno()).st_size > LARGEST or file.readline() != HEAD:
            return known
        for line in file:
            digest, size, changed, touched, number, place = (*line.rstrip("\n").split(" ", 5), *[""] * 5)[:6]
            if len(digest) == DIGITS and place:
                known[place] = f"{size} {changed} {touched} {number}", digest
    return known
