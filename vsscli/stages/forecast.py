"""What a run of a pipeline would do and cost, without doing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vsscli.stages.cost import measured_rate
from vsscli.stages.job import Job
from vsscli.stages.key import Frames
from vsscli.stages.kind import StageCost
from vsscli.stages.needs import missing, refuse_leaks
from vsscli.stages.plan import Step, make_plan
from vsscli.stages.record import read_records
from vsscli.stages.run import chosen_stages


@dataclass(frozen=True)
class Forecast:
    """The plan of a run: stages in order, each with its cost, which is zero for a cached one.

    ``rate`` is operations per second, `None` if neither given nor measured; ``measured`` says that it comes from
    finished stages of this workspace.
    """

    rows: tuple[tuple[Step, StageCost], ...]
    notes: tuple[str, ...]
    rate: float | None
    measured: bool

    @property
    def unknown(self) -> bool:
        """Whether something could not be counted, so that the total is a lower bound."""
        return any(None in (cost.passes, cost.flops, cost.stored) for _, cost in self.rows)

    @property
    def total(self) -> StageCost:
        """The sum of the known costs."""
        costs = [cost for _, cost in self.rows]
        passes, flops = sum(cost.passes or 0 for cost in costs), sum(cost.flops or 0.0 for cost in costs)
        return StageCost("at least" if self.unknown else "", passes, flops, sum(cost.stored or 0.0 for cost in costs))

    @property
    def rate_source(self) -> str:
        """Where the hours come from."""
        if self.rate is None:
            return "hours: unknown without --tflops N or a finished stage in this workspace"
        source = "the rate of finished stages in this workspace" if self.measured else "as given"
        return f"hours: at {self.rate / 1e12:.3g} TFLOP per second, {source}"

    def hours(self, cost: StageCost) -> float | None:
        """Hours of one device for a stage."""
        return None if self.rate is None or cost.flops is None else cost.flops / self.rate / 3600

    def to_json(self) -> dict[str, Any]:
        """Plain values for one JSON object."""

        def values(cost: StageCost) -> dict[str, Any]:
            return {
                "passes": cost.passes,
                "flops": cost.flops,
                "stored_bytes": None if cost.stored is None else round(cost.stored),
                "gpu_hours": self.hours(cost),
            }

        return {
            "stages": [
                {"name": step.name, "status": step.status, "reason": step.reason, "work": cost.work, **values(cost)}
                for step, cost in self.rows
            ],
            "total": {**values(self.total), "complete": not self.unknown},
            "tflops": None if self.rate is None else self.rate / 1e12,
            "measured": self.measured,
            "notes": list(self.notes),
        }


def forecast(
    job: Job,
    *,
    names: Sequence[str] = (),
    until: str | None = None,
    force: Sequence[str] = (),
    tflops: float | None = None,
) -> Forecast:
    """Plan a run and count its cost; builds every network, without weights.

    Parameters
    ----------
    job, names, until, force
        As for `vsscli.stages.run.run_pipeline`.
    tflops
        10^12 operations per second that the device sustains; `None`: the rate of finished stages in the workspace.

    Raises
    ------
    VssError
        There is no such stage, or a split would be scored that a network was trained on. What is missing is in the
        notes.
    """
    stages = chosen_stages(job, names, until, force)
    refuse_leaks(job, stages)
    frames = Frames(job)
    steps = make_plan(job, stages, frames, force)
    rows = []
    with job.context.talk.track("counting", len(steps), "stage") as done:
        for step in steps:
            cost = job.kind(step.name).cost(frames) if step.status != "cached" else StageCost()
            rows.append((step, cost))
            done(1)
    pending = [step.name for step in steps if step.status != "cached"]
    notes = [*(f"missing: {line}" for line in missing(job, pending, frames, drawing=False))]
    so_far = " ".join(notes)
    notes += [f"{step.name}: {note}" for step, cost in rows for note in cost.notes if note not in so_far]
    rate = tflops * 1e12 if tflops is not None else measured_rate(read_records(job.workspace))
    return Forecast(tuple(rows), tuple(dict.fromkeys(notes)), rate, measured=tflops is None and rate is not None)
