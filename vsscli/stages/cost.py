"""What stages cost, counted before they run: passes through networks, operations, bytes of stores.

Passes are counted by the functions that train and predict, operations on networks without weights. Operations of
losses and of everything that is no network are left out: they are small beside it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vsscli.data.config import Data
from vsscli.data.layouts import class_table
from vsscli.drawn.canvas import CLASSES
from vsscli.drawn.scene import drawn_frames
from vsscli.errors import VssError
from vsscli.inference.plans import NONE, AugmentationPlan
from vsscli.inference.predictor import ReadOut, windows_of
from vsscli.models.config import NetworkConfig
from vsscli.models.cost import Outline, outline
from vsscli.recipes.pipeline import EnsembleStage, PredictStage, PseudoStage, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.stages.job import Job
from vsscli.stages.key import Frames
from vsscli.stages.record import Record

ASSUMED_SIZE = (480, 853)
"""Height and width of a frame that can't be looked at: VSPW's at 480 lines."""

# Bytes a pixel of the frame that a store takes, few classes (up to 32) and many: docs/results.md, "The prediction
# store": 236 and 92 kB a frame of 360x480 with 11 classes, 977 and 344 kB of 480x853 with 124.
BYTES_A_PIXEL = {
    "top": (236e3 / (360 * 480), 977e3 / (480 * 853)),
    "fine": (267e3 / (360 * 480), 1236e3 / (480 * 853)),
    "compact": (92e3 / (360 * 480), 344e3 / (480 * 853)),
}
GRID_SHARE = {1: 1.0, 2: 117 / 224, 4: 74 / 224}  # of the default, score grids 2 and 4: the table below it
LABEL_BYTES = (3e3 / (360 * 480), 14e3 / (480 * 853))  # the first of the four figures "of these"
ENTROPY_BYTES = (52e3 / (360 * 480), 124e3 / (480 * 853))  # the second
FEW_CLASSES = 32

WORTH_SAYING = 0.05
"""Validation is named where it is more than this share of a training's operations."""


@dataclass(frozen=True)
class StageCost:
    """What a stage costs; None where it can't be told.

    Parameters
    ----------
    work
        What is done, in words: "400 steps x 8 crops of 480x480".
    passes
        Images that go through a network: crops forward and backward, or windows forward.
    flops
        Operations of its networks.
    stored
        Bytes of its store.
    notes
        What was assumed, and what is not known for what reason.
    """

    work: str = ""
    passes: int | None = 0
    flops: float | None = 0.0
    stored: float | None = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """How many frames a split has (None: not known), and how large they are."""

    frames: int | None
    size: tuple[int, int]
    notes: tuple[str, ...] = ()


def stage_cost(job: Job, name: str, frames: Frames) -> StageCost:
    """Count what a stage costs when nothing of it is there. What can't be counted, and why, is in the notes."""
    stage = job.stage(name)
    if isinstance(stage, TrainStage):
        return _train(job, name, frames)
    if isinstance(stage, PredictStage):
        return _predict(job, name, stage, frames)
    if isinstance(stage, EnsembleStage | PseudoStage):
        extent = extent_of(job, job.recipe(name).data, job.split(name), frames)
        classes, notes = _classes(job, job.recipe(name))
        if extent.frames is None or classes is None:
            return StageCost("", 0, 0.0, None, (*extent.notes, *notes))
        pixels = extent.frames * math.prod(extent.size)
        if isinstance(stage, PseudoStage):
            stored = pixels * LABEL_BYTES[classes > FEW_CLASSES]
        else:
            stored = pixels * bytes_a_pixel(_kept(job, name), job.recipe(name).store.grid, classes)
        return StageCost(f"{extent.frames} frames", 0, 0.0, stored, extent.notes)
    return StageCost()


def bytes_a_pixel(keep: str, grid: int, num_classes: int) -> float:
    """Bytes that a store takes for a pixel of a frame, as measured; of all logits an upper bound."""
    many = num_classes > FEW_CLASSES
    if keep == "all":
        return 2 * num_classes / grid**2 + LABEL_BYTES[many] + ENTROPY_BYTES[many]
    return BYTES_A_PIXEL[keep][many] * GRID_SHARE[grid]


def measured_rate(records: Iterable[Record]) -> float | None:
    """Operations a second that finished stages have sustained, validation and reading included; None without any."""
    pairs = [(record.flops, record.seconds) for record in records if record.flops and record.seconds]
    seconds = sum(seconds for _, seconds in pairs)
    return sum(flops for flops, _ in pairs) / seconds if seconds else None


def extent_of(job: Job, data: Data, split: str, frames: Frames) -> Extent:
    """How many frames a split has, from the data set's lists; what is yet to be drawn is known from the recipe."""
    root = job.root(data) or Path(data.root)
    if data.scene is not None and not (root.is_dir() and os.listdir(root)):
        drawn = drawn_frames(data.scene)
        return Extent(drawn.get(split, drawn["train"]), data.scene.size)  # `labelled` is all of `train`
    try:
        videos_there = frames.videos(data, split)
    except VssError as error:
        return Extent(None, ASSUMED_SIZE, (error.message,))
    number = sum(len(video) for video in videos_there)
    try:
        return Extent(number, videos_there[0].size)
    except (VssError, OSError):
        note = f"no frame of {data.name}/{split} can be looked at: {ASSUMED_SIZE[1]}x{ASSUMED_SIZE[0]} assumed"
        return Extent(number, ASSUMED_SIZE, (note,))


