"""Which frame of a data set a source means, by what it calls it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from pathlib import PurePosixPath
from urllib.parse import unquote

from vsscli.data.folders import IMAGE_SUFFIXES, some
from vsscli.data.matching import NUMBER, FrameNames, called, frame_number
from vsscli.data.spelling import composed
from vsscli.exchange.items import Numbered, Size

UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file that was uploaded."""


@dataclass(frozen=True)
class Place:
    """A frame of the data set: its address, its size in pixels, its number if it is one of a video file, and the
    folders and name of its video, if it is called after these, and of a still."""

    video: str
    stem: str
    size: Size | None
    number: int | None = None
    path: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        """``<video>/<stem>``."""
        return f"{self.video}/{self.stem}"

    @property
    def is_still(self) -> bool:
        """Whether it is one of a folder of unrelated images."""
        return self.video == self.stem and bool(self.path)

    @property
    def ends(self) -> list[str]:
        """What the video may be called without the first of its folders: at least the last one and its name."""
        return [composed("_".join(self.path[start:])) for start in range(1, len(self.path) - 1)]


class Matcher:
    """The frames of a data set by all that others may call them.

    In this order: ``<video>/<stem>`` (the end of a longer path), ``<video>_<stem>`` or ``<video>-<stem>``, a stem that
    is one frame's alone, and the number of a frame in a video, however it is padded and whatever letters stand before.
    Folders name a video joined by ``_``, too; the longest end of a path that is a video counts. A whole path may lack
    the first folders of what one video or still is called after: ``day1/cam`` is ``clips_day1_cam``.
    The first of these that fits counts; where it fits several frames, there is no match. A name in the folder of a
    video, or of stills, never means a frame of another one whose stem it happens to have.

    Parameters
    ----------
    places
        All frames of the data set, those of a video in order.
    first
        The number that others give the first frame of a video file.
    """

    def __init__(self, places: Iterable[Place], first: int = 0) -> None:
        self._frames: dict[str, list[Place]] = defaultdict(list)
        self._joined: dict[str, list[Place]] = defaultdict(list)
        self._stems: dict[str, list[Place]] = defaultdict(list)
        for place in places:
            video, stem = composed(place.video), composed(called(place.stem, place.number, first))
            self._frames[video].append(place)
            for joined in (f"{video}_{stem}", f"{video}-{stem}"):
                self._joined[joined].append(place)
            self._stems[stem].append(place)
        self._videos = {
            video: FrameNames((called(place.stem, place.number, first), place) for place in frames)
            for video, frames in self._frames.items()
        }
        self._ends: dict[str, list[str]] = defaultdict(list)
        for video, frames in self._frames.items():
            for end in frames[0].ends:
                self._ends[end].append(video)
        self._stills = {frames[0].path[:-1] for frames in self._frames.values() if frames[0].is_still}

    def at(self, numbered: Numbered) -> Place | None:
        """The frame with a number in the first of some videos that there is; in the only video, if none is named."""
        only = list(self._frames) if len(self._frames) == 1 else []
        there = [video for video in map(composed, numbered.videos or only) if video in self._frames]
        frames = self._frames[there[0]] if there else []
        return frames[numbered.number] if 0 <= numbered.number < len(frames) else None

    def find(self, name: str) -> Place | None:
        """The frame that a name means, if it is one frame's."""
        *folders, last = _path(name).split("/")
        # A video that is not the only one of its name is called after its path: day1/cam.mp4 is day1_cam.
        paths = [mark.join(folders[depth:]) for depth in range(len(folders)) for mark in "/_"]
        paths += self._ending("_".join(folders))
        videos = [path for path in dict.fromkeys(paths) if path in self._videos]
        for video in videos:
            if (place := self._videos[video].named(last)) is not None:
                return place
            first = self._frames[video][0]
            if first.is_still and last == composed(first.path[-1]):  # day1_001/001.jpg, as vss writes it
                return first
        ends = ["_".join([*folders[depth:], last]) for depth in range(len(folders) + 1)]
        stills = [end for end in ends[:-1] if end in self._videos]  # day1/001.jpg may be day1_001
        stills += [] if videos else ends[-1:]
        for known, stems in ((self._joined, ends), (self._stems, stills)):
            for stem in (*stems, *(UPLOADED.sub("", stem, 1) for stem in stems[-1:])):
                if stem in known and not (known is self._stems and self._beside(folders, known[stem][0])):
                    return known[stem][0] if len(known[stem]) == 1 else None
        for still in self._ending(ends[0]):
            place = self._videos[still].named(still)
            if place is not None:
                return place
        for video_name in self._named_videos(folders, last):
            place = self._videos[video_name].numbered(last)
            if place is not None:
                return place
        return None

    def _named_videos(self, folders: list[str], last: str) -> list[str]:
        """The videos that a frame's name may name: by its folder, by the text before its number, or as the only one."""
        numbered = NUMBER.match(last)
        before = "" if numbered is None else UPLOADED.sub("", numbered["before"], 1).rstrip("_-. ")
        names = ["_".join(folders[depth:]) for depth in range(len(folders))]
        names += ["_".join([*folders[depth:], before]) for depth in range(len(folders) + 1)]
        names += [*self._ending("_".join(folders)), *self._ending("_".join([*folders, before]))]
        if len(self._videos) == 1 and not folders:
            names += self._videos
        return [name for name in names if name in self._videos]

    def _beside(self, folders: list[str], place: Place) -> bool:
        """Whether folders are rather those of other stills than those of a place."""
        return _shared(folders, place.path[:-1]) < max((_shared(folders, stills) for stills in self._stills), default=0)

    def _ending(self, path: str) -> list[str]:
        """The video whose name ends with a path, if it is the only one."""
        videos = self._ends.get(path, [])
        return videos if len(videos) == 1 else []


