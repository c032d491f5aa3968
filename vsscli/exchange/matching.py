"""Which frame of a data set a source means, by what it calls it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from vsscli.data.folders import IMAGE_SUFFIXES
from vsscli.data.spelling import composed
from vsscli.exchange.items import Size

UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the name of a file that was uploaded."""

NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)$")


@dataclass(frozen=True)
class Place:
    """A frame of the data set: its address, and its size in pixels."""

    video: str
    stem: str
    size: Size | None

    @property
    def address(self) -> str:
        """``<video>/<stem>``."""
        return f"{self.video}/{self.stem}"


class Matcher:
    """The frames of a data set by all that others may call them.

    In this order: ``<video>/<stem>`` (the end of a longer path), ``<video>_<stem>`` or ``<video>-<stem>``, a stem that
    is one frame's alone, and the number of a frame in a video, however it is padded and whatever letters stand before.
    The first of these that fits counts; where it fits several frames, there is no match.
    """

    def __init__(self, places: Iterable[Place]) -> None:
        self._ways: tuple[dict[str, list[Place]], ...] = ({}, {}, {}, {})
        self._videos: set[str] = set()
        for place in places:
            self._videos.add(composed(place.video))
            video, stem = composed(place.video), composed(place.stem)
            keys = [[f"{video}/{stem}"], [f"{video}_{stem}", f"{video}-{stem}"], [stem], []]
            numbered = NUMBERED.match(stem)
            if numbered:
                keys[3] = [f"{video}/{int(numbered['number'])}"]
            for way, names in zip(self._ways, keys, strict=True):
                for name in names:
                    way.setdefault(name, []).append(place)

    def find(self, name: str) -> Place | None:
        """The frame that a name means, if it is one frame's."""
        path = _path(name)
        parts = path.split("/")
        last = parts[-1]
        for way, key in (
            *((0, "/".join(parts[-depth:])) for depth in range(len(parts), 1, -1)),
            (1, last),
            (1, UPLOADED.sub("", last, 1)),
            (2, last),
            (2, UPLOADED.sub("", last, 1)),
            *((3, key) for key in self._numbers(parts)),
        ):
            found = self._ways[way].get(key)
            if found:
                return found[0] if len(found) == 1 else None
        return None

    def _numbers(self, parts: list[str]) -> list[str]:
        """Video and number as far as a name says them: by its folder, by what stands before the number, or alone."""
        numbered = NUMBERED.match(parts[-1])
        if numbered is None or len(numbered["number"]) > 18:
            return []
        number = int(numbered["number"])
        before = UPLOADED.sub("", numbered["before"], 1).rstrip("_-. ")
        video = parts[-2] if len(parts) > 1 else None
        names = [video] if video in self._videos else []
        names += [before] if before in self._videos else []
        if len(self._videos) == 1 and video is None:
            names += [*self._videos]
        return [f"{name}/{number}" for name in names]


def _path(name: str) -> str:
    """A name without what leads to it on a server, without an image's suffix, in its composed form."""
    if "://" in name or name.startswith("/data/"):  # of Label Studio's local files, the path is behind ?d=
        name = unquote(name.partition("?d=")[2] or name.partition("?")[0])
    name = name.replace("\\", "/")
    path = PurePosixPath(name)
    bare = name[: -len(path.suffix)] if path.suffix.lower() in IMAGE_SUFFIXES else name
    return composed("/".join(part for part in bare.split("/") if part not in ("", ".")))
