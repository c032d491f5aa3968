"""Data sets: the videos of a split, what their masks mean, and where they are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsscli.data.classes import IGNORE, ClassTable, load_class_table, read_class_entries
from vsscli.data.clips import ALL
from vsscli.data.config import Data
from vsscli.data.folders import read_list, some
from vsscli.data.mapping import FIRST_ID, load_mapping
from vsscli.data.masks import MaskIds
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import composed, respelled
from vsscli.data.splits import how_to_get, read_split, require_masks
from vsscli.data.trees import TREES, guess_images, tree_of
from vsscli.data.verdict import Meaning
from vsscli.data.videos import FolderVideo, Frame
from vsscli.drawn.scene import MARKER, draw_scene
from vsscli.errors import VssError
from vsscli.names import plain_name, require_names
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Dataset:
    """An opened data set: its name, folder, class table, the meaning of its masks, and its section of the recipe."""

    name: str
    root: Path
    table: ClassTable
    ids: MaskIds
    recipe: Data

    @property
    def meaning(self) -> Meaning:
        """What the values of its masks are declared to mean, and in which class table."""
        return Meaning(self.table, self.ids, self.recipe.classes)

    @property
    def noted(self) -> Data:
        """Its section with the folder where it was found: what is kept must not depend on where vss was called."""
        return self.recipe.model_copy(update={"root": str(self.root.resolve())})

    def split(self, name: str) -> list[FolderVideo]:
        """The videos of a split in the order of its list, with their frames in the order of time (`data.numbering`).

        Parameters
        ----------
        name
            ``train`` and ``val`` are the recipe's splits; ``train`` may consist of several. ``labelled`` is the frames
            of ``train`` whose labels are used: those that the recipe lists, or those with a mask. ``unlabelled`` is its
            other frames, even if they have masks, and the splits that the recipe adds. Any other name is a split on
            disk.

        Raises
        ------
        VssError
            A list, a video or a frame is missing, the split would be empty, or a video would be in ``train`` twice.
        """
        if name == "labelled":
            return self._labelled()
        if name == "unlabelled":
            return self._unlabelled()
        if name == "train":
            return self._train()
        return self._listed(self.recipe.val if name == "val" else name)

    def has(self, split: str) -> bool:
        """Whether there is a list or a folder of a split, by its name on disk."""
        if self.recipe.layout == "files":
            return split in (ALL, *self.recipe.train_splits, *([self.recipe.val] if self.recipe.held_out else []))
        return tree_of(self.recipe).has(self.root, split)

    def _train(self) -> list[FolderVideo]:
        videos = [video for split in self.recipe.train_splits for video in self._listed(split)]
        twice = _twice(videos)
        if twice:
            raise VssError(
                f"{self.name}: {some(twice)} would be training data twice, from the splits {self._train_names()}",
                "each video may be in only one of the splits of data.train",
            )
        return videos

    def _train_names(self) -> str:
        return " and ".join(map(repr, self.recipe.train_splits))

    def _listed(self, split: str) -> list[FolderVideo]:
        require_names([split], f"split of {self.name}", "name a split, such as train or val, not a path")
        return read_split(self.recipe, self.root, split, self.ids.reader)

    def _labelled(self) -> list[FolderVideo]:
        videos = self._train()
        for split in self.recipe.train_splits:
            require_masks(self.name, self.root, tree_of(self.recipe), split)
        if self.recipe.labelled is None:
            return _only(videos, _has_mask) or videos  # if no frame has a mask, all count as lacking one
        chosen = self._addresses(videos)
        return _only(videos, lambda frame: frame.address in chosen)

    def _addresses(self, videos: Sequence[FolderVideo]) -> frozenset[str]:
        """The frames in the recipe's list of labelled frames; all of them must be in the training split."""
        path = self.root / str(self.recipe.labelled)
        if not path.is_file():
            raise VssError(
                f"{self.name}: the list of labelled frames {path} does not exist",
                "set data.labelled to a path relative to the data set's folder",
            )
        listed = read_list(path)
        known = respelled(frame.address for video in videos for frame in video.frames)
        strange = [address for address in listed if composed(address) not in known]
        if strange:
            raise VssError(
                f"{path} lists {some(strange)}, which are not frames of split {self._train_names()}",
                "write one <video>/<stem> per line, without suffix, of frames of that split",
            )
        return frozenset(known[composed(address)] for address in listed)

    def _without_mask(self) -> list[FolderVideo]:
        """The frames of the training split without a mask, if others have one."""
        try:
            train = self._train()
        except VssError:
            if not self.recipe.unlabelled:
                raise
            return []  # only the further splits are available
        bare = _only(train, lambda frame: not _has_mask(frame))
        return bare if _only(train, _has_mask) else []

    def _unlabelled(self) -> list[FolderVideo]:
        further = [video for split in self.recipe.unlabelled for video in self._listed(split)]
        if self.recipe.labelled is not None:
            train = self._train()
            chosen = self._addresses(train)
            videos = _only(train, lambda frame: frame.address not in chosen) + further
        else:
            names = {video.name for video in further}
            videos = [video for video in self._without_mask() if video.name not in names] + further
        twice = _twice(videos)
        if twice:
            raise VssError(
                f"{self.name}: {some(twice)} would be unlabelled data twice",
                f"remove the split that repeats {'it' if len(twice) == 1 else 'them'} from data.unlabelled",
            )
        if not videos:
            raise VssError(
                f"{self.name} has no unlabelled frames: every label of split {self._train_names()} is used, "
                "and data.unlabelled names no other split",
                "name splits in data.unlabelled, or list the frames whose labels are used in data.labelled",
            )
        # These frames may have masks, but the recipe says not to use them, so they are dropped.
        return [FolderVideo(v.name, tuple(replace(frame, mask=None) for frame in v.frames)) for v in videos]


