"""Videos and masks anywhere below a folder: the layout ``files``.

A video is a video file or a folder of frames; a still is one of a folder of unrelated images, and a video of one frame.
Masks are found by a pattern of their names (`data.matching`). Held-out frames are the split to evaluate on, all others
the split to train on.
"""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vsscli.data.config import Data
from vsscli.data.folders import IMAGE_SUFFIXES, by_stem, some
from vsscli.data.inputs import open_videos
from vsscli.data.matching import with_masks
from vsscli.data.numbering import in_time
from vsscli.data.spelling import composed
from vsscli.data.video import Video
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

ALL = "all"
"""Name of the split of all frames."""

HELD_OUT = re.compile(r"(?P<video>[^/]+)(?:/(?P<first>[^/]+?)(?:\.\.(?P<last>[^/]+))?)?")
"""An entry of ``data.held_out``: a video, one of its frames, or frames from one to another."""


def read_clips(data: Data, root: Path, split: str) -> list[FolderVideo]:
    """The videos of a split in layout ``files``.

    Parameters
    ----------
    data, root
        The recipe's section, and the data set's folder.
    split
        ``all``, or one of the recipe's splits to train or evaluate on.

    Returns
    -------
    list of FolderVideo
        Videos in the order of their paths, then stills; with masks, if the recipe has a pattern.

    Raises
    ------
    VssError
        There are no videos, a pattern matches none, a mask belongs to no frame or to two, or a held-out frame is
        missing.
    """
    videos = [_by_frame(video) for video in _videos(root, data.videos)] if data.videos else []
    videos += _stills(root, data.stills, [video.name for video in videos])
    often = Counter(composed(video.name) for video in videos)
    twice = sorted({video.name for video in videos if often[composed(video.name)] > 1})
    if twice:
        raise VssError(f"{data.name}: there are two videos named {some(twice)} below {root}", "rename one of them")
    if data.masks is not None:
        videos = with_masks(videos, root, data.masks, data.first_frame)
    if split == ALL:
        return videos
    if split not in (data.val, *data.train_splits):
        raise VssError(
            f"{data.name} has no split {split!r}: layout files has {', '.join((*data.train_splits, data.val, ALL))}",
            "name one of these",
        )
    held = _held_out(data, videos)
    keep_held = split == data.val and split not in data.train_splits
    kept = [
        (video.name, tuple(frame for frame in video.frames if (frame.address in held) == keep_held)) for video in videos
    ]
    found = [FolderVideo(name, frames) for name, frames in kept if frames]
    if not found:
        what = "nothing is held out (data.held_out)" if keep_held else "everything is held out (data.held_out)"
        raise VssError(
            f"{data.name}: split {split!r} is empty: {what}",
            "let `vss init` choose what is held out, or list videos or ranges of frames, such as clip1/000100..000199",
        )
    return found


def _videos(root: Path, patterns: Sequence[str]) -> list[Video]:
    """The videos in the files and folders that match patterns, without repetitions, in the order of the patterns. What
    is called like a pattern is meant itself: the folder ``day [1]``. Images mean the video that they are frames of."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        whole = (root / pattern).exists()
        matches = [pattern] if whole else sorted(glob.glob(pattern, root_dir=root, recursive=True))
        if not matches:
            raise VssError(f"data.videos: nothing in {root} matches {pattern}", "give files, folders, or patterns")
        found |= dict.fromkeys(root / place for place in matches)
    places, alone = dict[Path, None](), set[Path]()
    for path in found:
        is_image = path.suffix.lower() in IMAGE_SUFFIXES and (path.parent in alone or path.is_file())
        alone |= {path.parent} if is_image else set()
        places[path.parent if is_image else path] = None
    return open_videos(root, list(places), alone)


def _by_frame(video: Video) -> FolderVideo:
    """A video whose frames are known one by one."""
    if isinstance(video, FileVideo):
        frames = (Frame(video.name, stem, video.path, None, number) for number, stem in enumerate(video.stems))
        return FolderVideo(video.name, tuple(frames))
    assert isinstance(video, FolderVideo)
    return video


def _stills(root: Path, folders: Sequence[str], videos: Iterable[str]) -> list[FolderVideo]:
    """The images of folders of stills. One that shares its name with others, or with a video, is called after its path,
    as a video is: ``day1/001.jpg`` is ``day1_001``."""
    found: list[tuple[tuple[str, ...], Path]] = []
    for folder in folders:
        if not (root / folder).is_dir():
            what = f"data.stills: there is no folder {root / folder}"
            raise VssError(what, "give folders of images that are not videos")
        images = by_stem(root / folder, IMAGE_SUFFIXES)
        below = Path(os.path.relpath(root / folder, root)).parts  # as an absolute path would be no name
        found += [(below, images[stem]) for stem in in_time(images)]
    often = Counter(map(composed, [*videos, *(image.stem for _, image in found)]))
    names = [
        "_".join((*parts, image.stem)) if often[composed(image.stem)] > 1 else image.stem for parts, image in found
    ]
    return [FolderVideo(name, (Frame(name, name, image),)) for name, (_, image) in zip(names, found, strict=True)]


def _held_out(data: Data, videos: Sequence[FolderVideo]) -> frozenset[str]:
    """Addresses of the held-out frames."""
    by_name = {composed(video.name): video for video in videos}
    held: set[str] = set()
    for entry in data.held_out:
        match = HELD_OUT.fullmatch(entry)
        video = None if match is None else by_name.get(composed(match["video"]))
        if match is None or video is None:
            raise VssError(
                f"{data.name}: data.held_out has {entry!r}, and there is no such video",
                f"the videos are {some([video.name for video in videos])}; `vss init` chooses again",
            )
        held.update(frame.address for frame in _range(data, entry, video, match["first"], match["last"]))
    return frozenset(held)


def _range(data: Data, entry: str, video: FolderVideo, first: str | None, last: str | None) -> Iterable[Frame]:
    if first is None:
        return video.frames
    places = {composed(stem): number for number, stem in enumerate(video.stems)}
    start, end = places.get(composed(first)), places.get(composed(last if last is not None else first))
    if start is None or end is None or end < start:
        raise VssError(
            f"{data.name}: data.held_out has {entry!r}, but the frames of {video.name} are {video.stems[0]} to "
            f"{video.stems[-1]}",
            "give a frame, or the first and last of a range: clip1/000100..000199",
        )
    return video.frames[start : end + 1]
