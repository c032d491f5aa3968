"""The result of the demo's loop: the table, the stores of its rows, the share of reliable pixels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from vsscli.errors import VssError
from vsscli.fusion.threshold import require_percentile
from vsscli.recipes.pipeline import EvalStage, PseudoStage
from vsscli.stages.job import Job
from vsscli.stages.run import Ran
from vsscli.stages.scores import ScoreTable
from vsscli.stages.summary import tables_of


@dataclass(frozen=True)
class LoopResult:
    """The result of the loop."""

    scores: ScoreTable
    stores: dict[str, Path]
    reliable: float
    pictures: Path
    table: Path
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Plain values for one JSON object."""
        return {
            "rows": [{"name": row.name, "store": str(self.stores[row.name]), **row.scores} for row in self.scores.rows],
            "reliable": self.reliable,
            "pictures": str(self.pictures),
            "table": str(self.table),
            "seconds": round(self.seconds, 1),
        }


def with_percentile(job: Job, percentile: float) -> Job:
    """The same job with another percentile in its pseudo-label stages; refuses an impossible percentile."""
    require_percentile(percentile)
    changes = {"threshold": None, "percentile": percentile}
    stages = {
        name: stage.model_copy(update=changes) if isinstance(stage, PseudoStage) else stage
        for name, stage in job.pipeline.stages.items()
    }
    return replace(job, pipeline=job.pipeline.model_copy(update={"stages": stages}))


def loop_result(job: Job, ran: Ran) -> LoopResult:
    """The result of a run; refuses a pipeline that does not score, threshold and draw."""
    first = {job.stage(outcome.name).do: outcome for outcome in reversed(ran.outcomes)}
    if not {"eval", "pseudo", "show"} <= first.keys() or ran.table is None:
        raise VssError(
            f"pipeline {job.pipeline.name} is not a loop: it needs a stage each of kind eval, pseudo and show",
            "use `vss run`, which runs any pipeline",
        )
    stage = cast("EvalStage", job.stage(first["eval"].name))
    stores = {row.name: ran.result(row.of).path for row in stage.rows}
    share, pictures = float(first["pseudo"].result.facts["reliable"]), first["show"].result.path
    return LoopResult(tables_of(job, ran.outcomes)[0], stores, share, pictures, ran.table, ran.seconds)
