"""A training run: one function, from a recipe to checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric

from vsscli.context import Context
from vsscli.data.augment import TrainAugment
from vsscli.data.batches import TrainItems
from vsscli.data.content import INDEX, Digests
from vsscli.errors import VssError
from vsscli.files import clear_parts
from vsscli.inference.processes import launch
from vsscli.models.checkpoints import load_checkpoint, make_whole
from vsscli.models.norm import convert_sync
from vsscli.recipes.schema import Recipe
from vsscli.store.lock import only_one
from vsscli.talk import SILENCE, Talk
from vsscli.training.averaging import AveragedWeights
from vsscli.training.begun import TrainResult, finished_run, refuse_other
from vsscli.training.inputs import changed_score, data_inputs, training_inputs
from vsscli.training.journal import JOURNAL, Journal
from vsscli.training.loop import Loop
from vsscli.training.mixing import require_partners
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.ready import make_ready
from vsscli.training.sharding import is_sharding, shard
from vsscli.training.sources import Sources, open_sources
from vsscli.training.start import first_network, require_crop, require_precision, require_start
from vsscli.training.state import TrainingState, load_state
from vsscli.training.trackers import Tracked, Trackers, require_trackers


def train(
    recipe: Recipe,
    out: Path,
    *,
    context: Context,
    pseudo_labels: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    force: bool = False,
    check: bool = True,
    checked: Path | None = None,
) -> TrainResult:
    """Train a network; write ``last.pt``, ``best.pt`` and ``journal.jsonl`` to a folder.

    The same recipe, seed, thread count and number of processes give the same weights bit for bit on the CPU, also
    when the run was killed and resumed in between: every random number follows from seed and step.

    Parameters
    ----------
    recipe
        The network, the data and the settings of the training.
    out
        Folder of the run.
    context
        Root of the data; device, number of processes and what they share (`Context.strategy`); trackers of the figures;
        and the workspace, which remembers the digests of files so that unchanged files are not read again.
    pseudo_labels, init
        Override the recipe's pseudo-label store and initial checkpoint.
    resume
        Continue from ``last.pt`` in the folder.
    force
        Start from scratch even if the folder holds a run.
    check
        Before the first step, check every file that the run will read. Otherwise only the names of the frames show
        whether the data has changed since a run in the folder began.
    checked
        File that remembers what the check found sound; by default ``checked.json`` in the folder.

    Raises
    ------
    VssError
        The data is missing or damaged; the folder holds another run, or one on other data; another process is training
        in it; there is nothing to learn from; or options contradict each other.
    """
    if not recipe.model.trains:
        raise VssError(
            f"recipe {recipe.name}: vss cannot train networks of family {recipe.model.family}, only predict with them",
            "name the recipe as the model: vss predict --model RECIPE.yaml, vss pseudo --models RECIPE.yaml",
        )
    recipe.model.require_known()  # before the data is checked
    require_trackers(context.trackers)
    if resume and force:
        raise VssError(
            "--resume continues the run in the folder, --force replaces it: they exclude each other",
            "leave out one of them",
        )
    fabric = launch(
        context.device, context.devices, recipe.train.precision, nodes=context.nodes, strategy=context.strategy
    )
    talk = context.talk if fabric.is_global_zero else SILENCE
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    last = out / "last.pt"
    init = init or (Path(recipe.train.init) if recipe.train.init else None)
    digests = Digests(context.workspace / INDEX)
    alone = only_one(out, "training", "trained in", "wait for it, stop it first, or give another --out")
    with alone if fabric.is_global_zero else nullcontext():
        inputs = training_inputs(recipe, init, pseudo_labels)
        try:
            sources = open_sources(recipe, context.data_root, talk)
            with digests:  # in every process, so that an error reaches all of them
                inputs |= data_inputs(sources, digests if check else None, talk)
        except VssError as error:
            done = finished_run(out, recipe, inputs) if not force else None
            if done is None:
                raise
            talk.warn(f"can't check whether the data of {last} has changed since: {error.message}")
            talk.say(f"cached: {last} is finished ({done.trained_steps} steps); --force trains it again")
            return done
        finished = finished_run(out, recipe, inputs) if not force else None
        if last.exists() and not force:
            refuse_other(out, recipe, inputs, finished=finished is not None, resume=resume, talk=talk)
        scored_anew = finished is not None and changed_score(load_checkpoint(last, weights=False).inputs, inputs) != ""
        fabric.barrier()  # no process writes before all have read
        if finished is not None and not scored_anew:
            talk.say(f"cached: {last} is finished ({finished.trained_steps} steps); --force trains it again")
            return finished
        record = (checked or out / "checked.json") if check and fabric.is_global_zero else None
        resume = resume or scored_anew
        return _learn(
            fabric,
            sources,
            out,
            inputs,
            pseudo_labels,
            init,
            digests,
            record,
            context.trackers,
            resume=resume,
            talk=talk,
        )


def _learn(
    fabric: Fabric,
    sources: Sources,
    out: Path,
    inputs: dict[str, str],
    pseudo_labels: Path | None,
    init: Path | None,
    digests: Digests,
    record: Path | None,
    trackers: Sequence[str],
    *,
    resume: bool,
    talk: Talk,
) -> TrainResult:
    # The recipe of `sources` has the data's root in it: a checkpoint's recipe must find the data without options.
    recipe, dataset = sources.recipe, sources.main
    last, best = out / "last.pt", out / "best.pt"
    require_precision(recipe, fabric.device)
    require_partners(recipe.unlabelled, fabric.world_size)
    if fabric.is_global_zero:
        for path in filter(None, (last, best, record)):
            clear_parts(path)
    fresh = not (resume and last.exists())
    if fresh:
        require_start(recipe, init, talk)
    items, others = make_ready(sources, pseudo_labels, record=record, digests=digests, talk=talk)
    unlabelled = None
    if others is not None and recipe.unlabelled is not None:
        augment = TrainAugment(recipe.augment, strong=recipe.unlabelled.method == "unimatch")
        unlabelled = TrainItems(others.frames, augment, clip=recipe.model.frames)
    torch.manual_seed(recipe.seed)
    network = first_network(recipe, dataset, init, last, fresh=fresh, talk=talk)
    require_crop(network, recipe)
    if fabric.world_size > 1:
        convert_sync(network, fabric.device)
    network.to(fabric.device).to(memory_format=torch.channels_last)
    meaning, sharing = others.meaning if others else None, partial(shard, fabric=fabric)
    objectives = build_objectives(recipe, network, meaning, fabric.autocast, talk, sharing)
    optimiser = build_optimiser(network, recipe.train, objectives.learner.projection)
    average = AveragedWeights(network, recipe.train.ema) if recipe.train.ema else None
    state = TrainingState(objectives, optimiser, average, inputs, precision=fabric.strategy.precision)
    if resume and last.exists():
        if fabric.world_size > 1:  # all map one file, in place of a copy of everything in the memory of each
            if fabric.is_global_zero:
                make_whole(last)
            fabric.barrier()
        load_state(last, state, recipe)
        talk.say(f"continuing {last} at step {state.step} of {recipe.train.steps}")
    talk.say(
        f"training {recipe.name}: {len(items)} labelled frames"
        + (f", {len(unlabelled)} unlabelled ones" if unlabelled is not None else "")
        + f", {recipe.train.steps} steps on {fabric.world_size} x {fabric.device.type}"
        + (", which share out the weights" if is_sharding(fabric) else "")
    )
    journal = None
    if fabric.is_global_zero:
        followed = Tracked(out, recipe.model_dump(mode="json"), state.step)
        journal = Journal(out / JOURNAL, state.step, Trackers(trackers, followed, talk))
    try:
        Loop(fabric, recipe, dataset, state, out, journal, talk).run(items, unlabelled)
    finally:
        if journal is not None:
            journal.close(ended=state.step == recipe.train.steps)
    return TrainResult(last, best, state.figures, state.step)
