"""Data sets: which videos make up a split, what their masks mean, and where all of it is found."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsscli.data.classes import IGNORE, ClassTable, load_class_table, read_class_entries
from vsscli.data.clips import ALL
from vsscli.data.config import Data, Layout
from vsscli.data.folders import read_list, some
from vsscli.data.mapping import FIRST_ID, load_mapping
from vsscli.data.masks import MaskIds
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import plain, respelled
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
    """An opened data set: what to call it, its folder, its C classes, what its masks mean, and its recipe's section."""

    name: str
    root: Path
    table: ClassTable
    ids: MaskIds
    recipe: Data

    @property
    def meaning(self) -> Meaning:
        """What the values of its masks are said to mean, and by which class table."""
        return Meaning(self.table, self.ids, self.recipe.classes)

    def split(self, name: str) -> list[FolderVideo]:
        """The videos of a split, as listed, with their frames in the order of time (`data.numbering`).

        Parameters
        ----------
        name
            ``train`` and ``val`` stand for the splits that the recipe names so, of which ``train`` may be several, one
            after the other. ``labelled``: the frames of ``train`` whose labels count, those that the recipe lists, or
            that have a mask. ``unlabelled``: its other frames, whatever masks lie beside them, and the splits that the
            recipe adds. Any other name is a split as it lies on disk.

        Raises
        ------
        VssError
            A list, a video or a frame is not there, the split would be empty, or a video would be in ``train`` twice.
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
                f"{self.name}: {some(twice)} would be training data twice, by the splits {self._told_train()}",
                "each video may be in one of the splits of data.train",
            )
        return videos

    def _told_train(self) -> str:
        return " and ".join(map(repr, self.recipe.train_splits))

    def _listed(self, split: str) -> list[FolderVideo]:
        require_names([split], f"split of {self.name}", "name a split, such as train or val, and no path")
        return read_split(self.recipe, self.root, split, self.ids.reader)

    def _labelled(self) -> list[FolderVideo]:
        videos = self._train()
        for split in self.recipe.train_splits:
            require_masks(self.name, self.root, tree_of(self.recipe), split)
        if self.recipe.labelled is None:
            return _only(videos, _has_mask) or videos  # where none has a mask, each lacks it
        chosen = self._addresses(videos)
        return _only(videos, lambda frame: frame.address in chosen)

    def _addresses(self, videos: Sequence[FolderVideo]) -> frozenset[str]:
        """The frames that the recipe's list of labelled frames names; all of them must be in the training split."""
        path = self.root / str(self.recipe.labelled)
        if not path.is_file():
            raise VssError(
                f"{self.name}: the list of labelled frames {path} is not there",
                "data.labelled is a path from the data set's folder",
            )
        listed = read_list(path)
        known = respelled(frame.address for video in videos for frame in video.frames)
        strange = [address for address in listed if plain(address) not in known]
        if strange:
            raise VssError(
                f"{path} lists {some(strange)}, not among the frames of split {self._told_train()}",
                "write one <video>/<stem> per line, without suffix, of frames of that split",
            )
        return frozenset(known[plain(address)] for address in listed)

    def _without_mask(self) -> list[FolderVideo]:
        """The frames of the training split that have no mask, where others have one."""
        try:
            train = self._train()
        except VssError:
            if not self.recipe.unlabelled:
                raise
            return []  # the further splits are all that is at hand
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
                f"take the split that repeats {'it' if len(twice) == 1 else 'them'} out of data.unlabelled",
            )
        if not videos:
            raise VssError(
                f"{self.name} has no unlabelled frames: every label of split {self._told_train()} counts, "
                "and data.unlabelled names no other split",
                "name splits in data.unlabelled, or list the frames whose labels count in data.labelled",
            )
        # Masks may lie beside these frames, but the recipe says that they do not count: nobody gets to see them.
        return [FolderVideo(v.name, tuple(replace(frame, mask=None) for frame in v.frames)) for v in videos]


