"""Videos in files and folders that do not follow a data set's layout.

Every folder that holds images is a video, and so is every video file, at any depth.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vsscli.data.folders import IMAGE_SUFFIXES, has_images, image_folder, read_video_folder, some
from vsscli.data.numbering import say_order
from vsscli.data.spelling import composed
from vsscli.data.trees import SPLIT, TREES, guess_images
from vsscli.data.video import VIDEO_SUFFIXES, Video
from vsscli.data.videofile import FileVideo
from vsscli.data.walk import folders_below, kinds, visible
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk

NOTES = frozenset({".txt", ".json", ".yaml", ".yml", ".xml", ".csv", ".tsv", ".md", ".html", ".pdf", ".log", ".srt"})
"""These are not expected to be frames, so leaving them out is not worth a warning."""


@dataclass
class _Found:
    """The content of an input, by paths relative to it: folders of images and video files; names of other files; links
    to what is already read; the number of a data set's folders whose images are not frames."""

    videos: list[Path] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    again: list[Path] = field(default_factory=list)
    beside: int = 0


def open_input(path: str | Path, talk: Talk = SILENCE) -> list[Video]:
    """Open videos that do not follow a data set's layout.

    Parameters
    ----------
    path
        A video file, a folder of images, a folder with such folders and video files at any depth, or anything in
        VSPW's layout.
    talk
        Called with what was left out, and with names that differ from those of folders and files.

    Returns
    -------
    list of Video
        In the order of their paths, each named after its folder or file. Those that would share a name are named after
        all folders from the input down, ``day1_cam`` and ``day2_cam``; a file's suffix is added if a folder has the
        same name.

    Raises
    ------
    VssError
        The input does not exist, holds no frames, or has two videos that share a name even so.
    """
    place = Path(os.path.expanduser(path))
    if place.is_file():
        if place.suffix.lower() in IMAGE_SUFFIXES:
            raise VssError(f"{place} is a single image", "give its folder, or a video file")
        return [FileVideo(place)]
    if not place.is_dir():
        raise VssError(f"input {place} does not exist", "give a video file or a folder of images")
    found = _look(place)
    if not found.videos:
        left = f"; it holds {kinds(found.others)}" if found.others else ""
        raise VssError(
            f"input {place} holds neither images ({', '.join(sorted(IMAGE_SUFFIXES))}) nor folders of them nor "
            f"videos{left}",
            "give a video file, a folder of images, or a folder of such folders",
        )
    names = _names(place, found.videos)
    _report(place, found, names, talk)
    videos = [_open(place / below, name) for below, name in zip(found.videos, names, strict=True)]
    say_order(videos, talk)
    return videos


def open_inputs(paths: Sequence[Path], talk: Talk = SILENCE) -> list[Video]:
    """Open the videos of one input or several, each as `open_input` takes it.

    Videos of several inputs that would share a name are told apart by the folders from the common one down.

    Raises
    ------
    VssError
        As `open_input` and `open_videos`.
    """
    if len(paths) == 1:
        return open_input(paths[0], talk)
    absolute = [Path(os.path.expanduser(path)).absolute() for path in paths]
    videos = open_videos(Path(os.path.commonpath([path.parent for path in absolute])), absolute)
    say_order(videos, talk)
    return videos


def expanded(places: Sequence[str | Path]) -> list[Path]:
    """Paths in which patterns such as ``clips/*.mp4`` are replaced by what they match.

    Raises
    ------
    VssError
        A pattern matches nothing, or there is no path.
    """
    found: list[Path] = []
    for place in places:
        path = Path(os.path.expanduser(place))
        matches = [path] if path.exists() or not glob.has_magic(str(path)) else map(Path, sorted(glob.glob(str(path))))
        more = list(matches)
        if not more:
            raise VssError(f"input {place} matches nothing", "give video files, folders of images, or patterns of them")
        found += more
    if not found:
        raise VssError("no input is named", "give video files, folders of images, or patterns of them")
    return found


def open_videos(root: Path, places: Sequence[Path], alone: Collection[Path] = ()) -> list[Video]:
    """Open the videos of several files and folders, which are called as `open_input` calls those of ``root``.

    Parameters
    ----------
    root
        The folder from which down videos of one name are told apart.
    places
        Video files, folders of images, and folders that hold such at any depth.
    alone
        Those of them that are folders of images in which no other folder is searched.

    Raises
    ------
    VssError
        A place holds no video, or two videos have one name even so.
    """
    found: dict[Path, None] = {}
    for place in places:
        if not place.is_dir():
            open_input(place)  # refuses what is no video
        here = [Path()] if place.is_file() or place in alone else _look(place).videos
        if not here:
            raise VssError(f"{place} holds neither images nor videos", "name folders of images and video files")
        found |= dict.fromkeys(Path(os.path.relpath(place / below, root)) for below in here)
    videos = list(found)
    return [_open(root / below, name) for below, name in zip(videos, _names(root, videos), strict=True)]


