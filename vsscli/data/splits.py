"""The videos of a split, in the places of a layout (`data.trees`). An image is a video of one frame."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from vsscli.data.clips import read_clips
from vsscli.data.config import Data
from vsscli.data.folders import (
    IMAGE_SUFFIXES,
    by_stem,
    called_alike,
    has_images,
    masks_by_stem,
    read_list,
    read_video,
    some,
)
from vsscli.data.masks import MaskReader
from vsscli.data.spelling import composed, respelled
from vsscli.data.trees import SPLIT, Tree, tree_of
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import folders_below, visible
from vsscli.errors import VssError
from vsscli.names import require_names


def read_split(data: Data, root: Path, split: str, reader: MaskReader | None) -> list[FolderVideo]:
    """The videos of a split by its name on disk, in the order of its list or of their names; frames in order of time.

    Images are videos named after their file. If an image is in a folder of the split, like Cityscapes' cities, its name
    is prefixed with the folder's unless it already begins with it.

    Parameters
    ----------
    data, root
        The recipe's section, and the data set's folder.
    split
        Name of the split.
    reader
        Knows which files are masks, if they are not named like their images.

    Raises
    ------
    VssError
        There is no list or folder of this split, or it is empty; a video is missing or has no frames; or there are two
        files for one frame, or two frames with one name.
    """
    if data.layout == "files":
        return read_clips(data, root, split)
    tree = tree_of(data)
    if not tree.of_videos:
        return _read_images(data, root, tree, split, reader)
    names = _listed(data, root, tree, split) if tree.listed else _found(data, root, tree, split)
    if tree.undivided and tree.base(root, split) == root:
        split = ""
    return [
        read_video(
            name,
            [root / place for place in tree.places(tree.images, split, folder)],
            [root / place for place in tree.places(tree.masks, split, folder)],
            reader,
        )
        for name, folder in names.items()
    ]


def how_to_get(data: Data) -> str:
    """The hint for missing data: where it is published, how to give its folder, what runs without it."""
    published = f"its owners publish it at {data.publisher}; " if data.publisher else ""
    point = f"set {data.root_env} or give --data FOLDER" if data.root_env else "give --data FOLDER"
    without = f"; without it: vss train --recipe {data.without}" if data.without else ""
    return f"{published}{point}{without}"


def _listed(data: Data, root: Path, tree: Tree, split: str) -> dict[str, str]:
    """The videos in a split's list, and the names of their folders, which may differ in Unicode form."""
    path, base = root / tree.listed.replace(SPLIT, split), tree.base(root, split)
    if not path.is_file():
        others = sorted(other.stem for other in visible(path.parent) if other.suffix == path.suffix)
        splits = f"; there are {', '.join(others)}" if others else ""
        hint = how_to_get(data) if data.publisher else f"list the split's videos in {path.name}"
        raise VssError(f"{data.name}: {path}, the list of split {split!r}, does not exist{splits}", hint)
    names = read_list(path)
    remedy = "write the name of one folder of frames per line"
    # Names become parts of paths that are written later, so none may lead elsewhere.
    require_names(names, f"{path} has an entry that can't be the name of a video's folder", remedy)
    hidden = [name for name in names if name.startswith(".")]
    if hidden:
        raise VssError(f"{path} lists {some(hidden)}, which can't be names of video folders", remedy)
    found = {name: name for name in names if (base / name).is_dir()}
    if len(found) < len(names):
        spelled = respelled(folder.name for folder in visible(base) if folder.is_dir())
        found = {name: name if name in found else spelled.get(composed(name), "") for name in names}
    missing = [name for name, folder in found.items() if not folder]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise VssError(f"{data.name}: {path} lists {some(missing)}, which {are} not under {base}", how_to_get(data))
    return found


def _found(data: Data, root: Path, tree: Tree, split: str) -> dict[str, str]:
    """The folders in a split's folder; in an undivided root, which may hold other folders, those with images."""
    base = tree.base(root, split)
    folders = [child for child in visible(base) if child.is_dir()] if base.is_dir() else []
    if base == root:
        folders = [child for child in folders if has_images(child)]
    if not folders:
        where = f"neither {root / split} nor {root} holds" if base == root else f"{base} does not hold"
        raise VssError(f"{data.name}: {where} folders of images", how_to_get(data))
    return {child.name: child.name for child in folders}


def _read_images(data: Data, root: Path, tree: Tree, split: str, reader: MaskReader | None) -> list[FolderVideo]:
    images = tree.find(tree.images, root, split)
    if images is None:
        wanted = " or ".join(tree.places(tree.images, split))
        raise VssError(
            f"{data.name}: split {split!r} has no folder of images: {wanted} is not in {root}", how_to_get(data)
        )
    masks = tree.find(tree.masks, root, split)
    videos = [
        FolderVideo(video, (Frame(video, stem, image, mask),))
        for below in _folders(images, masks)
        for video, stem, image, mask in _frames(images, masks, below, reader)
    ]
    if not videos:
        raise VssError(f"{data.name}: {images} holds no images", how_to_get(data))
    twice = [video for video, times in Counter(video.name for video in videos).items() if times > 1]
    if twice:
        raise VssError(f"{data.name}: {images} holds two images named {some(twice)}", "rename one of them")
    return videos


def require_masks(name: str, root: Path, tree: Tree, split: str) -> None:
    """Refuse a split of images whose folder of masks is missing."""
    if tree.of_videos or tree.find(tree.masks, root, split) is not None:
        return
    if not tree.masks:
        raise VssError(f"{name}: data.masks is not set, so no image of split {split!r} has labels", "set data.masks")
    wanted = " or ".join(tree.places(tree.masks, split))
    raise VssError(
        f"{name}: the images of split {split!r} have no masks: {wanted} is not in {root}", "put the masks there"
    )


def _folders(images: Path, masks: Path | None) -> list[Path]:
    """All folders below those of images and masks, relative to these, in the order of names, without repetitions."""
    found = set(folders_below(images).there)
    if masks is not None:
        # Folders of images that were not entered are links to others of them.
        found |= {below for below in folders_below(masks).there if not (images / below).is_dir()}
    return sorted(found)


def _frames(
    images: Path, masks: Path | None, below: Path, reader: MaskReader | None
) -> Iterator[tuple[str, str, Path | None, Path | None]]:
    """Name, stem, image and mask of the frames in one folder; either file may be missing, as in a video's folder."""
    pictures = by_stem(images / below, IMAGE_SUFFIXES) if (images / below).is_dir() else {}
    labels = masks_by_stem(masks / below, reader) if masks is not None and (masks / below).is_dir() else {}
    labels = called_alike(labels, pictures)
    stems = list(pictures) if labels.keys() <= pictures.keys() else sorted(pictures.keys() | labels.keys())
    before = "_".join(below.parts)
    for stem in stems:
        named = stem if not before or stem.startswith(before + "_") else f"{before}_{stem}"
        yield named, stem, pictures.get(stem), labels.get(stem)