def open_dataset(data: Data, root: str | Path | None = None, talk: Talk = SILENCE, *, noted: bool = False) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    data
        The recipe's section.
    root
        Folder to use instead of the one in the environment variable ``data.root_env`` or in ``data.root``.
    talk
        Called when synthetic videos (``data.scene``) are drawn because the folder does not exist.
    noted
        Whether the section comes from a checkpoint or a store. Those may be a stranger's, so they can have nothing
        drawn outside of the working directory.

    Returns
    -------
    Dataset
        Lists and videos are read when a split is requested.

    Raises
    ------
    VssError
        The folder or the class table is missing; the hint says where the data is published and what runs without it.
    """
    place, setting = _choose_root(data, root)
    if data.scene is not None and _wants_scene(place) and (not noted or _is_near(place)):
        draw_scene(data.scene, place, talk)
    if not place.is_dir():
        wrong = "is not a folder" if place.exists() else "does not exist"
        raise VssError(f"{data.name}: the data set's folder {place} ({setting}) {wrong}", how_to_get(data))
    tree = tree_of(data)
    if tree.listed and not tree.base(place, "").is_dir():
        base = tree.base(place, "").relative_to(place)
        raise VssError(f"{data.name}: {place} ({setting}) has no folder `{base}` with the videos", how_to_get(data))
    table = load_class_table(data.classes, place)
    entry_ids = [entry.id for entry in read_class_entries(data.classes, place)[1]]
    if entry_ids != list(range(table.num_classes)):
        raise VssError(
            f"class table {data.classes} numbers its classes from {entry_ids[0]} to {entry_ids[-1]}, not 0, 1, 2, …",
            "number them without gaps from 0 (data.first_id is the mask value of class 0); `vss remap` rewrites masks",
        )
    ids = _mask_ids(data, place, table)
    ids.lookup(table.num_classes)  # finds clashes of void values and classes before the first mask is read
    return Dataset(data.name, place, table, ids, data)


def data_place(data: Data) -> Path:
    """The folder that a data set is read from if no other is given; it need not exist."""
    return _choose_root(data, None)[0]


def class_table(data: Data, root: str | Path | None = None) -> ClassTable:
    """The class table of a data set; only the table has to exist."""
    place, _ = _choose_root(data, root)
    return load_class_table(data.classes, place)


def _mask_ids(data: Data, root: Path, table: ClassTable) -> MaskIds:
    """What the data set's masks mean, and what reads them."""
    if data.remap is None:
        legend = legend_of(table, data.first_id, data.void_ids)
        return MaskIds(data.void_ids, data.first_id, data.unknown_ids, legend=legend)
    mapping = load_mapping(data.remap, root)
    tree = tree_of(data)
    if tree.files not in (None, mapping.files):
        raise VssError(
            f"{data.name}: mapping {mapping.name} reads masks written as {mapping.files}, and those of layout "
            f"{data.layout} are written as {tree.files} (data.remap, data.layout)",
            f"use a mapping with `files: {tree.files}`, such as {data.layout}",
        )
    if mapping.target.names != table.names:
        raise VssError(
            f"mapping {mapping.name} converts masks to the classes of {mapping.target.name}, "
            f"not to those of {table.name} (data.remap, data.classes)",
            f"set data.classes to {mapping.target.name}, or use another mapping",
        )
    return MaskIds((IGNORE,), FIRST_ID, "error", mapping, legend_of(table, FIRST_ID))


