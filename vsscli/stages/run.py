"""Running a pipeline: finished stages are kept, interrupted ones continue."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vsscli.context import Context
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.inference.processes import launch
from vsscli.inside import require_inside
from vsscli.names import several
from vsscli.recipes.graph import chosen, in_order, require_stage
from vsscli.stages.cost import time_left
from vsscli.stages.job import Job, open_job
from vsscli.stages.key import Frames, key_of
from vsscli.stages.left import outdated
from vsscli.stages.needs import refuse_leaks, refuse_missing, require_sound
from vsscli.stages.plan import Step, look, make_plan, without_earlier
from vsscli.stages.record import Record, Result, read_records, read_stage_record, write_stage_record
from vsscli.stages.summary import Outcome, write_summary
from vsscli.store.lock import only_one
from vsscli.structured import read_json
from vsscli.talk import Silence


@dataclass(frozen=True)
class Ran:
    """The result of a run, stage by stage, and the files that summarise it."""

    outcomes: tuple[Outcome, ...]
    summary: Path
    table: Path | None
    seconds: float

    def result(self, name: str) -> Result:
        """The result of a stage."""
        return next(outcome.result for outcome in self.outcomes if outcome.name == name)

    def to_json(self) -> dict[str, Any]:
        """The summary as it was written."""
        values: dict[str, Any] = read_json(self.summary, "summary", "run again")
        return {**values, "summary": str(self.summary), "table": None if self.table is None else str(self.table)}


def run(
    pipeline: str | Path,
    stages: str | Sequence[str] = (),
    *,
    overrides: str | Sequence[str] = (),
    until: str | None = None,
    force: str | Sequence[str] = (),
    context: Context = Context(),
) -> Ran:
    """Run the stages of a pipeline that are not done, as ``vss run`` does.

    Parameters
    ----------
    pipeline
        A YAML file, or a pipeline that ships with vss.
    stages, until
        Stages to run with everything they need, or the last stage to run; without either, all.
    overrides
        ``key.key=value``, or several.
    force
        Stages to repeat even though they are done.
    context
        Where to work, on what data and which devices.

    Raises
    ------
    VssError
        As `run_pipeline` does, or the pipeline or one of its recipes is wrong.
    """
    job = open_job(pipeline, overrides, context=context)
    return run_pipeline(job, names=several(stages), until=until, force=several(force))


def run_pipeline(
    job: Job,
    *,
    names: Sequence[str] = (),
    until: str | None = None,
    force: Sequence[str] = (),
    command: Sequence[str] = (),
) -> Ran:
    """Run the stages of a pipeline that are not done.

    Parameters
    ----------
    job
        The pipeline, and where it runs; its context's `talk` reports every stage.
    names, until
        Which stages; see `vsscli.recipes.graph.chosen`.
    force
        Stages to repeat. Stages that take their results run again only if these change.
    command
        The command line, for the summary.

    Raises
    ------
    VssError
        There is no such stage, something that stages need is missing, a split would be scored that was trained on,
        another process runs the same pipeline, or a stage fails.
    """
    since = time.perf_counter()
    Engine(place=job.context.engine)  # refused before a training, not after it
    stages = chosen_stages(job, names, until, force)
    for folder in (job.home, *map(job.folder, stages)):
        require_inside(job.workspace, folder)
    refuse_leaks(job, stages)
    fabric = launch(job.context.device, job.context.devices, nodes=job.context.nodes)
    leader = fabric.is_global_zero
    if not leader:
        job = replace(job, context=replace(job.context, talk=Silence()))
    talk = job.context.talk
    threads = torch.get_num_threads()
    alone = only_one(job.home, "pipeline", "run", "wait for it, or stop it first")
    with alone if leader else nullcontext():
        frames = Frames(job)
        with fabric.rank_zero_first():  # one process draws the scenes
            plan = make_plan(job, stages, frames, force)
            waiting = [step.name for step in plan if step.status != "cached"]
            refuse_missing(job, waiting, frames)
            if leader:
                require_sound(job, waiting, frames)
        results: dict[str, Result] = {}
        outcomes = []
        gone: set[str] = set()  # stages whose earlier result was removed and replaced by a different one
        for number, name in enumerate(stages, 1):
            fabric.barrier()  # all processes read the last result and decide about this stage before any writes
            step = look(job, name, results, frames, force=name in force)
            if step.result is not None:
                talk.say(f"{name}: cached, skipping")
                if leader:
                    _bring_up(job, step)
                outcomes.append(Outcome(name, "cached", "", step.record, step.result))
            else:
                ahead = [one for one in stages[number - 1 :] if one == name or one in waiting]
                left = _left(job, ahead, frames) if leader else ""
                talk.say(f"{name}: {step.reason} (stage {number} of {len(stages)}{left})")
                if gone.intersection(job.stage(name).takes()):
                    step = without_earlier(job, step)
                fabric.barrier()
                record = _run(job, step, results, frames, leader=leader, barrier=fabric.barrier)
                torch.set_num_threads(threads)  # a recipe's thread count is that of its own training
                assert record.result is not None
                earlier = step.record.result if step.record is not None else None
                if step.anew and earlier is not None and earlier.fingerprint != record.result.fingerprint:
                    gone.add(name)
                outcomes.append(Outcome(name, "done", step.reason, record, record.result))
            results[name] = outcomes[-1].result
        fabric.barrier()
        seconds = time.perf_counter() - since
        rest = [name for name in in_order(job.pipeline.stages) if name not in results]
        steps = make_plan(job, rest, frames, known=results)
        others = [Outcome(one.name, "cached", "", one.record, one.result) for one in steps if one.result is not None]
        summary, table = write_summary(job, [*outcomes, *others], command, seconds, write=leader)
        fabric.barrier()
    return Ran(tuple(outcomes), summary, table, seconds)


def chosen_stages(job: Job, names: Sequence[str], until: str | None, force: Sequence[str]) -> list[str]:
    """The stages that a command line asks for, in order; refuses unknown names, and forcing one that does not run."""
    stages = chosen(job.pipeline, names, until)
    for name in force:
        require_stage(job.pipeline, name)
        if name not in stages:
            raise VssError(
                f"--force {name}: that stage is not among those to run ({', '.join(stages)})",
                f"name it as well: vss run RECIPE {name} --force {name}",
            )
    return stages


def _bring_up(job: Job, step: Step) -> None:
    """Add digests of the frames to the record of a stage that an earlier version ran."""
    noted = read_stage_record(job.folder(step.name))
    if step.record is not None and noted is not None and noted.key != step.record.key:
        job.context.talk.warn(
            f"{step.name} was run by an earlier version, which compared frames by names and sizes: if one was replaced "
            f"by another of its size since, repeat it with --force {step.name}; from now on contents are compared"
        )
        write_stage_record(job.folder(step.name), step.record)


def _run(
    job: Job,
    step: Step,
    results: dict[str, Result],
    frames: Frames,
    *,
    leader: bool,
    barrier: Callable[[], None],
) -> Record:
    """Run one stage, and record its beginning and its end."""
    kind, folder = job.kind(step.name), job.folder(step.name)
    key = key_of(kind, results, frames)
    fresh = step.record is None or step.record.status == "done" or step.record.key != key
    anew = step.anew or kind.is_other(results)
    barrier()
    forced = step.reason == "forced" or (step.record is not None and step.record.forced and not fresh)
    stores = [] if step.record is None else [*step.record.begun]

    def begin(place: Path, sources: Sequence[Path] = ()) -> None:
        """Remove what must not be continued before the record says so."""
        if leader:
            if anew or (sources and outdated(place, sources)):
                kind.discard([place])
            kind.trim(place, frames)
            stores.append(place)
            write_stage_record(folder, Record("begun", key, forced, stores=_there(stores, place)))

    if leader:
        if anew:
            kind.discard(step.stores)
        # The place of a store is known only during the work: until then the record says that it may be stale.
        stale = anew and kind.leaves_store
        write_stage_record(folder, Record("begun", key, forced, stores=_there(stores), stale=stale))
    barrier()
    partly = not fresh or kind.is_begun()  # the time of a part of the work means nothing
    since = time.perf_counter()
    result = None
    if leader or kind.together:
        result = kind.perform(results, begin)
    seconds = time.perf_counter() - since
    if leader:
        flops = kind.cost(frames).flops
        partly |= result is not None and bool(result.facts.get("cached") or result.facts.get("along"))
        took = None if partly else round(seconds, 3)
        write_stage_record(folder, Record("done", key, forced, took, flops, result, _there(stores)))
    barrier()
    record = read_stage_record(folder)
    assert record is not None
    return record


def _left(job: Job, names: Sequence[str], frames: Frames) -> str:
    """How long some stages will take, as the end of a remark."""
    records = read_records(job.workspace)
    left = time_left((job.kind(name).cost(frames).flops for name in names), records) if records else ""
    return f", {left}" if left else ""


def _there(stores: Sequence[Path], *more: Path) -> tuple[Path, ...]:
    """The stores that exist, each once, and others."""
    return tuple(dict.fromkeys([*(path for path in stores if path.suffix == ".zarr" and path.is_dir()), *more]))
