"""What each kind of stage does: one call of the function that its verb calls, and a fingerprint of what that left."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vsscli.data.content import INDEX, Digests
from vsscli.errors import VssError
from vsscli.inside import Inside
from vsscli.models.checkpoints import Checkpoint, load_checkpoint
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.pictures import draw_pictures
from vsscli.pipeline.predict import predict_split
from vsscli.pipeline.pseudo import pseudo_label
from vsscli.pipeline.submit import Target, submit
from vsscli.pipeline.train import train_recipe
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.pipeline import (
    EnsembleStage,
    EvalStage,
    PredictStage,
    PseudoStage,
    ShowStage,
    SubmitStage,
    TrainStage,
)
from vsscli.stages.job import Job
from vsscli.stages.key import read_out_digest
from vsscli.stages.left import store_fingerprint
from vsscli.stages.needs import checked_record
from vsscli.stages.record import Result
from vsscli.structured import digest_of
from vsscli.talk import SILENCE, Talk
from vsscli.training.begun import begun_run
from vsscli.training.inputs import SCORED, data_inputs, training_inputs
from vsscli.training.sources import open_sources

ZIP = "submission.zip"
TOGETHER = ("train", "predict", "pseudo")
"""Kinds of stages that several processes share the work of, or wait for one another in."""


def perform(
    job: Job, name: str, results: Mapping[str, Result], begin: Callable[[Path], object], talk: Talk = SILENCE
) -> Result:
    """Run a stage; one that was cut off goes on. Stores in its way that hold something else stop it nowhere.

    Parameters
    ----------
    job, name
        The stage.
    results
        What the stages that it takes left.
    begin
        Hears where a store will lie, before anything of it is written.
    talk
        Hears of progress.

    Raises
    ------
    VssError
        What its function refuses.
    """
    stage = job.stage(name)
    context = replace(job.context, data_root=job.place(job.recipe(name).data), talk=talk)
    match stage:
        case TrainStage():
            return _train(job, name, results, talk)
        case PredictStage():
            done = predict_split(
                results[stage.model].path,
                stage.split,
                context=context,
                plan=job.plan(name),
                keep=stage.keep,
                force=True,
                begin=begin,
            )
            return _store(done.store, {"frames": done.predicted + done.cached, "cached": done.cached})
        case EnsembleStage():
            stores = [results[other].path for other in stage.of]
            fused = ensemble(stores, stage.weights, context=context, method=stage.method, force=True, begin=begin)
            return _store(fused, {})
        case PseudoStage():
            labels = pseudo_label(
                [],
                store=results[stage.of].path,
                context=context,
                threshold=stage.threshold,
                percentile=stage.percentile,
                by_class=stage.by_class,
                force=True,
                begin=begin,
            )
            told = labels.to_json()
            return _store(labels.store, {key: told[key] for key in ("threshold", "frames", "pixels", "reliable")})
        case EvalStage():
            return _evaluate(job, name, stage, results, talk)
        case ShowStage():
            folder = job.folder(name)
            inside = Inside(job.workspace)
            for old in sorted(folder.glob("*.png")):
                inside.unlink(old)
            drawn = draw_pictures(
                results[stage.of].path, folder, context=context, videos=stage.videos, frames=stage.frames
            )
            names = [picture.name for picture in drawn]
            return Result(folder, digest_of(names), {"pictures": names})
        case SubmitStage():
            target = Target(context, results[stage.of].path, label_offset=stage.label_offset, prefix=stage.prefix)
            written = submit(target, job.folder(name) / ZIP).written
            facts = {"videos": written.videos, "frames": written.frames, "bytes": written.bytes}
            return Result(written.path, written.sha256, facts)


def fault(job: Job, name: str, result: Result) -> str:
    """What is wrong with a recorded result, in words; empty when it is there and whole."""
    kind = job.stage(name).do
    if kind == "eval":
        return ""
    if not result.path.exists():
        return f"result {result.path} is gone"
    try:
        if kind == "show":
            missing = [picture for picture in result.facts["pictures"] if not (result.path / picture).is_file()]
            return f"result {result.path / missing[0]} is gone" if missing else ""
        if kind == "train":
            there = _fingerprint(load_checkpoint(result.path, weights=False))
        elif kind == "submit":
            with result.path.open("rb") as file:
                there = hashlib.file_digest(file, "sha256").hexdigest()
        else:
            there = store_fingerprint(result.path)
    except (VssError, OSError) as error:
        return f"result {result.path} is damaged: {error}"
    return "" if there == result.fingerprint else f"result {result.path} is not the one that was recorded"


def _store(path: Path, facts: dict[str, Any]) -> Result:
    return Result(path, store_fingerprint(path), facts)


def _train(job: Job, name: str, results: Mapping[str, Result], talk: Talk) -> Result:
    stage, recipe, folder = job.stage(name), job.recipe(name), job.folder(name)
    assert isinstance(stage, TrainStage)
    init = results[stage.init].path if stage.init is not None else None
    pseudo = results[stage.pseudo].path if stage.pseudo is not None else None
    run = train_recipe(
        recipe,
        folder,
        context=replace(job.context, data_root=job.root(recipe.data), talk=talk),
        init=init,
        pseudo_labels=pseudo,
        resume=True,
        checked=checked_record(job),
    )
    facts = {"steps": run.trained_steps, "best": run.best.name, **run.figures}
    return Result(run.last, _fingerprint(load_checkpoint(run.last, weights=False)), facts)


def is_other_run(job: Job, name: str, results: Mapping[str, Result]) -> bool:
    """Whether the folder of a training stage holds a run of something else."""
    stage, recipe = job.stage(name), job.recipe(name)
    if not isinstance(stage, TrainStage):
        return False
    if not (job.folder(name) / "last.pt").exists():
        return False
    paths = [results[other].path if other is not None else None for other in (stage.init, stage.pseudo)]
    with Digests(job.workspace / INDEX) as digests:
        data = data_inputs(open_sources(recipe, job.root(recipe.data)), digests)
    try:
        return begun_run(job.folder(name), recipe, {**training_inputs(recipe, *paths), **data}) is False
    except VssError:
        return True  # a checkpoint that can't be read is no run to go on with


def knows_its_score(job: Job, name: str) -> bool:
    """Whether a stage is a training whose checkpoint notes what its figures are of."""
    if not isinstance(job.stage(name), TrainStage):
        return False
    try:
        return SCORED in load_checkpoint(job.folder(name) / "last.pt", weights=False).inputs
    except VssError:
        return False


def _fingerprint(checkpoint: Checkpoint) -> str:
    """Of the weights and of all that readers of the checkpoint find in its recipe."""
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {checkpoint.path}")
    return digest_of({"weights": checkpoint.fingerprint, "read out": read_out_digest(recipe)})


def _evaluate(job: Job, name: str, stage: EvalStage, results: Mapping[str, Result], talk: Talk) -> Result:
    scores: dict[str, dict[str, float | None]] = {}
    learned: dict[str, int] = {}
    for other in stage.takes():
        done = evaluate(
            context=replace(job.context, data_root=job.place(job.recipe(other).data), talk=talk),
            prediction=results[other].path,
            metrics=stage.metrics,
            protocol=stage.protocol,
        )
        if done.learned:
            learned[other] = done.learned
        scores[other] = done.figures.plain()
    facts = {"scores": scores} | ({"trained_on": learned} if learned else {})
    return Result(job.folder(name), digest_of(scores), facts)
