"""Data sets of images, as their owners publish them: every image is a video of one frame.

``ade20k``
    ``images/training/*.jpg``, ``annotations/training/*.png`` (ADEChallengeData2016).
``cocostuff``
    ``train2017/*.jpg``, ``stuffthingmaps/train2017/*.png``.
``coco-panoptic``
    ``train2017/*.jpg``, ``annotations/panoptic_train2017/*.png``, ``annotations/panoptic_train2017.json``.
``cityscapes``
    ``leftImg8bit/train/<city>/*_leftImg8bit.png``, ``gtFine/train/<city>/*_gtFine_labelIds.png``.
``images``
    What a recipe's ``data.images`` and ``data.masks`` say.

Common variants of these trees are known too, and ``train`` and ``val`` stand for what the owners call those splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vsscli.data.config import Data, Layout
from vsscli.data.folders import IMAGE_SUFFIXES, by_stem, called_alike, masks_by_stem, some
from vsscli.data.masks import MaskReader
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.walk import folders_below
from vsscli.errors import VssError

PLACE = "{split}"
COCO_SPLITS = {"train": "train2017", "val": "val2017", "test": "test2017"}


@dataclass(frozen=True)
class Tree:
    """Where images and masks lie under a data set's root.

    Parameters
    ----------
    images, masks
        Folders with ``{split}`` for the split's name, the usual one first. Folders in them are looked into.
    splits
        What the owners call a split, where they do not call it so.
    files
        How the masks are written (`data.encodings`), which a mapping must know; none: any way.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    splits: Mapping[str, str] = field(default_factory=dict)
    files: str | None = None

    def places(self, templates: tuple[str, ...], split: str) -> list[str]:
        """The folders that a split could be in, relative to the root."""
        names = [split, *([self.splits[split]] if split in self.splits else [])]
        return list(dict.fromkeys(template.replace(PLACE, name) for template in templates for name in names))

    def find(self, templates: tuple[str, ...], root: Path, split: str) -> Path | None:
        """The first of these folders that is there."""
        return next((root / place for place in self.places(templates, split) if (root / place).is_dir()), None)


TREES: dict[Layout, Tree] = {
    "ade20k": Tree(
        ("images/{split}", "ADEChallengeData2016/images/{split}"),
        ("annotations/{split}", "ADEChallengeData2016/annotations/{split}"),
        {"train": "training", "val": "validation"},
        "values",
    ),
    "cocostuff": Tree(
        ("{split}", "images/{split}"),
        ("stuffthingmaps/{split}", "stuffthingmaps_trainval2017/{split}", "annotations/{split}"),
        COCO_SPLITS,
        "cocostuff",
    ),
    "coco-panoptic": Tree(
        ("{split}", "images/{split}"),
        ("annotations/panoptic_{split}", "panoptic_{split}", "annotations/panoptic/panoptic_{split}"),
        COCO_SPLITS,
        "coco-panoptic",
    ),
    "cityscapes": Tree(
        (
            "leftImg8bit/{split}",
            "leftImg8bit_trainvaltest/leftImg8bit/{split}",
            "leftImg8bit_trainextra/leftImg8bit/{split}",
        ),
        ("gtFine/{split}", "gtFine_trainvaltest/gtFine/{split}", "gtCoarse/{split}", "gtCoarse/gtCoarse/{split}"),
        {},
        "cityscapes",
    ),
}


def tree_of(data: Data) -> Tree | None:
    """Where a recipe's images are; none where its layout is one of videos."""
    if data.layout == "images":
        return Tree((str(data.images),), () if data.masks is None else (data.masks,))
    return TREES.get(data.layout)


def guess_tree(root: Path) -> Layout | None:
    """The layout whose own folders of images and masks are in a folder, if one is."""
    for layout, tree in TREES.items():
        for split in ("train", "val"):
            own = tree.splits.get(split, split)
            if tree.find(tree.images, root, own) and tree.find(tree.masks, root, own):
                return layout
    return None


def read_images(
    name: str, root: Path, tree: Tree, split: str, reader: MaskReader | None, hint: str
) -> list[FolderVideo]:
    """The images of a split in name order, each a video of one frame that is called like its file.

    An image that lies in a folder of the split's, as Cityscapes' lie by city, has that folder before its name unless it
    begins with it anyway.

    Parameters
    ----------
    name, root
        The data set's name, for messages, and its folder.
    tree
        Where images and masks lie.
    split
        Which split.
    reader
        Who knows which files are masks, where they are not called like their images.
    hint
        What to do when there are no images.

    Raises
    ------
    VssError
        There is no folder of this split or no image in it; two files for one frame, or two frames of one name.
    """
    images = tree.find(tree.images, root, split)
    if images is None:
        wanted = " or ".join(tree.places(tree.images, split))
        raise VssError(f"{name}: split {split!r} has no folder of images: {wanted} is not in {root}", hint)
    masks = tree.find(tree.masks, root, split)
    videos = [
        FolderVideo(video, (Frame(video, stem, image, mask),))
        for below in _folders(images, masks)
        for video, stem, image, mask in _frames(images, masks, below, reader)
    ]
    if not videos:
        raise VssError(f"{name}: {images} holds no images", hint)
    twice = [video for video, times in Counter(video.name for video in videos).items() if times > 1]
    if twice:
        raise VssError(f"{name}: {images} holds two images called {some(twice)}", "rename one of them")
    return videos


def require_masks(name: str, root: Path, tree: Tree, split: str) -> None:
    """Refuse a split whose folder of masks is not there.

    Raises
    ------
    VssError
        It tells where masks were looked for.
    """
    if tree.find(tree.masks, root, split) is not None:
        return
    if not tree.masks:
        raise VssError(f"{name}: data.masks is not set, so no image of split {split!r} has labels", "set data.masks")
    wanted = " or ".join(tree.places(tree.masks, split))
    raise VssError(
        f"{name}: the images of split {split!r} have no masks: {wanted} is not in {root}", "put the masks there"
    )


def _folders(images: Path, masks: Path | None) -> list[Path]:
    """All folders below one of images or one of masks, relative to it, in name order, each of the disk once."""
    found = set(folders_below(images).there)
    if masks is not None:
        # What is among the images but was not entered is a link to others of them.
        found |= {below for below in folders_below(masks).there if not (images / below).is_dir()}
    return sorted(found)


def _frames(
    images: Path, masks: Path | None, below: Path, reader: MaskReader | None
) -> Iterator[tuple[str, str, Path | None, Path | None]]:
    """Name, stem, image and mask of what lies in one folder; either file may be missing, as in a video's folder."""
    pictures = by_stem(images / below, IMAGE_SUFFIXES) if (images / below).is_dir() else {}
    labels = masks_by_stem(masks / below, reader) if masks is not None and (masks / below).is_dir() else {}
    labels = called_alike(labels, pictures)
    stems = list(pictures) if labels.keys() <= pictures.keys() else sorted(pictures.keys() | labels.keys())
    before = "_".join(below.parts)
    for stem in stems:
        named = stem if not before or stem.startswith(before + "_") else f"{before}_{stem}"
        yield named, stem, pictures.get(stem), labels.get(stem)
