"""``do: ensemble``: predictions of the same frames, fused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from vsscli.fusion.ensemble import normalised_weights
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.graph import predictions
from vsscli.recipes.pipeline import EnsembleStage
from vsscli.recipes.text import Key
from vsscli.stages.key import Frames
from vsscli.stages.kind import Reads, StageCost, StoreKind
from vsscli.stages.record import Result


class Ensemble(StoreKind[EnsembleStage]):
    """A fusion."""

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        return []

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.ensemble import ensemble

        stage = self.stage
        stores = [results[other].path for other in stage.of]
        fused = ensemble(stores, stage.weights, context=self.context, method=stage.method, force=True, begin=begin)
        return self.result(fused, {})

    def cost(self, frames: Frames) -> StageCost:
        from vsscli.stages.cost import store_cost

        # As fine as the finest of its sources, and lists whatever they keep.
        sources = predictions(self.job.pipeline.stages, self.name)
        kept = {one.keep or self.job.recipe(one.model).store.keep for one in sources}
        keep = "compact" if kept == {"compact"} else "fine" if "fine" in kept else "top"
        return store_cost(self, frames, keep)

    @classmethod
    def checks(cls, stage: EnsembleStage) -> Iterator[tuple[Key, Callable[[], object]]]:
        if stage.weights is not None:
            yield ("weights",), partial(normalised_weights, stage.weights, len(stage.of))
