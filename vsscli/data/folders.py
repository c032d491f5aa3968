"""Folders of frames: which files are a video's frames and masks, and in which order; and lists of names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from vsscli.data.masks import MaskReader
from vsscli.data.numbering import in_time
from vsscli.data.spelling import composed, respelled, spelled
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import visible
from vsscli.errors import VssError

USUAL_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})
IMAGE_SUFFIXES = USUAL_SUFFIXES | {".jpe", ".jif", ".jfif", ".bmp", ".dib", ".tif", ".tiff", ".webp"}
MASK_SUFFIX = ".png"

MASK_NAMES = re.compile(
    r"[-_. ]?(color_?|colour_?)?(masks?|labels?|gt|seg|segmentation|annotations?|labelids|labeltrainids)$",
    re.IGNORECASE,
)
"""Suffixes that the names of masks add to those of their frames when both are in one folder."""


def read_video_folder(folder: Path, name: str, reader: MaskReader | None = None) -> FolderVideo:
    """The video in a folder: images in ``origin/`` or in the folder itself, masks in ``mask/``; see `read_video`."""
    return read_video(name, [folder / "origin", folder], [folder / "mask"], reader)


def read_video(
    name: str, images: Sequence[Path], masks: Sequence[Path], reader: MaskReader | None = None
) -> FolderVideo:
    """Collect a video's frames: every name with an image or a mask is a frame.

    Missing files are reported when they are needed (or by `check_videos`).

    Parameters
    ----------
    name
        Name of the video.
    images, masks
        Candidate folders; the first that exists is used.
    reader
        Knows which files are masks, if they are not named like their frames.

    Returns
    -------
    FolderVideo
        Its frames in the order of time (`data.numbering`).

    Raises
    ------
    VssError
        There are neither images nor masks, two files for one stem, or masks among the images.
    """
    place = next((folder for folder in images if folder.is_dir()), None)
    pictures = {} if place is None else by_stem(place, IMAGE_SUFFIXES)
    if place is not None:
        _refuse_masks_among(pictures, place)
    beside = next((folder for folder in masks if folder.is_dir()), None)
    labels = {} if beside is None else masks_by_stem(beside, reader)
    if not pictures and not labels:
        where = " or ".join(map(str, images))
        raise VssError(f"video {name} has no frames: no images in {where}", "put its images there")
    labels = called_alike(labels, pictures)
    stems = in_time(pictures.keys() | labels.keys())
    return FolderVideo(name, tuple(Frame(name, stem, pictures.get(stem), labels.get(stem)) for stem in stems))


def read_list(path: Path) -> list[str]:
    """The lines of a text file, stripped and without empty ones.

    Raises
    ------
    VssError
        The file can't be read, is empty, or has an entry twice.
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
    twice = [entry for entry, times in Counter(map(composed, entries)).items() if times > 1]
    if twice:
        raise VssError(f"list {path} has {some(twice)} more than once", "keep each entry once")
    return entries


def image_folder(folder: Path) -> Path:
    """The folder of a video's images: ``origin`` in the video's folder if it exists, otherwise that folder."""
    origin = folder / "origin"
    return origin if origin.is_dir() else folder


def has_images(folder: Path) -> bool:
    """Whether a folder holds the frames of a video."""
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in visible(image_folder(folder)))


def by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """The files of a folder by their names without suffix, in the order of names.

    If a frame exists as JPEG or PNG and in another format, too, the former is used.

    Raises
    ------
    VssError
        Two files for one stem.
    """
    files: dict[str, Path] = {}
    stems: dict[str, str] = {}
    candidates = [path for path in visible(folder) if path.suffix.lower() in suffixes]
    for path in sorted(candidates, key=lambda path: path.suffix.lower() not in USUAL_SUFFIXES):
        other = files.get(stems.get(composed(path.stem), ""))
        if other is None:
            files[path.stem] = path
            stems[composed(path.stem)] = path.stem
        elif path.suffix.lower() in USUAL_SUFFIXES or other.suffix.lower() not in USUAL_SUFFIXES:
            raise VssError(_two_files(other, path), _which_to_keep(other, path))
    return {path.stem: path for path in candidates if files.get(path.stem) == path}


def masks_by_stem(folder: Path, reader: MaskReader | None) -> dict[str, Path]:
    """The masks of a folder by the names of their frames, without suffix."""
    if reader is None:
        return by_stem(folder, frozenset({MASK_SUFFIX}))
    found = reader.masks(path.name for path in visible(folder))
    return {Path(goal).stem: folder / name for goal, name in found.items()}


def called_alike(masks: dict[str, Path], images: Iterable[str]) -> dict[str, Path]:
    """Masks by the names of their images, which may differ in their Unicode form (`data.spelling`)."""
    known = respelled(images)
    return {known.get(composed(stem), stem): path for stem, path in masks.items()}


def some(names: Sequence[str]) -> str:
    """The first few names."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _two_files(one: Path, other: Path) -> str:
    if one.stem != other.stem:
        return (
            f"{one.parent / spelled(one.name)} and {spelled(other.name)} are two files for one frame, "
            "spelled differently"
        )
    return f"{one} and {other.name} are two files for frame {one.stem!r}"


def _which_to_keep(one: Path, other: Path) -> str:
    """What to do about two files for one frame. A PNG beside a photograph is usually its mask."""
    suffixes = {path.suffix.lower() for path in (one, other)}
    if MASK_SUFFIX not in suffixes or len(suffixes) == 1:
        return "keep one of them"
    place = _masks_place(one.parent)
    return f"if the PNGs are masks, move them into {place}; if both are the frame, keep one of them"


def _masks_place(images: Path) -> Path:
    return (images.parent if images.name == "origin" else images) / "mask"


def _refuse_masks_among(images: dict[str, Path], place: Path) -> None:
    """Refuse ``0.jpg`` and ``0_mask.png`` in one folder, since the mask would be taken for a frame."""
    tails: dict[str, list[Path]] = {}
    for stem, path in images.items():
        match = MASK_NAMES.search(stem)
        if match is not None and stem[: match.start()] in images:
            tails.setdefault(match.group(), []).append(path)
    for tail, files in tails.items():
        frame = images[files[0].stem[: -len(tail)]]
        raise VssError(
            f"{place} holds {len(files)} images whose names are those of others with {tail!r} added, such as "
            f"{files[0].name} beside {frame.name}: they would be taken for frames",
            f"if they are masks, move them into {_masks_place(place)}, named like their frames",
        )
