"""Videos that two splits have in common, whatever they are called in each.

Names tell little: a list copied from another, a root without folders of splits, frames exported twice, links. So frames
are compared as files, and by content where files of one size are in both splits; of each video a few frames, spread
over it, since whoever repeats a video repeats more than one of them.
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
"""Frames of a video that are compared by content."""

TRIED = 16
"""Files of one size that a frame is compared with at most."""


class Shared(NamedTuple):
    """A video of one split that is in the other as well: what it is called there."""

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
    """The videos of which at least one frame is among those of others, of another split, too. Frames without an image,
    or whose file can't be looked at, count for nothing."""
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
    """The video that one of some files is in too."""
    for file in files:
        if file.place in by_place:
            return by_place[file.place].video
    alike = [file for file in files if file.size in by_size]
    for number in sorted({round(i * (len(alike) - 1) / max(PROBES - 1, 1)) for i in range(PROBES)} if alike else ()):
        file = alike[number]
        with suppress(VssError):  # what can't be read is told of elsewhere
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
