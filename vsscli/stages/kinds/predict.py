"""``do: predict``: a network's predictions of a split, in a store."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from vsscli.pipeline.workspace import Begin
from vsscli.recipes.graph import in_order
from vsscli.recipes.pipeline import PredictStage
from vsscli.recipes.readout import Plan
from vsscli.stages.key import Frames
from vsscli.stages.kind import Reads, StageCost, StoreKind
from vsscli.stages.left import leave_only
from vsscli.stages.record import Parts, Result

if TYPE_CHECKING:
    from vsscli.inference.plans import AugmentationPlan
    from vsscli.pipeline.request import Look


class PredictKind(StoreKind[PredictStage]):
    """A network's predictions."""

    @property
    def together(self) -> bool:
        return not self.job.context.on_cluster

    @property
    def split(self) -> str:
        return self.stage.split

    @property
    def plan(self) -> AugmentationPlan:
        """The augmentation plan."""
        from vsscli.inference.plans import AugmentationPlan
        from vsscli.pipeline.request import chosen_plan

        tta, predict = self.stage.tta, self.recipe.predict
        if isinstance(tta, Plan):
            return AugmentationPlan("recipe", tta.scales, tta.flip)
        return chosen_plan(predict, tta=bool(tta), named=tta if isinstance(tta, str) else None)

    def version(self) -> int:
        recipe = self.recipe  # one more if it spreads what mask scores lack to 1
        return 2 + (recipe.predict.missing != "normalise" and recipe.model.masks)

    def reads(self) -> list[Reads]:
        return [Reads(self.split, self.recipe.data, self.split, False)]

    def section(self) -> Parts:
        return {**super().section(), "tta": {"scales": list(self.plan.scales), "flip": self.plan.flip}}

    def goes_on(self, before: Parts, key: Parts) -> bool:
        # A prediction store records the frames of each video.
        return bool(before.get("version") == key.get("version"))

    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        from vsscli.pipeline.predict import predict_split

        done = predict_split(
            results[self.stage.model].path,
            self.split,
            context=self.context,
            plan=self.plan,
            keep=self.stage.keep,
            force=True,
            along=[results[other.stage.model].path for other in self.companions() if other.stage.model in results],
            begin=begin,
        )
        facts = {"frames": done.predicted + done.cached, "cached": done.cached}
        return self.result(done.store, facts | ({"along": done.along} if done.along else {}))

    def companions(self) -> list[PredictKind]:
        """Later stages that predict the same frames alike, with networks over the same frozen trunk, and that are
        trained before this one: they predict along (`vsscli.pipeline.predict.predict_split`)."""
        names = in_order(self.job.pipeline.stages)
        own = names.index(self.name)
        later = self._predictions(names[own + 1 :])
        return [other for other in later if names.index(other.stage.model) < own and self._alike(other)]

    @property
    def along(self) -> bool:
        """Whether it predicts along with an earlier stage."""
        names = in_order(self.job.pipeline.stages)
        before = self._predictions(names[: names.index(self.name)])
        return any(self.name == other.name for earlier in before for other in earlier.companions())

    def _predictions(self, names: Iterable[str]) -> list[PredictKind]:
        kinds = map(self.job.kind, names)
        return [kind for kind in kinds if isinstance(kind, PredictKind)]

    def _alike(self, other: PredictKind) -> bool:
        """What `vsscli.pipeline.request.Request.fits` will say of their checkpoints, by the recipes."""
        own, theirs = self.recipe, other.recipe
        if own.model.sees is None or own.model.random or self.split != other.split:
            return False
        under = [(one.model.weights, one.data.name, one.data.root) for one in (own, theirs)]
        look, others = self._look(), other._look()
        return under[0] == under[1] and look is not None and others is not None and look.joins(others)

    def _look(self) -> Look | None:
        """How its network looks at frames; `None` if the number of classes is unknown."""
        from vsscli.pipeline.request import look_of
        from vsscli.stages.cost import classes_of

        (classes, _), recipe = classes_of(self), self.recipe
        if classes is None:
            return None
        return look_of(recipe.model, recipe, classes, self.plan, precision=self.context.precision, keep=self.stage.keep)

    def trim(self, place: Path, frames: Frames) -> None:
        _, videos = frames.open(self.recipe.data, self.split)
        leave_only(place, {video.name for video in videos})

    def cost(self, frames: Frames) -> StageCost:
        from vsscli.stages.cost import bytes_a_pixel, classes_of, extent_of, frame_flops, network_of, windows_in

        recipe, plan, extent = self.recipe, self.plan, extent_of(self, self.split, frames)
        (classes, _), (network, lacking) = classes_of(self), network_of(self)
        notes = (*extent.notes, *lacking)
        if network is None or classes is None:
            return StageCost(f"{extent.frames} frames", None, None, None, notes)
        windows = sum(windows_in(network, recipe, plan, extent.size).values())
        views = len(plan.views())
        each = f"{windows} window{'s' if windows != 1 else ''} ({views} view{'s' if views != 1 else ''})"
        if extent.frames is None:
            return StageCost(f"unknown frames x {each}", None, None, None, notes)
        flops = extent.frames * frame_flops(network, recipe, plan, extent.size, seen=self.along)
        pixel = bytes_a_pixel(self.stage.keep or recipe.store.keep, recipe.store.grid, classes)
        stored = extent.frames * math.prod(extent.size) * pixel
        return StageCost(f"{extent.frames} frames x {each}", extent.frames * windows, flops, stored, notes)