def open_dataset(data: Data, root: str | Path | None = None, talk: Talk = SILENCE, *, noted: bool = False) -> Dataset:
    """Find a data set.

    Parameters
    ----------
    data
        The recipe's section.
    root
        Folder to take instead of the one in the environment variable ``data.root_env`` or, last, ``data.root``.
    talk
        Hears when synthetic videos (``data.scene``) are drawn because there is no such folder.
    noted
        Whether a checkpoint or a store notes the section. That may be a stranger's: it has nothing drawn outside of the
        working directory.

    Returns
    -------
    Dataset
        Lists and videos are read, and missed, when a split is asked for.

    Raises
    ------
    VssError
        The folder or the class table is not there; the hint says where the data is published and what runs without.
    """
    place, said_by = _choose_root(data, root)
    if data.scene is not None and _wants_scene(place) and (not noted or _is_near(place)):
        draw_scene(data.scene, place, talk)
    if not place.is_dir():
        wrong = "is not a folder" if place.exists() else "is not there"
        raise VssError(f"{data.name}: the data set's folder {place} ({said_by}) {wrong}", how_to_get(data))
    tree = tree_of(data)
    if tree.listed and not tree.base(place, "").is_dir():
        base = tree.base(place, "").relative_to(place)
        raise VssError(f"{data.name}: {place} ({said_by}) has no folder `{base}` with the videos", how_to_get(data))
    table = load_class_table(data.classes, place)
    entry_ids = [entry.id for entry in read_class_entries(data.classes, place)[1]]
    if entry_ids != list(range(table.num_classes)):
        raise VssError(
            f"class table {data.classes} numbers its classes from {entry_ids[0]} to {entry_ids[-1]}, not 0, 1, 2, …",
            "number them without gaps from 0 (data.first_id tells class 0's mask value); `vss remap` rewrites masks",
        )
    ids = _mask_ids(data, place, table)
    ids.lookup(table.num_classes)  # a clash between void values and classes shows here, not at the first mask
    return Dataset(data.name, place, table, ids, data)


def data_place(data: Data) -> Path:
    """The folder that a data set is read from where no other is given; it need not be there."""
    return _choose_root(data, None)[0]


def class_table(data: Data, root: str | Path | None = None) -> ClassTable:
    """The class table of a data set that need not be there, if the table is."""
    place, _ = _choose_root(data, root)
    return load_class_table(data.classes, place)


def _mask_ids(data: Data, root: Path, table: ClassTable) -> MaskIds:
    """What the data set's masks mean, and who reads them."""
    if data.remap is None:
        legend = legend_of(table, data.first_id, data.void_ids)
        return MaskIds(data.void_ids, data.first_id, data.unknown_ids, legend=legend)
    mapping = load_mapping(data.remap, root)
    tree = tree_of(data)
    if tree.files not in (None, mapping.files):
        raise VssError(
            f"{data.name}: mapping {mapping.name} reads masks written as {mapping.files}, and those of layout "
            f"{data.layout} are written as {tree.files} (data.remap, data.layout)",
            f"take a mapping with `files: {tree.files}`, such as {data.layout}",
        )
    if mapping.target.names != table.names:
        raise VssError(
            f"mapping {mapping.name} tells masks in the classes of {mapping.target.name}, "
            f"not in those of {table.name} (data.remap, data.classes)",
            f"set data.classes to {mapping.target.name}, or take another mapping",
        )
    return MaskIds((IGNORE,), FIRST_ID, "error", mapping)


def plain_data(root: str | Path, classes: str | None = None, layout: Layout | None = None, val: str = "val") -> Data:
    """Describe a data set that no recipe describes.

    Parameters
    ----------
    root
        Its folder.
    classes
        Class table; none: ``classes.json`` or ``classes.yaml`` in the folder, else VSPW's. With VSPW's own classes
        stray mask values are void, as the official evaluation takes them (a few of its files hold some).
    layout
        How it lies on disk; none: as a published data set of images if its folders are there and `classes` is not
        given, with masks told in VSPW's classes; else as VSPW does.
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
    """The folder to take, and which setting says so."""
    if root is not None:
        return Path(os.path.expanduser(root)), "given"
    if data.root_env and os.environ.get(data.root_env):
        return Path(os.path.expanduser(os.environ[data.root_env])), f"from {data.root_env}"
    return Path(os.path.expanduser(data.root)), "data.root"


def _wants_scene(root: Path) -> bool:
    """Whether a folder is for synthetic videos: not there, empty, or drawn (then perhaps of other parameters)."""
    return not root.exists() or (root.is_dir() and (not os.listdir(root) or (root / MARKER).is_file()))


def _is_near(place: Path) -> bool:
    return place.resolve().is_relative_to(Path.cwd().resolve())


def _twice(videos: Sequence[FolderVideo]) -> list[str]:
    return [name for name, times in Counter(video.name for video in videos).items() if times > 1]


def _has_mask(frame: Frame) -> bool:
    return frame.mask is not None


def _only(videos: Sequence[FolderVideo], keep: Callable[[Frame], bool]) -> list[FolderVideo]:
    """The frames that ``keep`` says yes to; a video that none is left of is gone."""
    kept = [(video.name, tuple(frame for frame in video.frames if keep(frame))) for video in videos]
    return [FolderVideo(name, frames) for name, frames in kept if frames]
