"""What is in a folder of somebody's own: videos, photos, labels, class tables."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import numpy as np
from PIL import Image

from vsscli.data.folders import IMAGE_SUFFIXES, image_folder
from vsscli.data.inputs import NOTES
from vsscli.data.numbering import DIGITS
from vsscli.data.pixels import image_size, read_image
from vsscli.data.video import VIDEO_SUFFIXES
from vsscli.data.walk import MADE, folders_below, visible
from vsscli.errors import VssError
from vsscli.exchange.guess import guess_format
from vsscli.exchange.source import open_source_files

SAMPLED = 5
"""Images of a folder that are looked at to tell what they are."""

FRAMES = ("video", "stills")
"""What folders may hold but masks."""

FEW_COLOURS = 64
"""A mask has at most so many values; a photograph has thousands."""

CLASS_FILES = ("classes.yaml", "classes.yml", "classes.json", "classes.txt", "labelmap.txt", "labels.txt", "names.txt")

MASKS = re.compile("mask|label|annot|segm|truth")
FLAT = 0.5
"""Of a mask's pixels, more equal their neighbours, even in a JPEG."""

THUMBNAIL = (32, 32)
STILL = (0.6, 10.0)
"""Images are no video if neighbours differ by this share of what distant ones differ by, and by so many grey levels."""


@dataclass
class Survey:
    """What was found below a folder, by paths relative to it.

    Attributes
    ----------
    videos
        What ``data.videos`` should name: folders and patterns.
    stills
        Folders of images that are no video.
    labels
        Folders, zips and files of labels, each with its format.
    classes
        A class table, if there is one.
    lossy
        Folders of images that look like masks and are not stored as PNG.
    others
        Names of files that are neither.
    """

    videos: list[str] = field(default_factory=list)
    stills: list[str] = field(default_factory=list)
    labels: list[tuple[str, str]] = field(default_factory=list)
    classes: str | None = None
    lossy: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def survey(root: Path, skip: Sequence[str]) -> Survey:
    """Look at everything below a folder except what vss has made, and what ``skip`` names directly in the folder.

    Raises
    ------
    VssError
        The folder can't be read, has masks in the same folder as what they are masks of, or several kinds of masks.
    """
    found = Survey()
    there = [below for below in folders_below(root).there if not below.parts or below.parts[0] not in skip]
    made = {below for below in there if (root / below / MADE).is_file()}
    folders = [below for below in there if made.isdisjoint((below, *below.parents))]
    held = {below: _holds(root / below) for below in folders}
    masks = {below for below in folders if held[below] == "masks"}
    films = {below for below in folders if _films(root / below)}
    for below in folders:
        _require_apart(root / below, masks=below in masks)
    tops = {_top(below, {other for other in folders if other in films or held[other] in FRAMES}) for below in masks}
    for top in sorted(tops):
        _require_one_kind(root, top)
    for below in folders:
        if any(below == top or top in below.parents for top in tops):
            continue
        if held[below] in FRAMES and below.name != "origin":
            name = below.as_posix()
            if _are_lossy(root, below):
                found.lossy.append(name)
            elif held[below] == "stills":
                found.stills.append(name)
            else:
                found.videos.append(_video(root, below, there))
        # A folder means all that is in it, so one that has masks below is not named as a whole.
        whole = bool(below.parts) and not any(below in top.parents for top in tops)
        _look_at_files(root, below, found, skip, whole=whole)
    found.labels += [(top.as_posix(), _format(root / top) or "png") for top in sorted(tops)]
    found.videos, found.labels = list(dict.fromkeys(found.videos)), list(dict.fromkeys(found.labels))
    return found


def _video(root: Path, below: Path, there: Sequence[Path]) -> str:
    """What ``data.videos`` should call a folder of frames: a pattern of these if other images are, or may come, in
    folders below, which are no part of the video."""
    images = _images(root / below)
    others = any(below in other.parents and _images(root / other) for other in there)
    if not images or (below.parts and not others):
        return below.as_posix()
    return (Path(glob.escape(below.as_posix())) / f"*{images[0].suffix}").as_posix()


def _look_at_files(root: Path, below: Path, found: Survey, skip: Sequence[str], *, whole: bool) -> None:
    """Sort the files of one folder into what they are; clips are named by the ``whole`` folder or by a pattern."""
    images = _images(root / below)
    for path in visible(root / below):
        if not path.is_file() or path in images or (not below.parts and path.name in skip):
            continue
        suffix, name = path.suffix.lower(), (below / path.name).as_posix()
        if suffix in VIDEO_SUFFIXES:
            pattern = (Path(glob.escape(below.as_posix())) / f"*{path.suffix}").as_posix()
            found.videos.append(below.as_posix() if whole else pattern)
        elif not below.parts and path.name.lower() in CLASS_FILES and found.classes is None:
            found.classes = name
        elif suffix == ".zip" and _is_made(path):
            continue
        elif suffix in (".zip", ".json", ".xml") and (form := _format(path)):
            # Of formats with a file for each frame the folder is the source.
            found.labels.append((below.as_posix() if form == "labelme" and below.parts else name, form))
        elif suffix not in NOTES:
            found.others.append(name)


