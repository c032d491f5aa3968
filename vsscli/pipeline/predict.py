"""From a model and a split to a prediction store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.content import INDEX, Digests
from vsscli.data.folders import some
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.left import say_left_out
from vsscli.data.numbering import say_order
from vsscli.data.video import Video
from vsscli.engine.engine import Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.inference.plans import NONE, AugmentationPlan, load_plan
from vsscli.inference.predictor import Predictor
from vsscli.inference.processes import processes_for
from vsscli.inference.readout import ReadOut
from vsscli.inference.windows import chosen_window
from vsscli.models.checkpoints import Checkpoint
from vsscli.models.scores import ScoreKind
from vsscli.pipeline.learned import learned_note
from vsscli.pipeline.source import open_model, take_classes
from vsscli.pipeline.task import Predicting
from vsscli.pipeline.workspace import Begin, older_store, store_path, unheard
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.readout import Predict, StoreSection
from vsscli.recipes.schema import Recipe
from vsscli.store.header import COMPACT, FAMILY, FINE, Encoding, Header
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter, unlike_frames
from vsscli.talk import Silence, Talk

# Raised only if a change of the code alters predictions, so that old stores are not continued with new numbers.
NUMERICS = 2


@dataclass(frozen=True)
class Prediction:
    """A complete store; how many frames were predicted by this call, and how many were cached."""

    store: Path
    predicted: int
    cached: int


def chosen_plan(predict: Predict, *, tta: bool, named: str | AugmentationPlan | None) -> AugmentationPlan:
    """``--tta-plan`` if given, else with ``--tta`` the recipe's plan, else no augmentation."""
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
    context: Context = Context(),
    out: Path | None = None,
    tta: bool = False,
    plan: str | AugmentationPlan | None = None,
    keep: str | None = None,
    part: Part = WHOLE,
    workers: int | None = None,
    force: bool = False,
    begin: Begin = unheard,
) -> Prediction:
    """Predict every frame of a split into a store; frames already in it are kept.

    A video whose frames have changed since they were predicted is predicted again.

    Parameters
    ----------
    model
        A checkpoint, whose recipe says where the data is and how the network is read out; or a recipe whose network is
        already trained (see `vsscli.pipeline.source.open_model`).
    split
        "train", "val", "labelled", "unlabelled", or any other list of the data set.
    context, out
        The store goes to its place in the workspace, or to ``out``.
    tta, plan
        Test-time augmentation by the recipe's plan, or by another plan or its name.
    keep
        "top" (the most likely classes), "fine" (more of them), "compact" (fewer and coarser ones) or "all" (logits as
        float16); `None`: as in the recipe.
    part
        Predict only a share of the videos; other calls predict the others, at the same time if they like, and the store
        is complete when all are done.
    workers
        With an engine other than "local": processes that predict, each with its own copy of the network; `None`: one
        for each GPU of the cluster, or if it has none, for each core.
    force
        Write a new store beside one with other settings in the same place; and predict again what an earlier version
        predicted, which did not note the content of the frames.
    begin
        Called with the place of the store before anything is written there.

    Raises
    ------
    VssError
        The model or the data is unusable, or the store in that place holds other predictions.
    """
    talk = context.talk
    checkpoint = open_model(model, data_root=context.data_root, talk=talk)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    chosen = chosen_plan(recipe.predict, tta=tta, named=plan)
    how = read_out(recipe.predict, chosen, context.precision, checkpoint)
    dataset = open_dataset(recipe.data, context.data_root, talk, noted=True)
    take_classes(checkpoint, dataset)
    videos = dataset.split(split)
    say_order(videos, talk)
    say_left_out(dataset, split, videos, talk)
    whose = split if part == WHOLE else f"part {part} of {split}"
    videos = part.of(videos, [len(video) for video in videos])
    header = _header(checkpoint, recipe, dataset, split, how, keep=keep)
    path = out or store_path(context.workspace, header, f"{recipe.name}-{how.plan.name}")
    total = sum(len(video) for video in videos)
    older = None if force or out or (path / "zarr.json").exists() else older_store(path, header)
    fabric = processes_for(context)
    if older is not None:
        with fabric.rank_zero_first(), Digests(context.workspace / INDEX) as digests:
            there = _look(older, videos, digests, force=False)
        if there.frames == total:
            begin(older, ())
            there.report(older, talk)
            talk.say(
                f"cached: {older}, in an earlier format, holds all {total} frames of {whose}; no network was loaded"
            )
            return Prediction(older, 0, total)
    with fabric.rank_zero_first():
        begin(path, ())
        with StoreWriter(path, header, force=force) as writer:  # refuses a different store in that place
            path = writer.path
        with Digests(context.workspace / INDEX) as digests:
            there = _look(path, videos, digests, force=force)
    missing = total - there.frames
    if not fabric.is_global_zero:
        talk = Silence()
    there.report(path, talk)
    if older is not None:
        talk.say(f"{older} is incomplete and in an earlier format, which can't be continued: predicting all frames")
    fabric.barrier()  # no process writes before all have counted
    if not missing:
        talk.say(f"cached: {path} holds all {total} frames of {whose}; no network was loaded")
        return Prediction(path, 0, total)
    talk.say(
        f"predicting {missing} frames of {dataset.name}, {whose}, with {model}, "
        f"plan {how.plan.name} ({len(how.plan.views())} views), into {path}"
    )
    with StoreWriter(path, header, force=force, renew=True) as writer:
        # Ray chooses which GPU
        device = context.device.partition(":")[0] if context.on_cluster else str(fabric.device)
        task = Predicting(checkpoint, how, device, context.batch_size, writer, context.workspace / INDEX)
        if context.on_cluster:
            _share_out(task, videos, Engine(workers, context.engine, device), talk)
        else:
            for _ in task(videos[fabric.global_rank :: fabric.world_size], 1, talk):
                say_share(task.predictor, talk)
    fabric.barrier()
    return Prediction(path, missing, total - missing)