def _train(job: Job, name: str, frames: Frames) -> StageCost:
    recipe = job.recipe(name)
    settings, unlabelled, crop = recipe.train, recipe.unlabelled, recipe.augment.crop
    labelled_crops = settings.batch_size * settings.accumulate
    other_crops = unlabelled.batch_size * settings.accumulate if unlabelled is not None else 0
    crops = settings.steps * (labelled_crops + other_crops)
    work = f"{settings.steps} steps x {labelled_crops + other_crops} crops of {crop[0]}x{crop[1]}, forward and backward"
    network, notes = _network(job, recipe)
    if network is None:
        return StageCost(work, crops, None, 0.0, notes)
    asked = 0  # crops that the averaged student looks at as well
    if unlabelled is not None and (unlabelled.contrast is not None or unlabelled.teacher == "ema"):
        asked = settings.steps * (other_crops + (labelled_crops if unlabelled.contrast is not None else 0))
    # Backward is twice forward: a gradient of the input and one of the weights; with checkpointing forward comes twice.
    passes = crops * (4 if recipe.model.recomputes else 3) + asked
    val = extent_of(job, recipe.data, "val", frames)
    times = math.ceil(settings.steps / settings.validate_every) if settings.validate_every else int(recipe.validated)
    notes = tuple(f"validation not counted: {note}" for note in val.notes if times)
    try:
        flops = float(passes * network.flops(crop))
        if val.frames is not None and times:
            checked = times * val.frames * _frame_flops(network, recipe, NONE, val.size)
            flops += checked
            if checked > WORTH_SAYING * flops:
                what = "the last validation" if times == 1 else f"its {times} validations"
                notes += (f"{what} of {val.frames} frames {'is' if times == 1 else 'are'} {checked / flops:.0%} of it",)
    except (VssError, RuntimeError, ValueError) as error:
        return StageCost(work, crops, None, 0.0, (f"crops of {crop[0]}x{crop[1]} do not fit the network: {error}",))
    return StageCost(work, crops, flops, 0.0, notes)


def _predict(job: Job, name: str, stage: PredictStage, frames: Frames) -> StageCost:
    recipe, plan = job.recipe(name), job.plan(name)
    extent = extent_of(job, recipe.data, stage.split, frames)
    network, notes = _network(job, recipe)
    classes, _ = _classes(job, recipe)
    notes = (*extent.notes, *notes)
    if network is None or classes is None:
        return StageCost(f"{extent.frames} frames", None, None, None, notes)
    windows = sum(_windows(network, recipe, plan, extent.size).values())
    work = f"{extent.frames} frames x {windows} windows ({len(plan.views())} views)"
    if extent.frames is None:
        return StageCost(work.replace("None frames", "frames not known"), None, None, None, notes)
    flops = extent.frames * _frame_flops(network, recipe, plan, extent.size)
    pixels = extent.frames * math.prod(extent.size)
    stored = pixels * bytes_a_pixel(_kept(job, name), recipe.store.grid, classes)
    return StageCost(work, extent.frames * windows, flops, stored, notes)


def _windows(
    network: Outline, recipe: Recipe, plan: AugmentationPlan, size: tuple[int, int]
) -> dict[tuple[int, int], int]:
    how = ReadOut(recipe.predict.size, recipe.predict.window, recipe.predict.step, plan)
    return windows_of(size, how, network.crop, network.divisor, network.stride)


def _frame_flops(network: Outline, recipe: Recipe, plan: AugmentationPlan, size: tuple[int, int]) -> float:
    windows = _windows(network, recipe, plan, size)
    return float(sum(number * network.flops(window) for window, number in windows.items()))


def _kept(job: Job, name: str) -> str:
    """What the store of a stage keeps: a fusion is as fine as the finest of its sources, and keeps lists."""
    stage = job.stage(name)
    if isinstance(stage, PredictStage):
        return stage.keep or job.recipe(name).store.keep
    kept = {_kept(job, other) for other in stage.takes()}
    if kept == {"compact"}:
        return "compact"
    return "fine" if "fine" in kept else "top"


def _classes(job: Job, recipe: Recipe) -> tuple[int | None, tuple[str, ...]]:
    root = job.root(recipe.data)
    try:
        return class_table(recipe.data, root).num_classes, ()
    except VssError as error:
        if recipe.data.scene is not None:
            return len(CLASSES), ()
        return None, (error.message,)


def _network(job: Job, recipe: Recipe) -> tuple[Outline | None, tuple[str, ...]]:
    classes, notes = _classes(job, recipe)
    if classes is None:
        return None, notes
    try:
        return _outline(recipe.model.bare(), classes), ()
    except VssError as error:
        return None, (f"the network of {recipe.name} can't be built: {error.message}",)


@lru_cache(maxsize=16)
def _outline(config: NetworkConfig, num_classes: int) -> Outline:
    """The same network is counted once for all stages that it is in."""
    return outline(config, num_classes)