def plain_data(root: str | Path, classes: str | None = None, layout: str | None = None, val: str = "val") -> Data:
    """The section of a data set that no recipe describes.

    Parameters
    ----------
    root
        Its folder.
    classes
        Class table; `None`: ``classes.json`` or ``classes.yaml`` in the folder, otherwise VSPW's. With VSPW's own
        classes unknown mask values are void, as in the official evaluation (a few of its files have some).
    layout
        Layout on disk; `None`: that of a published data set of images if its folders exist and `classes` is not given,
        with masks converted to VSPW's classes; otherwise VSPW's.
    val
        The split to evaluate on.
    """
    place = Path(os.path.expanduser(root))
    name = plain_name(place.resolve().name)
    if layout is None:
        guess = not (place / "data").is_dir() and classes is None
        layout = (guess_images(place) if guess else None) or "vspw"
    if classes is None and layout in TREES and TREES[layout].files is not None:
        return Data(name=name, root=str(place), layout=layout, remap=layout, val=val)
    if classes is None:
        found = [name for name in ("classes.json", "classes.yaml", "classes.yml") if (place / name).is_file()]
        classes = found[0] if found else "vspw124"
    unknown: Literal["error", "void"] = "void" if classes == "vspw124" else "error"
    return Data(name=name, root=str(place), layout=layout, classes=classes, val=val, unknown_ids=unknown)


def _choose_root(data: Data, root: str | Path | None) -> tuple[Path, str]:
    """The folder to use, and the setting it comes from."""
    if root is not None:
        return Path(os.path.expanduser(root)), "given"
    if data.root_env and os.environ.get(data.root_env):
        return Path(os.path.expanduser(os.environ[data.root_env])), f"from {data.root_env}"
    return Path(os.path.expanduser(data.root)), "data.root"


def _wants_scene(root: Path) -> bool:
    """Whether a folder is for synthetic videos: missing, empty, or drawn before (maybe with other parameters)."""
    return not root.exists() or (root.is_dir() and (not os.listdir(root) or (root / MARKER).is_file()))


def _is_near(place: Path) -> bool:
    return place.resolve().is_relative_to(Path.cwd().resolve())


def _twice(videos: Sequence[FolderVideo]) -> list[str]:
    return [name for name, times in Counter(video.name for video in videos).items() if times > 1]


def _has_mask(frame: Frame) -> bool:
    return frame.mask is not None


def _only(videos: Sequence[FolderVideo], keep: Callable[[Frame], bool]) -> list[FolderVideo]:
    """The frames for which ``keep`` is true; videos without any are left out."""
    kept = [(video.name, tuple(frame for frame in video.frames if keep(frame))) for video in videos]
    return [FolderVideo(name, frames) for name, frames in kept if frames]
