"""``do: show``: overlay pictures of a prediction."""

from __future__ import annotations

from collections.abc import Mapping

from vsscli.inside import Inside
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import ShowStage
from vsscli.stages.key import Frames
from vsscli.stages.kind import Kind, Reads, StageCost
from vsscli.stages.record import Result
from vsscli.structured import digest_of


class ShowKind(Kind[ShowStage]):
    """Pictures."""

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        return [Reads(self.split, self.recipe.data, self.split, True)]

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.pictures import draw_pictures

        inside = Inside(self.job.workspace)
        for old in inside.files(self.folder):
            if old.suffix == ".png":
                inside.unlink(old)
        store, stage = results[self.stage.of].path, self.stage
        drawn = draw_pictures(store, self.folder, context=self.context, videos=stage.videos, frames=stage.frames)
        names = [picture.relative_to(self.folder).as_posix() for picture in drawn]
        return Result(self.folder, digest_of(names), {"pictures": names})

    def fault(self, result: Result) -> str:
        paths = [result.path, *(result.path / picture for picture in result.facts["pictures"])]
        return next((f"result {path} is gone" for path in paths if not path.exists()), "")

    def cost(self, frames: Frames) -> StageCost:
        return StageCost()
