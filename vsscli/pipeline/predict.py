"""From a model and a split to a prediction store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.left import say_left_out
from vsscli.data.numbering import say_order
from vsscli.data.videos import Video
from vsscli.inference.plans import NONE, AugmentationPlan, load_plan
from vsscli.inference.predictor import Predictor, ReadOut
from vsscli.inference.processes import launch
from vsscli.inference.run import predict_videos
from vsscli.inference.windows import chosen_window
from vsscli.models.build import fixed_crop
from vsscli.models.checkpoints import Checkpoint, restore_network
from vsscli.pipeline.source import open_model, take_classes, with_weights
from vsscli.pipeline.workspace import store_path
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.schema import Predict, Recipe
from vsscli.recipes.schema import Store as StoreSection
from vsscli.store.header import COMPACT, FINE, Encoding, Header
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter
from vsscli.talk import SILENCE, Silence, Talk

# Raised only when a change of the code alters predictions, so that old stores are not continued with new numbers.
NUMERICS = 2


@dataclass(frozen=True)
class Hardware:
    """What a network runs on; the same options for every verb that runs one."""

    device: str = "auto"
    precision: str | None = None
    batch_size: int = 8
    devices: int = 1


@dataclass(frozen=True)
class Prediction:
    """A complete store, and what had to be done for it: frames predicted now, frames that were there."""

    store: Path
    predicted: int
    cached: int


def chosen_plan(predict: Predict, *, tta: bool, named: str | AugmentationPlan | None) -> AugmentationPlan:
    """``--tta-plan`` if given, else with ``--tta`` the recipe's plan, else none."""
    if isinstance(named, AugmentationPlan):
        return named
    if named is not None:
        return load_plan(named)
    if not tta:
        return NONE
    if isinstance(predict.tta, str):
        return load_plan(predict.tta)
    return AugmentationPlan("recipe", predict.tta.scales, predict.tta.flip)


def predict_split(
    model: Path,
    split: str,
    *,
    workspace: Path,
    out: Path | None = None,
    data_root: Path | None = None,
    tta: bool = False,
    plan: str | AugmentationPlan | None = None,
    hardware: Hardware = Hardware(),
    keep: str | None = None,
    force: bool = False,
    begin: Callable[[Path], object] | None = None,
    talk: Talk = SILENCE,
) -> Prediction:
    """Predict every frame of a split into a store; what is there already is kept.

    Parameters
    ----------
    model
        A checkpoint, with the recipe that says where the data is and how the network is read out; or such a recipe
        whose network is trained already (see `vsscli.pipeline.source.open_model`).
    split
        "train", "val", "labelled", "unlabelled", or any other list of the data set.
    workspace, out
        The store goes to its place in the workspace, or to ``out``.
    data_root
        Overrides the root of the checkpoint's data set.
    tta, plan
        Test-time augmentation: none, the recipe's plan, or another one, by name or itself.
    hardware
        Device, precision, batch size, processes.
    keep
        "top" (the most likely classes), "fine" (more of them), "compact" (fewer and coarser ones) or "all" (logits as
        float16); none: what the recipe says.
    force
        Write a new store beside one of other settings at the same place.
    begin
        Hears where the store will lie, before anything is written there.

    Raises
    ------
    VssError
        The model or the data is unusable, or the store in that place holds other predictions.
    """
    checkpoint = open_model(model, data_root=data_root, talk=talk)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    chosen = chosen_plan(recipe.predict, tta=tta, named=plan)
    how = read_out(recipe.predict, chosen, hardware.precision, checkpoint)
    dataset = open_dataset(recipe.data, data_root, talk, noted=True)
    take_classes(checkpoint, dataset)
    videos = dataset.split(split)
    say_order(videos, talk)
    say_left_out(dataset, split, videos, talk)
    header = _header(checkpoint, recipe, dataset, split, how, keep=keep)
    path = out or store_path(workspace, header, f"{recipe.name}-{how.plan.name}")
    total = sum(len(video) for video in videos)
    fabric = launch(hardware.device, hardware.devices)
    with fabric.rank_zero_first():
        if begin is not None:
            begin(path)
        with StoreWriter(path, header, force=force) as writer:  # refuses what is there if it is something else
            path = writer.path
    missing = total - _present_frames(path, videos)
    fabric.barrier()  # every process has counted before one of them writes
    if not missing:
        talk.say(f"cached: {path} holds all {total} frames of {split}; no network was loaded")
        return Prediction(path, 0, total)
    talk.say(
        f"predicting {missing} frames of {dataset.name}/{split} with {model}, "
        f"plan {how.plan.name} ({len(how.plan.views())} views), into {path}"
    )
    predictor = Predictor(
        restore_network(with_weights(checkpoint)),
        checkpoint.normalisation,
        how,
        fabric.device,
        batch_size=hardware.batch_size,
    )
    with StoreWriter(path, header, force=force) as writer:
        predict_videos(
            predictor,
            videos,
            writer,
            talk=talk if fabric.is_global_zero else Silence(),
            rank=fabric.global_rank,
            world=fabric.world_size,
        )
    fabric.barrier()
    return Prediction(path, missing, total - missing)


def _present_frames(path: Path, videos: Sequence[Video]) -> int:
    """How many frames of these videos a store holds; none of a video whose frames are others than the store's."""
    if not (path / "zarr.json").exists():
        return 0  # nothing, or the empty folder that a writer accepts
    store = open_store(path)
    there = set(store.videos(complete=False))
    present = 0
    for video in videos:
        if video.name in there and store.stems(video.name) == video.stems:
            record = store.record(video.name)
            present += sum(len(record.bounds(number)) for number in record.segments)
    return present


def read_out(predict: Predict, plan: AugmentationPlan, precision: str | None, checkpoint: Checkpoint) -> ReadOut:
    """How a checkpoint's network is read out: the recipe's section, a plan, and a precision if one is given."""
    window = chosen_window(predict.window, fixed_crop(checkpoint.network))
    return ReadOut(predict.size, window, predict.step, plan, precision or predict.precision)


def made_by(checkpoint: Checkpoint, how: ReadOut) -> dict[str, Any]:
    """What decides the predictions of a frame, as plain JSON values."""
    return {
        "weights": checkpoint.fingerprint,
        "size": how.size,
        "window": list(how.window) if how.window else None,
        "step": list(how.step) if how.step else None,
        "scales": list(how.plan.scales),
        "flip": how.plan.flip,
        "precision": how.precision,
        "numerics": NUMERICS,
    }


def _encoding(store: StoreSection, keep: str, num_classes: int) -> Encoding:
    if keep == "compact":
        return replace(COMPACT, grid=store.grid, kept=min(COMPACT.kept, num_classes))
    if keep == "fine":
        return replace(FINE, grid=store.grid, kept=min(max(FINE.kept, store.kept), num_classes))
    return Encoding(grid=store.grid, kept=min(store.kept, num_classes), keep=keep)


def _header(
    checkpoint: Checkpoint, recipe: Recipe, dataset: Dataset, split: str, how: ReadOut, *, keep: str | None
) -> Header:
    encoding = _encoding(recipe.store, keep or recipe.store.keep, checkpoint.table.num_classes)
    return Header(
        kind="prediction",
        table=checkpoint.table,
        scores=checkpoint.network["family"],
        source=made_by(checkpoint, how),
        encoding=encoding.to_dict(),
        data={"name": dataset.name, "split": split, "root": str(dataset.root.resolve())},
        summary={"model": recipe.name, "plan": how.plan.name, "data": recipe.data.model_dump(mode="json")},
    )
