"""``do: report``: a page that shows one prediction, or two side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import ReportStage
from vsscli.stages.key import Frames
from vsscli.stages.kind import Kind, Reads, StageCost
from vsscli.stages.record import Result
from vsscli.structured import digest_of

FOLDER = "report"
"""In the stage's folder, because a report is replaced as a whole."""


class ReportKind(Kind[ReportStage]):
    """A report."""

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        return [Reads(self.split, self.recipe.data, self.split, True)]

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.report import write_report

        stage = self.stage
        done = write_report(
            [results[name].path for name in stage.of],
            every=stage.every,
            frames=stage.frames,
            out=self.folder / FOLDER,
            context=self.context,
        )
        values = [one.get("scores", {}) for one in done.summary["predictions"]]
        return Result(done.folder, digest_of(values), {"page": done.page.name})

    def fault(self, result: Result) -> str:
        page = result.path / result.facts["page"]
        return "" if page.is_file() else f"result {page} is gone"

    def cost(self, frames: Frames) -> StageCost:
        return StageCost()

    def lacks(self) -> Iterator[str]:
        """Frames in common, which two predictions of different splits don't have."""
        splits = [self.job.kind(name).split for name in self.stage.of]
        if len(set(splits)) > 1:
            yield f"predictions of the same frames: {' and '.join(self.stage.of)} are of {' and '.join(splits)}"
