"""Videos that two splits have in common, whatever their names.

Names are unreliable: a list may be a copy of another, a root may have no folders of splits, frames may be exported
twice or linked. So frames are compared as files, and by content if both splits have files of one size. A few frames of
each video, spread over it, are compared, since a repeated video has more than one of them in common.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from vsscli.data.content import Digests
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError

PROBES = 8
"""Number of frames of a video that are compared by content."""

TRIED = 16
"""Most files of one size that a frame is compared with."""


class Shared(NamedTuple):
    """A video of one split that is in the other, too, and its name there."""

    name: str
    other: str

    def __str__(self) -> str:
        return self.name if self.name == self.other else f"{self.name} (as {self.other})"


class _File(NamedTuple):
    video: str
    path: Path
    number: int | None
    place: tuple[int, int, int | None]
    size: int


def shared_videos(videos: Sequence[FolderVideo], others: Sequence[FolderVideo], digests: Digests) -> list[Shared]:
    """The videos with at least one frame that is also in ``others``, those of another split. Frames without an image,
    or with a file that can't be read, are ignored."""
    by_place: dict[tuple[int, int, int | None], _File] = {}
    by_size: dict[int, list[_File]] = {}
    for video in others:
        for file in _files(video):
            by_place.setdefault(file.place, file)
            by_size.setdefault(file.size, []).append(file)
    found = []
    for video in videos:
        other = _other(_files(video), by_place, by_size, digests)
        if other is not None:
            found.append(Shared(video.name, other))
    return found


def _other(
    files: Sequence[_File],
    by_place: dict[tuple[int, int, int | None], _File],
    by_size: dict[int, list[_File]],
    digests: Digests,
) -> str | None:
    """The other split's video that has one of some files, if any."""
    for file in files:
        if file.place in by_place:
            return by_place[file.place].video
    alike = [file for file in files if file.size in by_size]
    for number in sorted({round(i * (len(alike) - 1) / max(PROBES - 1, 1)) for i in range(PROBES)} if alike else ()):
        file = alike[number]
        with suppress(VssError):  # unreadable files are reported elsewhere
            for candidate in by_size[file.size][:TRIED]:
                if file.number == candidate.number and digests.of(file.path) == digests.of(candidate.path):
                    return candidate.video
    return None


def _files(video: FolderVideo) -> list[_File]:
    found = []
    for frame in video.frames:
        if frame.image is None:
            continue
        try:
            status = os.stat(frame.image)
        except OSError:
            continue
        place = (status.st_dev, status.st_ino, frame.number)
        found.append(_File(video.name, frame.image, frame.number, place, status.st_size))
    return found
