"""``do: pseudo``: labels of the reliable pixels of a prediction."""

from __future__ import annotations

from collections.abc import Mapping

from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import DEFAULT_PERCENTILE, PseudoStage
from vsscli.stages.key import Frames
from vsscli.stages.kind import Reads, StageCost, StoreKind
from vsscli.stages.record import Parts, Result


class PseudoKind(StoreKind[PseudoStage]):
    """Pseudo-labels."""

    @property
    def together(self) -> bool:
        return not self.job.context.on_cluster

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        return []

    def section(self) -> Parts:
        section = super().section()
        if self.stage.threshold is None:
            section["percentile"] = self.stage.percentile or DEFAULT_PERCENTILE
        return section

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.pseudo import pseudo

        labels = pseudo(
            store=results[self.stage.of].path,
            context=self.context,
            threshold=self.stage.threshold,
            percentile=self.stage.percentile,
            by_class=self.stage.by_class,
            force=True,
            begin=begin,
        )
        facts = labels.to_json()
        return self.result(labels.store, {key: facts[key] for key in ("threshold", "frames", "pixels", "reliable")})

    def cost(self, frames: Frames) -> StageCost:
        from vsscli.stages.cost import store_cost

        return store_cost(self, frames, "labels")
