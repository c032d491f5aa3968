"""``do: submit``: a submission zip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import SubmitStage
from vsscli.recipes.text import Key
from vsscli.stages.key import Frames
from vsscli.stages.kind import Kind, Reads, StageCost, unlike
from vsscli.stages.record import Result
from vsscli.store.files import file_digest
from vsscli.submission.layout import Layout

ZIP = "submission.zip"


class SubmitKind(Kind[SubmitStage]):
    """A zip."""

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        return []

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.submit import Target, submit

        prediction, stage = results[self.stage.of].path, self.stage
        target = Target(self.context, prediction, label_offset=stage.label_offset, prefix=stage.prefix)
        written = submit(target, self.folder / ZIP).written
        facts = {"videos": written.videos, "frames": written.frames, "bytes": written.bytes}
        return Result(written.path, written.sha256, facts)

    def fault(self, result: Result) -> str:
        return unlike(result, file_digest)

    def cost(self, frames: Frames) -> StageCost:
        return StageCost()

    @classmethod
    def checks(cls, stage: SubmitStage) -> Iterator[tuple[Key, Callable[[], object]]]:
        yield ("prefix",), lambda: Layout.for_classes(1, stage.label_offset, stage.prefix)
