"""Classes of a data set: how often each is labelled, and renaming, merging and dropping them.

Masks and stores are not touched. The class table keeps the former names, by which masks that name their classes are
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.classes import IGNORE, SHIPPED, ClassTable, find_class_table
from vsscli.data.layouts import Dataset
from vsscli.data.masks import names_classes, to_classes
from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.pipeline.frames import every_frame
from vsscli.project.files import class_table
from vsscli.threads import results_in_order


@dataclass(frozen=True)
class Counted:
    """The labels of a split: for each class the labelled pixels, frames and videos; the number of masks, and the share
    of their pixels that has a class."""

    pixels: list[int]
    frames: list[int]
    videos: list[int]
    masks: int
    labelled: float

    @property
    def by_class(self) -> tuple[list[int], list[int], list[int]]:
        """Pixels, frames, videos."""
        return self.pixels, self.frames, self.videos


def count_splits(dataset: Dataset, *, workers: int | None = None, context: Context = Context()) -> dict[str, Counted]:
    """Count the classes in the masks of the split to train on, and of that to evaluate on.

    Parameters
    ----------
    dataset
        The data set.
    workers
        Threads that decode; `None`: one per core.
    context
        Receives the progress.

    Raises
    ------
    VssError
        There are no masks, or one can't be read.
    """
    recipe = dataset.recipe
    splits = ["train"] if any(map(dataset.has, recipe.train_splits)) else []
    if recipe.val not in recipe.train_splits and dataset.has(recipe.val):
        splits.append("val")
    found = {split: _count(dataset, split, workers, context) for split in splits}
    if not any(counted.masks for counted in found.values()):
        raise VssError(f"{dataset.name}: no frame has a mask", "label some frames, or name another data set")
    return {split: counted for split, counted in found.items() if counted.masks}


def _count(dataset: Dataset, split: str, workers: int | None, context: Context) -> Counted:
    count = dataset.table.num_classes
    videos = dataset.split(split)
    masks = [(n, frame.mask) for n, video in enumerate(videos) for frame in video.frames if frame.mask is not None]
    pixels, frames = np.zeros(256, np.int64), np.zeros(256, np.int64)
    within = np.zeros((len(videos), 256), bool)
    jobs = (partial(_histogram, dataset, mask) for _, mask in masks)
    track, decoded = context.talk.track("count", len(masks), "mask"), closing(results_in_order(jobs, workers))
    with track as advance, decoded as histograms:
        for (number, _), found in zip(masks, histograms, strict=True):
            pixels += found
            frames += found > 0
            within[number] |= found > 0
            advance(1)
    each, of_frames, of_videos = (column[:count].tolist() for column in (pixels, frames, within.sum(axis=0)))
    return Counted(each, of_frames, of_videos, len(masks), float(pixels[:count].sum() / max(1, pixels.sum())))


def _histogram(dataset: Dataset, mask: Path) -> np.ndarray:
    label = to_classes(dataset.ids.read(mask), dataset.ids, dataset.table.num_classes, mask)
    return np.bincount(label.ravel(), minlength=256)


def renamed(table: ClassTable, old: str, new: str) -> ClassTable:
    """The table with a class called otherwise."""
    index = _index(table, old)
    if new in table.names:
        raise VssError(f"there is a class {new!r} already", f"to make them one: vss classes merge {old!r} {new!r}")
    names = tuple(new if number == index else name for number, name in enumerate(table.names))
    return replace(table, names=names, former=_former(table, {new}, {old: index}, range(table.num_classes)))


def merged(table: ClassTable, names: Sequence[str], into: str | None = None) -> ClassTable:
    """The table with several classes made one: called ``into``, or like the last of them, in the place of the first."""
    indices = [_index(table, name) for name in names]
    if len(set(indices)) < 2:
        raise VssError("merging takes two classes or more", "name them: vss classes merge car truck --into vehicle")
    into = into if into is not None else names[-1]
    if into in table.names and into not in names:
        raise VssError(f"there is a class {into!r} already", "name it among those that are merged")
    first = min(indices)
    colour = table.colours[table.names.index(into) if into in table.names else first]
    places = _places(table, set(indices) - {first}, first)
    kept = [number for number in range(table.num_classes) if number == first or number not in indices]
    return replace(
        table,
        names=tuple(into if number == first else table.names[number] for number in kept),
        colours=tuple(colour if number == first else table.colours[number] for number in kept),
        former=_former(table, {into}, dict.fromkeys(names, places[first]), places),
    )


def dropped(table: ClassTable, names: Sequence[str]) -> ClassTable:
    """The table without some classes, whose pixels become void."""
    gone = {_index(table, name) for name in names}
    if len(gone) == table.num_classes:
        raise VssError("no class would be left", "leave at least one")
    places = _places(table, gone, None)
    kept = [number for number in range(table.num_classes) if number not in gone]
    return replace(
        table,
        names=tuple(table.names[number] for number in kept),
        colours=tuple(table.colours[number] for number in kept),
        former=_former(table, set(), dict.fromkeys(names, IGNORE), places),
    )


def write_classes(dataset: Dataset, table: ClassTable) -> Path:
    """Replace the class table of a data set by an edited one.

    Raises
    ------
    VssError
        The table is not one of this data set's own, or a mask does not name its classes, and would be read as others.
    """
    path = find_class_table(dataset.recipe.classes, dataset.root)
    if path.parent == SHIPPED or path.suffix.lower() not in (".yaml", ".yml"):
        own = "a table that ships with vss" if path.parent == SHIPPED else f"{path}, which other programs read"
        raise VssError(
            f"the classes are those of {own}",
            "write them to a YAML file of your own (a list `classes` of names), and set data.classes to it",
        )
    if table.names != dataset.table.names and len(table.names) != len(dataset.table.names):
        numbered = next(
            (f.mask for f in every_frame(dataset) if f.mask is not None and not names_classes(f.mask)), None
        )
        if numbered is not None:
            raise VssError(
                f"mask {numbered} holds numbers and does not name its classes, so it would be read as other classes",
                "rewrite the masks first: vss import FOLDER --from png --out labels/",
            )
    write_text(path, class_table(table))
    return path


def _index(table: ClassTable, name: str) -> int:
    if name not in table.names:
        shown = ", ".join(table.names[:20]) + (" …" if len(table.names) > 20 else "")
        raise VssError(f"there is no class {name!r}", f"the classes are {shown}")
    return table.names.index(name)


def _places(table: ClassTable, gone: set[int], target: int | None) -> list[int]:
    """The new index of each class: those of ``gone`` become ``target``, an old index, or void."""
    kept = [number for number in range(table.num_classes) if number not in gone]
    places = {number: place for place, number in enumerate(kept)}
    instead = IGNORE if target is None else places[target]
    return [places.get(number, instead) for number in range(table.num_classes)]


def _former(
    table: ClassTable, names: set[str], more: dict[str, int], places: Sequence[int]
) -> tuple[tuple[str, int], ...]:
    """Former names: those that there were, at the new places of their classes, and more; without current ones.

    Raises
    ------
    VssError
        A current name was that of another class before: masks that still name that one would be read as this one.
    """
    before = {old: IGNORE if index == IGNORE else places[index] for old, index in table.former}
    for name in names & before.keys():
        if before[name] not in more.values():
            now = "was dropped" if before[name] == IGNORE else "has another name now"
            raise VssError(
                f"there was a class {name!r}, which {now}; masks and stores may still name it", "choose another name"
            )
    found = before | more
    return tuple((old, index) for old, index in found.items() if old not in names)
