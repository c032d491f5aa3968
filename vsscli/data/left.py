"""What lies among a split's frames and masks and is not read: files of other kinds, and folders nobody looks into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsscli.data.folders import IMAGE_SUFFIXES, MASK_SUFFIX, by_stem, has_images
from vsscli.data.layouts import Dataset
from vsscli.data.spelling import plain
from vsscli.data.trees import tree_of
from vsscli.data.video import VIDEO_SUFFIXES
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import folders_below, kinds, visible
from vsscli.errors import VssError
from vsscli.talk import Talk

LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jif", ".jfif"})
PICTURES = IMAGE_SUFFIXES | {".gif", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".jxl", ".tga", ".npy", ".npz", ".exr"}
"""What somebody may have meant as a frame or a mask, whether it can be read or not."""


@dataclass(frozen=True)
class LeftOut:
    """Files or folders of one folder, or of several alike of which it is the first, that are not read: what, and what
    to do if they should have been; ``labels``: these are labels of frames that have none else, so something is wrong.
    """

    place: Path
    what: str
    remedy: str
    labels: bool = False


def left_out(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> list[LeftOut]:
    """Find what lies among the files of a split and is not read.

    One is told for each kind: masks that are no PNGs, other files among masks, pictures among images, folders in
    videos, and, where videos are folders of a split's, what lies beside them. Notes, such as text files, are not
    listed.
    """
    images, masks = _folders(dataset, split, videos)
    frames = [frame for video in videos for frame in video.frames]
    found = [*_among_masks(masks, frames), *_among_images(images)]
    tree = tree_of(dataset.recipe)
    if tree.of_videos and dataset.recipe.layout != "files":
        found += _in_videos(images)
    if tree.of_videos and not tree.listed and dataset.recipe.layout != "files":
        found += _beside_videos(dataset, split, videos)
    return found


def say_left_out(dataset: Dataset, split: str, videos: Sequence[FolderVideo], talk: Talk) -> None:
    """Warn of what `left_out` finds."""
    for left in left_out(dataset, split, videos):
        talk.warn(f"{left.place}: {left.what}; {left.remedy}")


def unread_mask(frame: Frame) -> Path | None:
    """What lies where a frame's mask belongs, by its name, and is no PNG."""
    if frame.image is None:
        return None
    images = frame.image.parent
    folder = (images.parent if images.name == "origin" else images) / "mask"
    if not folder.is_dir():
        return None
    alike = (path for path in visible(folder) if plain(path.stem) == plain(frame.stem))
    return next((path for path in alike if path.suffix.lower() in PICTURES), None)


def _folders(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> tuple[list[Path], list[Path]]:
    """The folders that images lie in, and those that masks lie in or would."""
    frames = [frame for video in videos for frame in video.frames]
    images = list(dict.fromkeys(f.image.parent for f in frames if f.image is not None and f.number is None))
    masks = [frame.mask.parent for frame in frames if frame.mask is not None]
    tree = tree_of(dataset.recipe)
    if tree.of_videos:
        masks += [(place.parent if place.name == "origin" else place) / "mask" for place in images]
    else:
        place = tree.find(tree.masks, dataset.root, dataset.recipe.val if split == "val" else split)
        masks += [] if place is None else [place / below for below in folders_below(place).there]
    return images, [place for place in dict.fromkeys(masks) if place.is_dir()]


def _among_masks(folders: Sequence[Path], frames: Sequence[Frame]) -> Iterator[LeftOut]:
    bare = {plain(frame.stem) for frame in frames if frame.mask is None}
    for labels in (True, False):
        places, names = list[Path](), list[str]()
        for folder in folders:
            # Readers know which PNGs are masks and which lie beside them for others to use.
            others = [path for path in visible(folder) if path.suffix.lower() in PICTURES - {MASK_SUFFIX}]
            chosen = [path.name for path in others if (plain(path.stem) in bare) == labels]
            places += [folder] if chosen else []
            names += chosen
        if names:
            why = "JPEG changes the values of pixels" if any(Path(n).suffix.lower() in LOSSY for n in names) else ""
            why = why or "only PNGs are read as masks"
            many = f" and {len(places) - 1} folders more" if len(places) > 1 else ""
            what = f"files among the masks{many} are not read ({kinds(names)}): {why}"
            yield LeftOut(places[0], what, "write class indices as PNGs of 8 bits, from the original labels", labels)


def _among_images(folders: Sequence[Path]) -> Iterator[LeftOut]:
    places, names = list[Path](), list[str]()
    for folder in folders:
        known = set(by_stem(folder, IMAGE_SUFFIXES).values())
        others = [
            path.name
            for path in visible(folder)
            if path.suffix.lower() in PICTURES | VIDEO_SUFFIXES and path not in known and path.is_file()
        ]
        places += [folder] if others else []
        names += others
    if names:
        many = f" and {len(places) - 1} folders more" if len(places) > 1 else ""
        what = f"files among the images{many} are no frames ({kinds(names)})"
        yield LeftOut(places[0], what, "save frames as JPEG or PNG, each once; videos as their frames")


def _in_videos(images: Sequence[Path]) -> Iterator[LeftOut]:
    """Folders in those of videos that nobody looks into, though they hold pictures."""
    strange = [
        child
        for video in dict.fromkeys(place.parent if place.name == "origin" else place for place in images)
        for child in visible(video)
        if child.name not in ("origin", "mask") and child.is_dir() and _holds_pictures(child)
    ]
    if strange:
        names = ", ".join(dict.fromkeys(child.name for child in strange))
        what = f"folders in videos are not looked into: {names} (in {len(strange)} of them)"
        yield LeftOut(strange[0], what, "frames of a video lie in its folder or in origin/, masks in mask/")


def _beside_videos(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> Iterator[LeftOut]:
    """Files of videos beside folders of frames, and folders whose images lie a level deeper."""
    place = tree_of(dataset.recipe).base(dataset.root, dataset.recipe.val if split == "val" else split)
    taken = {video.name for video in videos}
    others = [path for path in visible(place) if path.name not in taken]
    files = [path.name for path in others if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if files:
        what = f"files of videos are not read ({kinds(files)})"
        yield LeftOut(place, what, "extract their frames into folders (`vss predict --input` reads them as they are)")
    deeper = [path for path in others if path.is_dir() and not has_images(path) and _holds_pictures(path)]
    if deeper and place == dataset.root:
        names = ", ".join(path.name for path in deeper)
        what = f"folders whose images lie deeper are not read: {names}"
        yield LeftOut(place, what, "put the folders of frames right into the split's")


def _holds_pictures(folder: Path) -> bool:
    """Whether there are images in a folder or below it."""
    try:
        there = folders_below(folder).there
    except VssError:
        return False
    return any(has_images(folder / below) for below in there)