def is_elsewhere(name: str, place: Place) -> bool:
    """Whether a name that was found as a frame is in a folder, and names the frame's video nowhere: the folder may be
    that of another video, whose frames only have the same stems."""
    path, video = _path(name), composed(place.video).replace("/", "_")
    names = "|".join((rf"(?<![^\W_]){re.escape(video)}", *(f"^{re.escape(end)}" for end in place.ends)))
    named = re.search(rf"({names})(?=\d*$|[\W_])", path.replace("/", "_"))
    return "/" in path and named is None and not name.startswith("/data/upload/")


def elsewhere_warning(found: Sequence[tuple[str, str]]) -> str:
    """What to say of names that `is_elsewhere` is true of, each with the address it was found as."""
    name, address = found[0]
    frames = "1 frame is" if len(found) == 1 else f"{len(found)} frames are"
    return (
        f"{frames} found by stems alone, in folders that are no videos here, such as {name!r} as {address}: wrong if "
        "the folder is another video's"
    )


def skips_numbers(stems: Sequence[str]) -> bool:
    """Whether the names of a video's frames skip numbers: then a frame's place in the video is not its number."""
    numbers = [number for stem in stems if (number := frame_number(stem)) is not None]
    return len(numbers) == len(stems) and any(after != before + 1 for before, after in pairwise(numbers))


def skipping_warning(videos: Sequence[str]) -> str:
    """What to say of videos that `skips_numbers` where frames go by number."""
    return (
        f"the names of frames of {some(videos)} skip numbers, and a task's frame N is taken to be the one at place N "
        "here, from 0: right if the task's video has these frames alone, wrong if it has those between them"
    )


def _shared(folders: Sequence[str], others: Sequence[str]) -> int:
    """How many folders are the same, from the last one on."""
    pairs = zip(reversed(folders), reversed(others), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == composed(pair[1]), pairs))


def _path(name: str) -> str:
    """A name without what leads to it on a server, without an image's suffix, in its composed form."""
    if "://" in name or name.startswith("/data/"):  # of Label Studio's local files, the path is behind ?d=
        name = unquote(name.partition("?d=")[2] or name.partition("?")[0])
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    bare = name[: -len(path.suffix)] if path.suffix.lower() in IMAGE_SUFFIXES else name
    return composed("/".join(part for part in bare.split("/") if part not in ("", ".")))