def _share_out(task: Predicting, videos: Sequence[Video], engine: Engine, talk: Talk) -> None:
    """Predict videos on a cluster, the longest first: one that began last would be waited for."""
    ordered = sorted(videos, key=len, reverse=True)
    with closing(engine.map("predicting", task, ordered, [len(video) for video in ordered], talk)) as done:
        for _ in done:
            pass


def say_share(predictor: Predictor, talk: Talk) -> None:
    """Report what part of the time a predictor's network was at work; the rest it waited for frames or for the disk."""
    share = predictor.stopwatch.share()
    if not math.isnan(share):
        talk.say(f"the network computed for {share:.0%} of the time")


@dataclass(frozen=True)
class _There:
    """What a store already has of some videos.

    Parameters
    ----------
    frames
        Number of frames that need no prediction.
    changed
        Videos whose frames have changed; nothing of them counts.
    unnoted
        Videos for which it does not note the content of frames.
    """

    frames: int
    changed: tuple[str, ...]
    unnoted: tuple[str, ...]

    def report(self, path: Path, talk: Talk) -> None:
        if self.changed:
            which = f"{len(self.changed)} video{'s have' if len(self.changed) > 1 else ' has'} other frames"
            talk.say(f"{which} than {path} was predicted from: {some(self.changed)}; predicted again")
        if self.unnoted:
            talk.warn(
                f"{path} is of an earlier version, which did not note the content of frames: if those of "
                f"{some(self.unnoted)} have changed since, --force predicts them again"
            )


def _look(path: Path, videos: Sequence[Video], digests: Digests, *, force: bool) -> _There:
    """Compare the frames that a store was predicted from with the current ones."""
    if not (path / "zarr.json").exists():
        return _There(0, (), ())  # nothing, or the empty folder that a writer accepts
    store = open_store(path)
    there = set(store.videos(complete=False))
    frames, changed, unnoted = 0, [], []
    for video in videos:
        if video.name not in there:
            continue
        record = store.record(video.name)
        wanted = replace(record, stems=video.stems, size=video.size, frames=digests.video(video))
        if not record.segments:
            continue
        if unlike_frames(record, wanted, unknown=force):
            changed.append(video.name)
            continue
        frames += sum(len(record.bounds(number)) for number in record.segments)
        if not record.frames:
            unnoted.append(video.name)
    return _There(frames, tuple(changed), tuple(unnoted))


def read_out(predict: Predict, plan: AugmentationPlan, precision: str | None, checkpoint: Checkpoint) -> ReadOut:
    """How to read out a checkpoint's network, from the recipe's section, a plan, and a precision if given."""
    window = chosen_window(predict.window, checkpoint.config.fixed_crop)
    return ReadOut(predict.size, window, predict.step, plan, precision or predict.precision, predict.missing)


def made_by(checkpoint: Checkpoint, how: ReadOut) -> dict[str, Any]:
    """Everything that decides the predictions of a frame, as plain JSON values."""
    # Noted only if it matters: otherwise predictions of earlier versions, which lack the note, remain valid.
    lacking = checkpoint.config.scores is ScoreKind.MASK_SCORES and how.missing != "normalise"
    return {
        "weights": checkpoint.fingerprint,
        "size": how.size,
        "window": list(how.window) if how.window else None,
        "step": list(how.step) if how.step else None,
        "scales": list(how.plan.scales),
        "flip": how.plan.flip,
        "precision": how.precision,
        "numerics": NUMERICS,
        **({"missing": how.missing} if lacking else {}),
    }


def _encoding(store: StoreSection, keep: str, num_classes: int) -> Encoding:
    preset = {"compact": COMPACT, "fine": FINE}.get(keep)
    encoding = preset or Encoding(kept=store.kept, keep=keep)
    kept = COMPACT.kept if keep == "compact" else max(encoding.kept, store.kept)
    drop = encoding.drop if store.drop is None else store.drop
    return replace(encoding, grid=store.grid, kept=min(kept, num_classes), drop=drop)


def _header(
    checkpoint: Checkpoint, recipe: Recipe, dataset: Dataset, split: str, how: ReadOut, *, keep: str | None
) -> Header:
    encoding = _encoding(recipe.store, keep or recipe.store.keep, checkpoint.table.num_classes)
    return Header(
        kind="prediction",
        table=checkpoint.table,
        scores=checkpoint.config.scores or "",
        source={**made_by(checkpoint, how), FAMILY: checkpoint.network["family"]},
        encoding=encoding.to_dict(),
        data={
            "name": dataset.name,
            "split": split,
            "root": str(dataset.root.resolve()),
            "section": recipe.data.model_dump(mode="json"),
            **learned_note(checkpoint, recipe),
        },
        summary={"model": recipe.name, "plan": how.plan.name},
    )
