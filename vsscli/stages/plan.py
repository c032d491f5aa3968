"""Which stages are done, and why the others are not."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from vsscli.errors import VssError
from vsscli.stages.job import Job
from vsscli.stages.key import Frames, brought_up, differences, key_of
from vsscli.stages.record import Record, Result, read_stage_record


@dataclass(frozen=True)
class Step:
    """What to do about a stage.

    Parameters
    ----------
    status
        "cached": nothing; "run": its work; "waits": it is decided when the stages before it have run.
    reason
        Why it is not cached, in words.
    record
        The record of an earlier run.
    anew
        Whether nothing of an earlier run may be used.
    stores
        Stores of earlier runs to remove, besides one in the place where the stage will write.
    """

    name: str
    status: Literal["cached", "run", "waits"]
    reason: str
    record: Record | None = None
    anew: bool = False
    stores: tuple[Path, ...] = ()

    @property
    def result(self) -> Result | None:
        """The result of a cached stage."""
        return self.record.result if self.record is not None and self.status == "cached" else None


def look(job: Job, name: str, results: Mapping[str, Result], frames: Frames, *, force: bool = False) -> Step:
    """Decide about one stage, by the results of those before it as far as they are known.

    With ``force`` it is repeated; a repetition that was interrupted continues.
    """
    kind, record = job.kind(name), read_stage_record(job.folder(name))
    last = () if record is None or record.result is None else (record.result.path,)
    forced = Step(name, "run", "forced", record, anew=True, stores=last)
    if force and not (record is not None and record.forced and record.status == "begun"):
        return forced
    if record is None:
        return Step(name, "run", "no result yet")
    waiting = [other for other in kind.stage.takes() if other not in results]
    if waiting:
        return Step(name, "waits", f"waits for {', '.join(waiting)}", record)
    try:
        key = key_of(kind, results, frames)
        before = brought_up(record.key, kind, frames)
    except (VssError, OSError) as error:
        return Step(name, "run", str(error), record)
    differing = differences(before, key)
    if differing and force:
        return forced
    if differing:
        anew = not kind.goes_on(before, key)
        return Step(name, "run", differing, record, anew or record.stale, record.begun if anew else ())
    if record.status == "begun" or record.result is None:
        return Step(name, "run", "continues after an interruption", record, record.stale)
    wrong = kind.fault(record.result)
    if wrong:
        anew = "is gone" not in wrong
        return Step(name, "run", wrong, record, anew, last if anew else ())
    return Step(name, "cached", "", replace(record, key=key))


def without_earlier(job: Job, step: Step) -> Step:
    """The same step, which also removes the stores of earlier runs because their sources no longer exist."""
    record = step.record
    if record is None or not job.kind(step.name).leaves_store:
        return step
    return replace(step, anew=True, stores=record.begun)


def make_plan(
    job: Job,
    names: Sequence[str],
    frames: Frames,
    force: Collection[str] = (),
    known: Mapping[str, Result] = MappingProxyType({}),
) -> list[Step]:
    """Decide about stages, in order, by the ``known`` results and those of stages found to be done."""
    results, steps = dict(known), []
    for name in names:
        step = look(job, name, results, frames, force=name in force)
        if step.result is not None:
            results[name] = step.result
        steps.append(step)
    return steps
