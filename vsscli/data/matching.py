"""Which mask belongs to which frame, by a pattern of the masks' names: ``labels/{video}/{frame}.png``.

``{video}`` is the name of a video and ``{frame}`` that of a frame. A mask's frame may have other text before its number
and other padding: in a video with frames from ``000000`` on, ``frame_12`` is frame ``000012``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from vsscli.data.folders import MASK_SUFFIX, some
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import folders_below, visible
from vsscli.errors import VssError

VIDEO, FRAME = "{video}", "{frame}"
NUMBER = re.compile(r"(?P<before>.*?)(?<![0-9])(?P<number>[0-9]{1,18})(?![0-9])[^0-9]*$")
"""The last number of a name."""

T = TypeVar("T")


class FrameNames(Generic[T]):
    """The frames of one video, by their names or by the last number of these.

    Parameters
    ----------
    frames
        The name of each frame, and what it is found as.
    """

    def __init__(self, frames: Iterable[tuple[str, T]]) -> None:
        self._by_stem = {composed(stem): frame for stem, frame in frames}
        numbers = [(n, frame) for stem, frame in self._by_stem.items() if (n := frame_number(stem)) is not None]
        self._by_number = dict(numbers)
        if len(self._by_number) < len(numbers):  # two frames have one number, so numbers are ambiguous
            self._by_number = {}

    def named(self, name: str) -> T | None:
        """The frame of this name, in its composed form."""
        return self._by_stem.get(name)

    def numbered(self, name: str) -> T | None:
        """The frame with the last number of a name, whatever its padding and the text around it."""
        number = frame_number(name)
        return None if number is None else self._by_number.get(number)


def called(stem: str, number: int | None, first: int) -> str:
    """The name by which others call a frame: its own, or for frame ``number`` of a video file, if they give its first
    frame the number ``first``, that number."""
    return stem if number is None or not first else f"{number + first:06d}"


def with_masks(videos: Sequence[FolderVideo], root: Path, pattern: str, first: int = 0) -> list[FolderVideo]:
    """Give frames their masks.

    Parameters
    ----------
    videos
        All videos whose masks may be found.
    root, pattern
        Masks are below ``root`` and match ``pattern``.
    first
        The number of the first frame of a video file.

    Raises
    ------
    VssError
        A mask belongs to no frame or to frames of two videos, or two masks belong to one frame.
    """
    found: dict[str, Path] = {}
    strays: list[Path] = []
    finders = [_Finder(video, pattern, first) for video in videos]
    images = {frame.image for video in videos for frame in video.frames}
    for path in _masks(root, pattern):
        below = path.relative_to(root).as_posix()
        frames = [frame for finder in finders if (frame := finder.frame_of(below)) is not None]
        if path in images and not any(finder.may_hold(below) for finder in finders):
            continue  # frames may be PNGs above or beside the folders of masks: clips/{video}/mask/{frame}.png
        if len(frames) > 1:
            raise VssError(
                f"mask {path} may belong to {frames[0].address} and to {frames[1].address} (data.masks {pattern})",
                "put the masks of each video into a separate folder: labels/{video}/{frame}.png",
            )
        if not frames:
            strays.append(path)
            continue
        other = found.setdefault(frames[0].address, path)
        if other != path:
            raise VssError(f"{other} and {path} are two masks of frame {frames[0].address}", "keep one of them")
    if strays:
        raise VssError(*_strays(strays, videos, root, pattern))
    return [FolderVideo(v.name, tuple(replace(f, mask=found.get(f.address, f.mask)) for f in v.frames)) for v in videos]


def mask_folder(pattern: str) -> str:
    """The folder above all masks of a pattern, relative to the root; empty for the root itself."""
    return pattern.partition("{")[0].rpartition("/")[0]


def frame_number(name: str) -> int | None:
    """The last number of a frame's name; `None` if it has none."""
    match = NUMBER.match(name)
    return None if match is None else int(match["number"])


class _Finder:
    """Finds the frames of one video by the names of masks."""

    def __init__(self, video: FolderVideo, pattern: str, first: int) -> None:
        before, _, after = composed(pattern.replace(VIDEO, video.name)).partition(FRAME)
        self._name = re.compile(f"{re.escape(before)}(?P<frame>[^/]+){re.escape(after)}")
        self._folder = before[: before.rfind("/") + 1]
        self._named = VIDEO in pattern
        self._frames = FrameNames((called(frame.stem, frame.number, first), frame) for frame in video.frames)

    def may_hold(self, below: str) -> bool:
        """Whether a file lies in the folder of the video's masks, or below it."""
        return composed(below).startswith(self._folder)

    def frame_of(self, below: str) -> Frame | None:
        match = self._name.fullmatch(composed(below))
        if match is None:
            return None
        frame = self._frames.named(match["frame"])
        return self._frames.numbered(match["frame"]) if frame is None and self._named else frame


def _masks(root: Path, pattern: str) -> Iterator[Path]:
    top = root / mask_folder(pattern)
    if not top.is_dir():
        return
    for below in folders_below(top).there:
        for path in visible(top / below):
            if path.suffix.lower() == MASK_SUFFIX and path.is_file():
                yield path


def _strays(strays: Sequence[Path], videos: Sequence[FolderVideo], root: Path, pattern: str) -> tuple[str, str]:
    """The error for masks that belong to no frame."""
    names = some([path.relative_to(root).as_posix() for path in strays])
    known = ", ".join(f"{v.name} ({v.stems[0]} to {v.stems[-1]})" for v in videos[:3])
    more = f" and {len(videos) - 3} more" if len(videos) > 3 else ""
    counted = any(
        frame_number(path.stem) == len(v.frames) and v.frames[0].number == 0 for path in strays for v in videos
    )
    more += "; if the masks count frames from 1, set data.first_frame: 1" if counted else ""
    belong = "mask belongs" if len(strays) == 1 else "masks belong"
    return (
        f"by data.masks {pattern}, {len(strays)} {belong} to no frame: {names}",
        f"the videos are {known}{more}; rename the masks, change data.masks, or move them to another folder and let "
        "`vss import FOLDER` find their frames",
    )
