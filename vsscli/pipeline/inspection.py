"""Inspection of data and recipes by ``vss doctor``: what was checked, what is wrong, and what could not be checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from vsscli.data.check import FileFault, check_videos
from vsscli.data.classes import load_class_table
from vsscli.data.config import Data
from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.left import left_out
from vsscli.data.numbering import same_numbers, say_numbering, say_order
from vsscli.data.overlap import shared_videos
from vsscli.data.verdict import judge_absent
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.models.torchfile import check_file
from vsscli.recipes.schema import Recipe
from vsscli.store.reader import open_store
from vsscli.talk import SILENCE, Talk
from vsscli.training.sources import open_sources

TABLES = ("classes.json", "classes.yaml", "classes.yml")
USUAL = ("train", "val", "test")


@dataclass
class Inspection:
    """The result of an inspection.

    Parameters
    ----------
    faults
        What must be fixed.
    warnings
        What may be wrong: where, what, and the remedy.
    looked, missed
        What was checked; what was not, and why.
    """

    faults: list[FileFault] = field(default_factory=list)
    warnings: list[FileFault] = field(default_factory=list)
    looked: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def add(self, other: Inspection) -> None:
        """Append another inspection; duplicates are left out."""
        self.faults += [one for one in other.faults if one not in self.faults]
        self.warnings += [one for one in other.warnings if one not in self.warnings]
        self.looked += [one for one in other.looked if one not in self.looked]
        self.missed += [one for one in other.missed if one not in self.missed]


def inspect_data(
    data: Data,
    root: Path | None,
    *,
    described: bool,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Inspection:
    """Check every file of a data set.

    Parameters
    ----------
    data
        The data set.
    root
        Its folder, if not the one that ``data`` names.
    described
        Whether ``data`` comes from a recipe, whose splits must all exist. Otherwise those of train, val and test that
        exist are checked, and masks in splits that have any.
    splits
        The splits to check, if not all of these.
    workers
        As for :func:`vsscli.data.check.check_videos`.
    talk
        Receives progress.
    """
    found = Inspection()
    try:
        dataset = open_dataset(data, root)
    except VssError as error:
        found.faults.append(FileFault(Path(root or data.root), error.message, error.hint))
        return found
    _look_at_classes(dataset, found, described=described)
    there: dict[str, list[FolderVideo]] = {}
    for split in splits or _splits(dataset, described=described):
        try:
            videos = dataset.split(split)
        except VssError as error:
            found.faults.append(FileFault(dataset.root, error.message, error.hint))
            continue
        there[split] = videos
        _look_at_split(dataset, split, videos, found, described=described, workers=workers, talk=talk)
    if not described and splits is None:
        found.missed += [
            f"{dataset.name}: no split {split!r} in {dataset.root}" for split in USUAL if split not in there
        ]
    _look_for_overlap(dataset, there, found)
    found.faults = list(dict.fromkeys(found.faults))  # a video may be in two splits
    found.warnings = list(dict.fromkeys(found.warnings))
    return found


def inspect_recipe(
    recipe: Recipe, root: Path | None, *, workers: int | None = None, talk: Talk = SILENCE
) -> Inspection:
    """Check everything that a recipe needs: the files of its data, its encoder, the weights and labels it starts from.

    ``root`` is the folder of its main data set, if given.
    """
    found = inspect_data(recipe.data, root, described=True, workers=workers, talk=talk)
    for other in recipe.also:
        found.add(inspect_data(other.data, None, described=True, splits=("labelled",), workers=workers, talk=talk))
    try:
        open_sources(recipe, root)
    except VssError as error:
        if not found.faults:  # whatever is missing is listed already
            found.faults.append(FileFault(Path(root or recipe.data.root), error.message, error.hint))
    _look_at_network(recipe, found)
    return found


def _look_at_classes(dataset: Dataset, found: Inspection, *, described: bool) -> None:
    """Which class table is used, and whether another one is in the data set's folder."""
    table, data = dataset.table, dataset.recipe
    lying = [name for name in TABLES if (dataset.root / name).is_file()]
    others = []
    for name in lying:
        try:
            if load_class_table(name, dataset.root).names != table.names:
                others.append(name)
        except VssError as error:
            others.append(name)
            found.warnings.append(FileFault(dataset.root / name, error.message, error.hint))
    taken = f"{dataset.name}: the {table.num_classes} classes of {data.classes}"
    found.looked.append(taken if lying or described else f"{taken}, as there is no {TABLES[0]} in {dataset.root}")
    if others and data.classes not in others:
        found.warnings.append(
            FileFault(
                dataset.root / others[0],
                f"this class table is not used: {table.num_classes} classes of {data.classes} are",
                f"set data.classes: {others[0]} if the masks use its classes, or remove the file",
            )
        )