def _look(place: Path) -> _Found:
    """Search all folders below one."""
    folders = folders_below(place)
    found = _Found(again=list(folders.again))
    chosen = _only_frames(place)
    for here in folders.there:
        folder = place / here
        if not chosen(here):
            found.beside += has_images(folder)
            continue
        frames = image_folder(folder)
        part_of_video = here.name in ("origin", "mask") and here.parts and _is_video(folder.parent)
        if not part_of_video and has_images(folder):
            found.videos.append(here)
        for child in visible(folder):
            suffix = child.suffix.lower()
            if suffix in VIDEO_SUFFIXES and child.is_file():
                found.videos.append(here / child.name)
            elif not (part_of_video and here.name == "mask") and (suffix not in IMAGE_SUFFIXES or frames != folder):
                found.others += [child.name] if child.is_file() else []
    _drop_links(place, found)
    found.videos.sort(key=lambda below: below.parts)
    return found


def _only_frames(place: Path) -> Callable[[Path], bool]:
    """Which folders below an input are searched: in a data set those of its frames, otherwise all."""
    data = place / "data"
    if data.is_dir() and any((child / "origin").is_dir() for child in visible(data)):
        return lambda here: here.parts[:1] == ("data",)
    layout = guess_images(place)
    if layout is None:
        return lambda here: True
    masks = tuple(template.partition(SPLIT)[0] for template in TREES[layout].masks)
    return lambda here: not f"{here.as_posix()}/".startswith(masks)


def _is_video(folder: Path) -> bool:
    """Whether a folder's ``origin`` and ``mask`` are parts of one video."""
    return (folder / "origin").is_dir() or has_images(folder)


def _drop_links(place: Path, found: _Found) -> None:
    """Remove links to video files that are already read."""
    seen = {(place / below).resolve() for below in found.videos if not (place / below).is_symlink()}
    for below in [below for below in found.videos if (place / below).is_symlink() and (place / below).is_file()]:
        goal = (place / below).resolve()
        if goal in seen:
            found.videos.remove(below)
            found.again.append(below)
        seen.add(goal)


def _names(place: Path, videos: Sequence[Path]) -> list[str]:
    """The name of each video, as `open_input` describes; `VssError` if two still share one."""
    files = [(place / below).is_file() for below in videos]
    own = [_own_name(place, below, file) for below, file in zip(videos, files, strict=True)]
    often = Counter(map(composed, own))
    names = [
        "_".join((*below.parts[:-1], name)) if often[composed(name)] > 1 else name
        for below, name in zip(videos, own, strict=True)
    ]
    often = Counter(map(composed, names))
    names = [
        f"{name}_{below.suffix[1:].lower()}" if file and often[composed(name)] > 1 else name
        for below, name, file in zip(videos, names, files, strict=True)
    ]
    twice = [name for name, times in Counter(map(composed, names)).items() if times > 1]
    if twice:
        places = [str(place / below) for below, name in zip(videos, names, strict=True) if composed(name) == twice[0]]
        raise VssError(
            f"input {place} holds more than one video named {some(twice)}: {some(places)}", "rename one of them"
        )
    return names


def _own_name(place: Path, below: Path, file: bool) -> str:
    if file:
        return below.stem
    if below.parts:
        return below.name
    whole = place.resolve()
    return whole.parent.name if whole.name == "origin" else whole.name


def _open(path: Path, name: str) -> Video:
    return FileVideo(path, name) if path.is_file() else read_video_folder(path, name)


def _report(place: Path, found: _Found, names: Sequence[str], talk: Talk) -> None:
    renamed = [
        f"{below} is named {name}"
        for below, name in zip(found.videos, names, strict=True)
        if name != _own_name(place, below, (place / below).is_file())
    ]
    if renamed:
        talk.say(f"input {place}: names repeat, so {some(renamed)}")
    if found.others:
        number = f"{len(found.others)} file{'s' if len(found.others) > 1 else ''}"
        speak = talk.say if all(Path(name).suffix.lower() in NOTES for name in found.others) else talk.warn
        speak(f"input {place}: {number} left out that can't be read as frames: {kinds(found.others)}")
    if found.again:
        talk.warn(f"input {place}: {some(list(map(str, found.again)))} left out, links to what is already read")
    if found.beside:
        talk.warn(f"input {place} is a data set; {found.beside} folders of images that are not frames are left out")
