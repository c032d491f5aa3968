"""Learning from labels that a store or a teacher gives to reliable pixels: equation 5."""

from __future__ import annotations

from vsscli.recipes.training import Unlabelled
from vsscli.training.losses import cross_entropy_sum, global_mean, global_share
from vsscli.training.objectives.objective import Objective, Said, Setup, Term


class UnsupervisedLoss(Objective):
    """Cross-entropy over the reliable pixels of unlabelled crops, whatever the network's family."""

    name = "unsupervised"

    def __init__(self, settings: Unlabelled) -> None:
        self.settings = settings

    @classmethod
    def of(cls, setup: Setup) -> UnsupervisedLoss | None:
        unlabelled = setup.recipe.unlabelled
        return cls(unlabelled) if unlabelled is not None and unlabelled.method == "paper" else None

    def term(self, said: Said) -> Term:
        view = said.view
        assert said.unlabelled is not None
        assert view.unlabelled is not None
        assert view.evidence is not None
        loss_sum, count = cross_entropy_sum(said.unlabelled.scores, view.evidence.target)
        reliable = global_share(count, (~view.unlabelled.padding).sum())
        weight = self.settings.weight / reliable.clamp_min(1e-6) if self.settings.scale_weight else self.settings.weight
        return Term(global_mean(loss_sum, count), weight * said.layers, {"reliable": reliable})