def _look_at_split(
    dataset: Dataset,
    split: str,
    videos: list[FolderVideo],
    found: Inspection,
    *,
    described: bool,
    workers: int | None,
    talk: Talk,
) -> None:
    whole = dataset.split("train") if split == "labelled" and dataset.recipe.labelled is None else videos
    frames = [frame for video in whole for frame in video.frames]
    masked = sum(frame.mask is not None for frame in frames)
    masks = split in ("labelled", "val") if described else bool(masked)
    sparse = whole is not videos or split != "labelled"
    some = f"{masked} of {len(frames)} frames have masks" if masks and 0 < masked < len(frames) else ""
    counted = f"{len(videos)} videos, {len(frames)} frames, {some or ('with masks' if masks else 'without masks')}"
    talk.say(f"{dataset.name}, {split}: {counted}")
    found.looked.append(f"{dataset.name}, split {split!r}: {counted}")
    look = check_videos(
        videos,
        dataset.meaning,
        masks=masks,
        sparse=sparse,
        what=f"split {split!r} of {dataset.name}",
        workers=workers,
        talk=talk,
    )
    found.faults += [*look.faults, *_look_around(dataset, split, whole, talk)]
    if some and sparse:
        remedy = "only these are scored" if split == "val" else "the others are unlabelled data"
        found.warnings.append(FileFault(dataset.root, f"split {split!r}: {some}", remedy))
    absent = judge_absent(
        look.census, dataset.meaning, f"split {split!r}", "warning" if split == "labelled" else "note"
    )
    for remark in (*look.remarks, *absent):
        if remark.weight == "warning":
            found.warnings.append(FileFault(dataset.root, remark.what, remark.remedy))
        else:
            talk.say(str(remark))


def _look_around(dataset: Dataset, split: str, videos: Sequence[FolderVideo], talk: Talk) -> list[FileFault]:
    """Check names, the order they give, and other files beside those that are read."""
    say_order(videos, talk)
    say_numbering(videos, talk)
    faults = []
    for left in left_out(dataset, split, videos):
        if left.labels and split != "unlabelled":
            faults.append(FileFault(left.place, left.what, left.remedy))
        else:
            talk.warn(f"{left.place}: {left.what}; {left.remedy}")
    for video in videos:
        for one, other in same_numbers(video.stems):
            place = next((f.image or f.mask for f in video.frames if f.stem == one), None) or dataset.root
            what = f"frames {one} and {other} of video {video.name} have the same number, so their order is unknown"
            faults.append(FileFault(place, what, "remove one of them, or renumber the frames"))
    return faults


def _look_for_overlap(dataset: Dataset, there: dict[str, list[FolderVideo]], found: Inspection) -> None:
    """Find videos that are both trained on and scored, by content."""
    trained = next((name for name in ("labelled", "train") if name in there), None)
    if trained is None:
        return
    digests = Digests()
    for scored in ("val", "test"):
        if scored not in there or (trained == "labelled" and dataset.recipe.val in dataset.recipe.train_splits):
            continue
        both = shared_videos(there[scored], there[trained], digests)
        if both:
            named = ", ".join(map(str, both[:5])) + (f" and {len(both) - 5} more" if len(both) > 5 else "")
            what = f"{len(both)} of {len(there[scored])} videos of split {scored!r} are trained on as well: {named}"
            remedy = "figures on them say nothing about new video: training and validation should share no frame"
            found.warnings.append(FileFault(dataset.root, what, remedy))


def _look_at_network(recipe: Recipe, found: Inspection) -> None:
    """Check the encoder, and the files that training or prediction starts from."""
    model = recipe.model
    files: list[tuple[str, str | None]] = [("train.init", recipe.train.init)]
    if model.weights is not None:
        files.append((f"model.{model.weights[0]}", model.weights[1]))
    if model.unseen:
        found.missed.append(model.unseen)
    if model.named_by:
        try:
            model.require_known()
            found.looked.append(f"model.{model.named_by} {getattr(model, model.named_by)}")
        except VssError as error:
            found.faults.append(FileFault(Path(f"model.{model.named_by}"), error.message, error.hint))
    for key, name in files:
        if name is None:
            continue
        try:
            check_file(Path(os.path.expanduser(name)), key)
            found.looked.append(f"{key} {name}: exists")
        except VssError as error:
            found.faults.append(FileFault(Path(name), error.message, error.hint))
    labels = recipe.unlabelled.pseudo_labels if recipe.unlabelled is not None else None
    if labels is not None:
        try:
            open_store(Path(labels))
            found.looked.append(f"unlabelled.pseudo_labels {labels}")
        except VssError as error:
            found.faults.append(FileFault(Path(labels), error.message, error.hint))


def _sparse(dataset: Dataset) -> bool:
    """Whether some frames of the training split have no mask, which then are unlabelled data."""
    with suppress(VssError):
        return bool(dataset.split("unlabelled"))
    return False


def _splits(dataset: Dataset, *, described: bool) -> list[str]:
    data = dataset.recipe
    if described:
        return ["labelled", "val", *(["unlabelled"] if data.labelled or data.unlabelled or _sparse(dataset) else [])]
    there = [name for name in USUAL if dataset.has(name)]
    return there or ["train"]  # whose error names what is missing
