"""``do: eval``: a table of scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from vsscli.metrics.registry import metric_names
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import EvalStage
from vsscli.recipes.text import Key
from vsscli.stages.key import Frames
from vsscli.stages.kind import Kind, Reads, StageCost
from vsscli.stages.leaks import learned_behind
from vsscli.stages.record import Parts, Result
from vsscli.stages.scores import Line, ScoreTable
from vsscli.structured import digest_of

MARKS = {
    "trained_on": "frames that were trained on are scored",
    "weights_fitted_on": "weights were chosen on what is reported",
}
"""Notes in the table for marked scores."""


class EvalKind(Kind[EvalStage]):
    """Scores."""

    soon_done = True

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        splits = dict.fromkeys(self.job.kind(row.of).split for row in self.stage.rows)
        return [Reads(split, self.recipe.data, split, True) for split in splits]

    def section(self) -> Parts:
        """Without what only the table shows: names of rows, the paper's figures, notes."""
        stage = self.stage
        return {"of": sorted(stage.takes()), "metrics": list(stage.metrics), "protocol": stage.protocol}

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.evaluate import evaluate

        scores: dict[str, dict[str, float | None]] = {}
        marks: dict[str, dict[str, int]] = {}
        for other in self.stage.takes():
            done = evaluate(
                context=self.job.kind(other).context,
                prediction=results[other].path,
                metrics=self.stage.metrics,
                protocol=self.stage.protocol,
            )
            for mark, count in done.marks.items():
                marks.setdefault(mark, {})[other] = count
            scores[other] = done.figures.plain()
        return Result(self.folder, digest_of(scores), {"scores": scores, **marks})

    def fault(self, result: Result) -> str:
        return ""

    def table(self, result: Result) -> ScoreTable:
        scores, lines = result.facts["scores"], []
        for row in self.stage.rows:
            values = {metric: math.nan if value is None else value for metric, value in scores[row.of].items()}
            notes = [row.note, *(note for mark, note in MARKS.items() if row.of in result.facts.get(mark, {}))]
            lines.append(Line(row.name, values, row.paper, "; ".join(filter(None, notes))))
        return ScoreTable(self.name, tuple(lines), self.stage.metrics)

    def cost(self, frames: Frames) -> StageCost:
        return StageCost()

    @classmethod
    def checks(cls, stage: EvalStage) -> Iterator[tuple[Key, Callable[[], object]]]:
        yield from ((("metrics", i), partial(metric_names, [name])) for i, name in enumerate(stage.metrics))

    def leaks(self) -> Iterator[str]:
        for number, row in enumerate(self.stage.rows):
            for what in learned_behind(self.job, row.of):
                yield f"stages.{self.name}.rows.{number}: scores {what}"
