"""``do: ensemble``: predictions of the same frames, fused and smoothed along time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from vsscli.fusion.ensemble import normalised_weights
from vsscli.pipeline.ensemble import ensemble, require_possible
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.graph import predictions
from vsscli.recipes.pipeline import EnsembleStage
from vsscli.recipes.text import Key
from vsscli.stages.key import Frames
from vsscli.stages.kind import Reads, StageCost, StoreKind
from vsscli.stages.leaks import learned_behind
from vsscli.stages.record import Parts, Result

SINCE = ("fit_on", "temperatures", "temporal")
"""Keys that were added later: a section that doesn't use them keeps its key."""


class EnsembleKind(StoreKind[EnsembleStage]):
    """A fusion."""

    def version(self) -> int:
        return 1

    def reads(self) -> list[Reads]:
        data, found = self.recipe.data, {}
        if self.stage.temporal:  # along the motion in the frames
            found[self.split] = Reads(self.split, data, self.split, False)
        if self.stage.fitted:
            split = self.job.kind(self.stage.fitted[0]).split
            found[split] = Reads(split, data, split, True)
        return list(found.values())

    def section(self) -> Parts:
        return {name: value for name, value in super().section().items() if value or name not in SINCE}

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        stage = self.stage
        done = ensemble(
            [results[other].path for other in stage.of],
            stage.given,
            context=self.context,
            fit_on=[results[other].path for other in stage.fit_on or ()],
            force=True,
            begin=begin,
            **_how(stage),
        )
        return self.result(done.store, done.facts())

    def cost(self, frames: Frames) -> StageCost:
        from vsscli.stages.cost import extent_of, store_cost

        # As fine as the finest of its sources.
        sources = predictions(self.job.pipeline.stages, self.name)
        kept = {one.keep or self.job.recipe(one.model).store.keep for one in sources}
        cost = store_cost(self, frames, "compact" if kept == {"compact"} else "fine" if "fine" in kept else "top")
        work = [cost.work]
        if self.stage.fitted:
            fitted = extent_of(self, self.job.kind(self.stage.fitted[0]).split, frames).frames
            work.append(f"weights fitted on {'unknown frames' if fitted is None else f'{fitted} frames'}")
        if self.stage.temporal:
            work.append("smoothed")
            if len(self.stage.of) > 1 and cost.stored is not None:  # the fusion before smoothing is kept too
                cost = replace(cost, stored=2 * cost.stored)
        return replace(cost, work=", ".join(filter(None, work)))

    @classmethod
    def checks(cls, stage: EnsembleStage) -> Iterator[tuple[Key, Callable[[], object]]]:
        count, given = len(stage.of), stage.given
        if given is not None:
            yield ("weights",), partial(normalised_weights, given, count)
        others = len(stage.fit_on or ())
        yield (), partial(require_possible, count, given, others=others, **_how(stage))

    def lacks(self) -> Iterator[str]:
        """Lists of classes at frame size, which fitting and smoothing need."""
        stage, stages = self.stage, self.job.pipeline.stages
        for one in predictions(stages, self.name) if stage.fitted or stage.temporal else ():
            store = self.job.recipe(one.model).store
            if store.grid != 1:
                yield f"predictions of {one.model!r} at frame size: its recipe has store.grid {store.grid}, set it to 1"
            alone = len(stage.of) == 1 and stages[stage.of[0]] is one
            if alone and (one.keep or store.keep) == "all":
                yield f"lists of classes of {one.model!r}: smoothing needs lists, and its prediction keeps all logits"

    def leaks(self) -> Iterator[str]:
        key = "of" if self.stage.fit_on is None else "fit_on"
        for number, other in enumerate(self.stage.fitted):
            for what in learned_behind(self.job, other):
                yield f"stages.{self.name}.{key}.{number}: weights are fitted on {what}"


def _how(stage: EnsembleStage) -> dict[str, Any]:
    """The fusion's options in a section, as arguments of `ensemble`."""
    return {
        "method": stage.method,
        "temperatures": stage.temperatures or (),
        "fit_weights": bool(stage.fitted),
        "temporal": stage.temporal,
    }
