"""Layouts: where a data set's frames and masks are. A new one is an entry of `TREES`.

``vspw``, the layout of VSPW and of data that vss writes, ``folders``, for the output of cameras and scripts, and
``files``, given by a recipe's ``data.videos`` (`data.clips`), hold videos. The others are published data sets of
images, including common variants, and ``images`` is given by a recipe's ``data.images`` and ``data.masks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vsscli.data.config import Data

SPLIT, VIDEO = "{split}", "{video}"
COCO_SPLITS = {"train": "train2017", "val": "val2017", "test": "test2017"}


@dataclass(frozen=True)
class Tree:
    """Where frames and masks are under a data set's root.

    Parameters
    ----------
    images, masks
        Folders with ``{split}`` for the split's name and, for videos, ``{video}`` for the video's, the usual one first.
        Without ``{video}`` every image is a video of one frame, and folders in these folders are searched.
    listed
        The file that lists a split's videos; without it they are the folders that exist.
    undivided
        Whether the root itself holds the split's videos if there is no folder of the split.
    splits
        The owners' names of splits, if they differ.
    files
        How the masks are written (`data.encodings`), which must be that of the mapping; `None`: any. Without a
        recipe, masks are read by the mapping that has the layout's name.
    """

    images: tuple[str, ...]
    masks: tuple[str, ...]
    listed: str = ""
    undivided: bool = False
    splits: Mapping[str, str] = field(default_factory=dict)
    files: str | None = None

    @property
    def of_videos(self) -> bool:
        """Whether there is a folder for each video."""
        return VIDEO in self.images[0]

    def places(self, templates: tuple[str, ...], split: str, video: str = "") -> list[str]:
        """The possible folders of a split, or of a video of it, relative to the root."""
        names = [split, *([self.splits[split]] if split in self.splits else [])]
        filled = (
            template.replace(f"{SPLIT}/", name and f"{name}/").replace(SPLIT, name).replace(VIDEO, video)
            for template in templates
            for name in names
        )
        return list(dict.fromkeys(filled))

    def find(self, templates: tuple[str, ...], root: Path, split: str, video: str = "") -> Path | None:
        """The first of these folders that exists."""
        return next((root / place for place in self.places(templates, split, video) if (root / place).is_dir()), None)

    def has(self, root: Path, split: str) -> bool:
        """Whether there is a list or a folder of a split, by its name on disk."""
        if self.listed:
            return (root / self.listed.replace(SPLIT, split)).exists()
        return self.find(self._before(), root, split) is not None

    def base(self, root: Path, split: str) -> Path:
        """The folder that holds, or should hold, the folders of a split's videos."""
        found = self.find(self._before(), root, split)
        return found or (root if self.undivided else root / self.places(self._before(), split)[0])

    def _before(self) -> tuple[str, ...]:
        return tuple(template.partition(VIDEO)[0] for template in self.images)


TREES: dict[str, Tree] = {
    "vspw": Tree(("data/{video}/origin", "data/{video}"), ("data/{video}/mask",), listed="{split}.txt"),
    "folders": Tree(("{split}/{video}/origin", "{split}/{video}"), ("{split}/{video}/mask",), undivided=True),
    "files": Tree(("{video}",), ("{video}/mask",), undivided=True),  # `data.clips` knows the rest
    "ade20k": Tree(
        ("images/{split}", "ADEChallengeData2016/images/{split}"),
        ("annotations/{split}", "ADEChallengeData2016/annotations/{split}"),
        splits={"train": "training", "val": "validation"},
        files="values",
    ),
    "cocostuff": Tree(
        ("{split}", "images/{split}"),
        ("stuffthingmaps/{split}", "stuffthingmaps_trainval2017/{split}", "annotations/{split}"),
        splits=COCO_SPLITS,
        files="cocostuff",
    ),
    "coco-panoptic": Tree(
        ("{split}", "images/{split}"),
        ("annotations/panoptic_{split}", "panoptic_{split}", "annotations/panoptic/panoptic_{split}"),
        splits=COCO_SPLITS,
        files="coco-panoptic",
    ),
    "cityscapes": Tree(  # images and masks are in folders by city
        (
            "leftImg8bit/{split}",
            "leftImg8bit_trainvaltest/leftImg8bit/{split}",
            "leftImg8bit_trainextra/leftImg8bit/{split}",
        ),
        ("gtFine/{split}", "gtFine_trainvaltest/gtFine/{split}", "gtCoarse/{split}", "gtCoarse/gtCoarse/{split}"),
        files="cityscapes",
    ),
}


def tree_of(data: Data) -> Tree:
    """Where a recipe's frames and masks are."""
    if data.layout == "images":
        return Tree((str(data.images),), () if data.masks is None else (data.masks,))
    return TREES[data.layout]


def guess_images(root: Path) -> str | None:
    """The layout of images whose folders of images and masks exist under a root, if any."""
    for layout, tree in TREES.items():
        for split in ("train", "val") if not tree.of_videos else ():
            own = tree.splits.get(split, split)
            if tree.find(tree.images, root, own) and tree.find(tree.masks, root, own):
                return layout
    return None
