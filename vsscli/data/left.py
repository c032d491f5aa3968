"""Files and folders among a split's frames and masks that are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vsscli.data.folders import IMAGE_SUFFIXES, MASK_SUFFIX, by_stem, has_images
from vsscli.data.layouts import Dataset
from vsscli.data.spelling import composed
from vsscli.data.trees import tree_of
from vsscli.data.video import VIDEO_SUFFIXES
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import folders_below, kinds, visible
from vsscli.errors import VssError
from vsscli.talk import Talk

LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jif", ".jfif"})
PICTURES = IMAGE_SUFFIXES | {".gif", ".jp2", ".j2k", ".avif", ".heic", ".heif", ".jxl", ".tga", ".npy", ".npz", ".exr"}
"""Files that may be intended as frames or masks, whether they can be read or not."""


@dataclass(frozen=True)
class LeftOut:
    """Files or folders that are not read, in the folder ``place`` or in several of which it is the first, and what to
    do if they should be. ``labels``: whether they are masks of frames without another one, so that something is wrong.
    """

    place: Path
    what: str
    remedy: str
    labels: bool = False


def left_out(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> list[LeftOut]:
    """Find files of a split that are not read.

    There is at most one entry for each kind: masks that are not PNGs, other files among masks, pictures among images,
    folders in videos, and, if a split's videos are the folders in its folder, files beside them. Notes, such as text
    files, are not listed.
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
    """Warn about what `left_out` finds."""
    for left in left_out(dataset, split, videos):
        talk.warn(f"{left.place}: {left.what}; {left.remedy}")


def unread_mask(frame: Frame) -> Path | None:
    """A file in the place of a frame's mask that is not a PNG."""
    if frame.image is None:
        return None
    images = frame.image.parent
    folder = (images.parent if images.name == "origin" else images) / "mask"
    if not folder.is_dir():
        return None
    alike = (path for path in visible(folder) if composed(path.stem) == composed(frame.stem))
    return next((path for path in alike if path.suffix.lower() in PICTURES), None)


def _folders(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> tuple[list[Path], list[Path]]:
    """The folders of images, and those where masks are or belong."""
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
    bare = {composed(frame.stem) for frame in frames if frame.mask is None}
    for labels in (True, False):
        places, names = list[Path](), list[str]()
        for folder in folders:
            # Readers know which PNGs are masks; other PNGs beside them are for other programs.
            others = [path for path in visible(folder) if path.suffix.lower() in PICTURES - {MASK_SUFFIX}]
            chosen = [path.name for path in others if (composed(path.stem) in bare) == labels]
            places += [folder] if chosen else []
            names += chosen
        if names:
            why = "JPEG changes the values of pixels" if any(Path(n).suffix.lower() in LOSSY for n in names) else ""
            why = why or "only PNGs are read as masks"
            many = f" and in {len(places) - 1} more folders" if len(places) > 1 else ""
            what = f"files among the masks{many} are not read ({kinds(names)}): {why}"
            yield LeftOut(places[0], what, "write class indices as 8-bit PNGs, from the original labels", labels)


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
        many = f" and in {len(places) - 1} more folders" if len(places) > 1 else ""
        what = f"files among the images{many} are not read as frames ({kinds(names)})"
        yield LeftOut(places[0], what, "save frames as JPEG or PNG, each once; extract the frames of videos")


def _in_videos(images: Sequence[Path]) -> Iterator[LeftOut]:
    """Folders with pictures in those of videos, which are not searched."""
    strange = [
        child
        for video in dict.fromkeys(place.parent if place.name == "origin" else place for place in images)
        for child in visible(video)
        if child.name not in ("origin", "mask") and child.is_dir() and _holds_pictures(child)
    ]
    if strange:
        names = ", ".join(dict.fromkeys(child.name for child in strange))
        what = f"folders in videos are not read: {names} (in {len(strange)} of them)"
        yield LeftOut(strange[0], what, "put a video's frames into its folder or origin/, and its masks into mask/")


def _beside_videos(dataset: Dataset, split: str, videos: Sequence[FolderVideo]) -> Iterator[LeftOut]:
    """Video files beside folders of frames, and folders whose images are a level deeper."""
    place = tree_of(dataset.recipe).base(dataset.root, dataset.recipe.val if split == "val" else split)
    taken = {video.name for video in videos}
    others = [path for path in visible(place) if path.name not in taken]
    files = [path.name for path in others if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    if files:
        what = f"video files are not read ({kinds(files)})"
        yield LeftOut(place, what, "extract their frames into folders (`vss predict --input` reads them as they are)")
    deeper = [path for path in others if path.is_dir() and not has_images(path) and _holds_pictures(path)]
    if deeper and place == dataset.root:
        names = ", ".join(path.name for path in deeper)
        what = f"folders whose images are deeper are not read: {names}"
        yield LeftOut(place, what, "put the folders of frames directly into the split's folder")


def _holds_pictures(folder: Path) -> bool:
    """Whether there are images in a folder or below it."""
    try:
        folders = folders_below(folder).there
    except VssError:
        return False
    return any(has_images(folder / below) for below in folders)
