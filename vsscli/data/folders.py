"""Folders of frames: what a video's folder holds, and what lies in a folder at all.

One's own frames (`open_input`) may lie in the shape of a data set (`data.layouts`), in one folder, or in a video file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vsscli.data.masks import MaskReader
from vsscli.data.videos import VIDEO_SUFFIXES, FileVideo, FolderVideo, Frame, Video
from vsscli.errors import VssError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


def open_input(path: str | Path) -> list[Video]:
    """Open one's own frames.

    Parameters
    ----------
    path
        A video file, a folder of images, a folder of such folders or of video files, or anything in VSPW's layout.

    Returns
    -------
    list of Video
        In name order, each called after its folder or file.

    Raises
    ------
    VssError
        There is nothing, or nothing that could be frames.
    """
    place = Path(os.path.expanduser(path))
    if place.is_file():
        if place.suffix.lower() in IMAGE_SUFFIXES:
            raise VssError(f"{place} is a single image", "give the folder that holds it, or a video file")
        return [FileVideo(place)]
    if not place.is_dir():
        raise VssError(f"input {place} is not there", "give a video file or a folder of images")
    name = place.resolve().name
    if name == "origin":
        name = place.resolve().parent.name
    if has_images(place):
        return [read_video_folder(place, name)]
    children = visible(place)
    if (place / "data").is_dir() and not has_images(place / "data"):
        children = visible(place / "data")  # the root of a data set in VSPW's layout
    videos: list[Video] = []
    for child in children:
        if child.is_dir() and has_images(child):
            videos.append(read_video_folder(child, child.name))
        elif child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(FileVideo(child))
    if not videos:
        raise VssError(
            f"input {place} holds neither images ({', '.join(sorted(IMAGE_SUFFIXES))}) nor folders of them nor videos",
            "give a video file, a folder of images, or a folder of such folders",
        )
    twice = [name for name, times in Counter(video.name for video in videos).items() if times > 1]
    if twice:
        raise VssError(f"input {place} holds more than one video called {some(twice)}", "rename one of them")
    return videos


def read_video_folder(folder: Path, name: str, reader: MaskReader | None = None) -> FolderVideo:
    """Gather a video's frames: images in ``origin/`` or in the folder itself, masks in ``mask/``.

    A frame is whatever has an image or a mask; what is missing shows when it is needed (or to `check_videos`).

    Parameters
    ----------
    folder, name
        Where the video is, and what to call it.
    reader
        Who knows which files are masks, where they are not called like their frames.

    Raises
    ------
    VssError
        No image and no mask at all, or two files for one stem.
    """
    origin = folder / "origin"
    images = by_stem(origin if origin.is_dir() else folder, IMAGE_SUFFIXES)
    masks = masks_by_stem(folder / "mask", reader) if (folder / "mask").is_dir() else {}
    if not images and not masks:
        raise VssError(f"video {name} has no frames: no images in {origin} or {folder}", "put its images there")
    # Files are in name order already; a stem that only has a mask goes where its name belongs.
    stems = list(images) if masks.keys() <= images.keys() else sorted(images.keys() | masks.keys())
    return FolderVideo(name, tuple(Frame(name, stem, images.get(stem), masks.get(stem)) for stem in stems))


def read_list(path: Path) -> list[str]:
    """The lines of a text file, stripped; empty ones are left out.

    Raises
    ------
    VssError
        The file can't be read, has no line, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows editors leave a byte-order mark
    except OSError as cause:
        raise VssError(f"list {path} can't be read: {cause.strerror or cause}", "check the path") from cause
    except UnicodeDecodeError as cause:
        raise VssError(f"list {path} is not UTF-8 text", "save it as UTF-8, one entry per line") from cause
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise VssError(f"list {path} is empty", "write one entry per line")
    twice = [entry for entry, times in Counter(entries).items() if times > 1]
    if twice:
        raise VssError(f"list {path} has {some(twice)} more than once", "leave each entry once")
    return entries


def visible(folder: Path) -> list[Path]:
    """What a folder holds, in name order, without dot-files."""
    try:
        names = os.listdir(folder)
    except OSError as cause:
        raise VssError(f"folder {folder} can't be read: {cause.strerror}", "check its path and permissions") from cause
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def has_images(folder: Path) -> bool:
    origin = folder / "origin"
    place = origin if origin.is_dir() else folder
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in visible(place))


def by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in visible(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise VssError(
                f"{files[path.stem]} and {path.name} are two files for frame {path.stem!r}", "keep one of them"
            )
        files[path.stem] = path
    return files


def masks_by_stem(folder: Path, reader: MaskReader | None) -> dict[str, Path]:
    if reader is None:
        return by_stem(folder, frozenset({".png"}))
    found = reader.masks(path.name for path in visible(folder))
    return {Path(goal).stem: folder / name for goal, name in found.items()}


def some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