def _holds(folder: Path) -> str:
    """What the images of a folder are: "masks", "video", "stills", or nothing."""
    images = _images(folder)
    if not images or image_folder(folder) != folder:
        return "video" if image_folder(folder) != folder and _images(image_folder(folder)) else ""
    places = sorted({round(place * (len(images) - 1) / (SAMPLED - 1)) for place in range(SAMPLED)})
    sample = [images[place] for place in places]
    if all(map(_is_mask, sample)):
        return "masks"
    return "stills" if _are_stills(images, sample) else "video"


def _images(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]


def _films(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]


def _require_apart(folder: Path, *, masks: bool) -> None:
    """Refuse a folder that has masks among images, or if its images are ``masks``, among clips."""
    images, films = _images(folder), _films(folder)
    pair = (films[0], images[0]) if masks and films else _image_and_mask(images)
    if pair is not None:
        raise VssError(
            f"{folder} has masks beside what they are masks of, such as {pair[0].name} and {pair[1].name}",
            "move the masks into a folder of their own, such as masks/, and run `vss init` again",
        )


def _require_one_kind(root: Path, top: Path) -> None:
    """Refuse Cityscapes' masks, of which each image has several: ids, colours, instances."""
    ids = next((root / top).rglob("*_labelIds.png"), None)
    if ids is not None and ids.with_name(ids.name.replace("_labelIds.", "_color.")).is_file():
        raise VssError(
            f"{root / top} has Cityscapes' masks, several kinds of each image, such as {ids.name}",
            f"make one in VSPW's classes: vss remap --source cityscapes --masks {root / top} --out NEW; move NEW "
            f"to where {top} is, and {top} elsewhere, and run `vss init --classes vspw124`",
        )


def _image_and_mask(images: Sequence[Path]) -> tuple[Path, Path] | None:
    """An image and its mask, if masks are among the images of a folder: ``a.jpg``, and ``a.png`` or ``a_mask.png``."""
    named = {path.stem: path for path in sorted(images, key=lambda path: path.suffix.lower() != ".png")}
    pairs = (
        (image, path)
        for path in images
        if path.suffix.lower() == ".png"
        for stem in (path.stem, *(path.stem[: end.start()] for end in re.finditer(r"[-_. ]", path.stem)))
        if (image := named.get(stem, path)) != path
    )
    return next((pair for pair in islice(pairs, SAMPLED) if _is_mask(pair[1]) and not _is_mask(pair[0])), None)


def _is_mask(path: Path) -> bool:
    """Whether a PNG has as few colours as a mask."""
    if path.suffix.lower() != ".png":
        return False
    try:
        with Image.open(path) as image:
            if image.mode == "P":
                return True
            if image.mode.startswith("I"):  # 16 bits, which `convert` would cut off at 255
                return len(np.unique(np.asarray(image))) <= FEW_COLOURS
            return image.convert("RGB").getcolors(FEW_COLOURS) is not None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False


def _are_lossy(root: Path, below: Path) -> bool:
    """Whether images are masks that were stored as JPEG, by the folder's name and large areas of one colour."""
    images = _images(image_folder(root / below))
    if not MASKS.search(below.as_posix().lower()) or any(path.suffix.lower() == ".png" for path in images):
        return False
    try:
        pixels = [read_image(path) for path in images[:SAMPLED]]
    except VssError:
        return False
    return all((image[:, 1:] == image[:, :-1]).all(axis=-1).mean() > FLAT for image in pixels)


def _are_stills(images: Sequence[Path], sample: Sequence[Path]) -> bool:
    """Whether images are no frames of one video: of several sizes, without numbers, or unlike their neighbours."""
    if len(images) == 1:
        return True
    try:
        if len({image_size(path) for path in sample}) > 1:
            return True
        if sum(bool(DIGITS.search(path.stem)) for path in images) < len(images):
            return True
        first = images[: SAMPLED + 1]
        near = _difference(pairwise(first))
        far = _difference(zip(sample, [*sample[2:], *sample[:2]], strict=True))
    except VssError:
        return False
    share, levels = STILL
    return near > levels and near > share * far


def _difference(pairs: Iterable[tuple[Path, Path]]) -> float:
    """Mean absolute difference of small grey versions of images."""
    return float(np.mean([np.abs(_small(one) - _small(other)).mean() for one, other in pairs]))


def _small(path: Path) -> np.ndarray:
    return np.asarray(Image.fromarray(read_image(path)).convert("L").resize(THUMBNAIL), np.float32)


def _top(below: Path, frames: set[Path]) -> Path:
    """The highest folder at or above one of masks that has no frames or clips in it."""
    top = below
    for parent in below.parents:
        if not parent.parts or any(parent == other or parent in other.parents for other in frames):
            break
        top = parent
    return top


def _is_made(path: Path) -> bool:
    """Whether vss has made a zip."""
    try:
        with ZipFile(path) as archive:
            return archive.comment == MADE.encode()
    except (OSError, BadZipFile):
        return False


def _format(path: Path) -> str:
    """The format of labels; empty if they are none."""
    try:
        with open_source_files(path) as source:
            return guess_format(source)
    except VssError:
        return ""
