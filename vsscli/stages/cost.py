"""Counting what stages cost: frames, operations of networks, bytes of stores.

Passes are counted by the functions that train and predict, operations on networks without weights. Losses and
everything outside the network are left out, because they are small beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vsscli.data.layouts import class_table
from vsscli.drawn.canvas import CLASSES
from vsscli.drawn.scene import drawn_frames
from vsscli.errors import VssError
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.readout import ReadOut, count_windows
from vsscli.models.config import NetworkConfig
from vsscli.models.cost import Outline, outline
from vsscli.recipes.schema import Recipe
from vsscli.report.progress import duration
from vsscli.stages.key import Frames
from vsscli.stages.kind import Kind, StageCost
from vsscli.stages.record import Record

ASSUMED_SIZE = (480, 853)
"""Height and width assumed for frames that can't be read: VSPW's at 480 lines."""

# Bytes per pixel of the frame in a store, for few classes (up to 32) and many: docs/results.md, "The prediction store":
# 236 and 92 kB per frame of 360x480 with 11 classes, 977 and 344 kB of 480x853 with 124.
BYTES_A_PIXEL = {
    "top": (236e3 / (360 * 480), 977e3 / (480 * 853)),
    "fine": (267e3 / (360 * 480), 1236e3 / (480 * 853)),
    "compact": (92e3 / (360 * 480), 344e3 / (480 * 853)),
}
GRID_SHARE = {1: 1.0, 2: 117 / 224, 4: 74 / 224}  # of the default, score grids 2 and 4: the table below it
LABEL_BYTES = (3e3 / (360 * 480), 14e3 / (480 * 853))  # the first of the four figures "of these"
ENTROPY_BYTES = (52e3 / (360 * 480), 124e3 / (480 * 853))  # the second
FEW_CLASSES = 32


@dataclass(frozen=True)
class Extent:
    """How many frames a split has (`None`: unknown), and their size."""

    frames: int | None
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def store_cost(kind: Kind[Any], frames: Frames, keep: str) -> StageCost:
    """The cost of making a store of other stores; ``keep`` as for `bytes_a_pixel`."""
    extent, (classes, notes) = extent_of(kind, kind.split, frames), classes_of(kind)
    if extent.frames is None or classes is None:
        return StageCost("", 0, 0.0, None, (*extent.notes, *notes))
    each = math.prod(extent.size) * bytes_a_pixel(keep, kind.recipe.store.grid, classes)
    return StageCost(f"{extent.frames} frames", 0, 0.0, extent.frames * each, extent.notes)


def bytes_a_pixel(keep: str, grid: int, num_classes: int) -> float:
    """Measured bytes per pixel of a frame in a store; for all logits an upper bound.

    ``keep`` is as in a recipe, or "labels" for a store of labels only.
    """
    many = num_classes > FEW_CLASSES
    if keep == "labels":
        return LABEL_BYTES[many]
    if keep == "all":
        return 2 * num_classes / grid**2 + LABEL_BYTES[many] + ENTROPY_BYTES[many]
    return BYTES_A_PIXEL[keep][many] * GRID_SHARE[grid]


def measured_rate(records: Iterable[Record]) -> float | None:
    """Operations per second of finished stages, validation and reading included; `None` if there are none."""
    pairs = [(record.flops, record.seconds) for record in records if record.flops and record.seconds]
    seconds = sum(seconds for _, seconds in pairs)
    return sum(flops for flops, _ in pairs) / seconds if seconds else None


def time_left(flops: Iterable[float | None], records: Iterable[Record]) -> str:
    """How long stages of some operations take at the rate of finished ones, in words; empty if there is no telling."""
    known, rate = list(flops), measured_rate(records)
    if rate is None or not sum(value or 0 for value in known):
        return ""
    about = "at least" if None in known else "about"
    return f"{about} {duration(sum(value or 0 for value in known) / rate)} left for all"


def extent_of(kind: Kind[Any], split: str, frames: Frames) -> Extent:
    """How many frames a split has, by the data set's lists; for a scene that is not drawn yet, by the recipe."""
    data = kind.recipe.data
    root = kind.job.root(data) or Path(data.root)
    if data.scene is not None and not (root.is_dir() and os.listdir(root)):
        drawn = drawn_frames(data.scene)
        return Extent(drawn.get(split, drawn["train"]), data.scene.size)  # `labelled` is all of `train`
    try:
        _, videos_there = frames.open(data, split)
    except VssError as error:
        return Extent(None, ASSUMED_SIZE, (error.message,))
    number = sum(len(video) for video in videos_there)
    try:
        return Extent(number, videos_there[0].size)
    except (VssError, OSError):
        note = f"no frame of {data.name}/{split} can be read: {ASSUMED_SIZE[1]}x{ASSUMED_SIZE[0]} assumed"
        return Extent(number, ASSUMED_SIZE, (note,))


def windows_in(
    network: Outline, recipe: Recipe, plan: AugmentationPlan, size: tuple[int, int]
) -> dict[tuple[int, int], int]:
    """How many windows of which size a frame is split into for a network."""
    how = ReadOut(recipe.predict.size, recipe.predict.window, recipe.predict.step, plan)
    return count_windows(size, how, network.crop, network.divisor, network.stride)


def frame_flops(
    network: Outline, recipe: Recipe, plan: AugmentationPlan, size: tuple[int, int], *, seen: bool = False
) -> float:
    """Operations per frame; without those of a frozen trunk that has ``seen`` it."""
    windows = windows_in(network, recipe, plan, size)
    return float(sum(number * network.flops(window, seen=seen) for window, number in windows.items()))


def classes_of(kind: Kind[Any]) -> tuple[int | None, tuple[str, ...]]:
    """How many classes a stage's data set has; `None` and the reason if that is unknown."""
    data = kind.recipe.data
    try:
        return class_table(data, kind.job.root(data)).num_classes, ()
    except VssError as error:
        return (None, (error.message,)) if data.scene is None else (len(CLASSES), ())


def network_of(kind: Kind[Any]) -> tuple[Outline | None, tuple[str, ...]]:
    """A stage's network without its weights; `None` and the reason if it can't be built."""
    classes, notes = classes_of(kind)
    if classes is None:
        return None, notes
    try:
        return _outline(kind.recipe.model.bare(), classes), ()
    except VssError as error:
        return None, (f"the network of {kind.recipe.name} can't be built: {error.message}",)


@lru_cache(maxsize=16)
def _outline(config: NetworkConfig, num_classes: int) -> Outline:
    """The outline of a network, counted once for all stages that use it."""
    return outline(config, num_classes)
