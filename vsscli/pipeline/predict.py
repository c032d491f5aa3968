"""From a model and a split to a prediction store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.content import INDEX, Digests
from vsscli.data.folders import some
from vsscli.data.left import say_left_out
from vsscli.data.numbering import say_order
from vsscli.data.video import Video
from vsscli.engine.engine import Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.processes import processes_for
from vsscli.pipeline.request import Request, request
from vsscli.pipeline.task import Predicting
from vsscli.pipeline.workspace import Begin, older_store, unheard
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter, unlike_frames
from vsscli.talk import SILENCE, Silence, Talk


@dataclass(frozen=True)
class Prediction:
    """A complete store; how many frames were predicted by this call, how many were cached, and how many other models
    predicted along."""

    store: Path
    predicted: int
    cached: int
    along: int = 0


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
    along: Sequence[Path] = (),
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
    along
        Other models that will be asked for the same. Those over the same frozen trunk predict along, each into its own
        place, because the trunk then sees the frames only once.
    begin
        Called with the place of the store before anything is written there.

    Raises
    ------
    VssError
        The model or the data is unusable, or the store in that place holds other predictions.
    """
    talk = context.talk
    how: dict[str, Any] = {"tta": tta, "plan": plan, "keep": keep}
    asked = request(model, split, context, **how, talk=talk)
    say_order(asked.videos, talk)
    say_left_out(asked.dataset, split, asked.videos, talk)
    whose = split if part == WHOLE else f"part {part} of {split}"
    videos = part.of(asked.videos, [len(video) for video in asked.videos])
    header, path = asked.header, out or asked.place
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
            beside = []
            if there.frames < total:
                others = [request(other, split, context, **how, talk=SILENCE) for other in along]
                fitting = {other.header.fingerprint: other for other in others if asked.fits(other)}
                fitting.pop(header.fingerprint, None)  # the same predictions, in the same place
                beside = [other for other in fitting.values() if _lacks(other, videos, digests, force)]
    missing = total - there.frames
    if not fabric.is_global_zero:
        talk = Silence()
    there.report(path, talk)
    if older is not None:
        talk.say(f"{older} is incomplete and in an earlier format, which can't be continued: predicting all frames")
    fabric.barrier()  # no process writes before all have counted
    if not missing:
        cached = f"cached: {path} holds all {total} frames of {whose}" if total else f"{whose} has no video"
        talk.say(f"{cached}; no network was loaded")
        return Prediction(path, 0, total)
    views = asked.look.how.plan
    talk.say(
        f"predicting {missing} frames of {asked.dataset.name}, {whose}, with {model}, "
        f"plan {views.name} ({len(views.views())} views), into {path}"
    )
    for other in beside:
        talk.say(f"{other.checkpoint.path} is over the same frozen trunk and predicts along, into {other.place}")
    with ExitStack() as held:
        stores = [(path, header), *((other.place, other.header) for other in beside)]
        writers = [held.enter_context(StoreWriter(*store, force=force, renew=True)) for store in stores]
        # Ray chooses which GPU
        device = context.device.partition(":")[0] if context.on_cluster else str(fabric.device)
        checkpoints = (asked.checkpoint, *(other.checkpoint for other in beside))
        index = context.workspace / INDEX
        task = Predicting(checkpoints, asked.look.how, device, context.batch_size, tuple(writers), index)
        if context.on_cluster:
            _share_out(task, videos, Engine(workers, context.engine, device), talk)
        else:
            for _ in task(videos[fabric.global_rank :: fabric.world_size], 1, talk):
                say_share(task.predictor, talk)
    fabric.barrier()
    return Prediction(path, missing, total - missing, len(beside))


def _lacks(asked: Request, videos: Sequence[Video], digests: Digests, force: bool) -> bool:
    """Whether predictions of some videos are missing from a store, which may have to be created."""
    if not force and older_store(asked.place, asked.header) is not None:
        return False
    with StoreWriter(asked.place, asked.header, force=force) as writer:
        return _look(writer.path, videos, digests, force=force).frames < sum(map(len, videos))


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
