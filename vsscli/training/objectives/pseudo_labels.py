"""Learning from labels that a store or a teacher gives to reliable pixels: equation 5."""

from __future__ import annotations

from vsscli.errors import VssError
from vsscli.models.outputs import MaskOutputs
from vsscli.recipes.training import Unlabelled
from vsscli.training.losses import cross_entropy_sum, global_mean, global_share
from vsscli.training.objectives.objective import Objective, Said, Setup, Term
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings


class UnsupervisedLoss(Objective):
    """Cross-entropy over the reliable pixels of unlabelled crops, whatever the network's family; or the losses of a
    mask classifier, as a mean over its layers, which leave the other pixels out."""

    name = "unsupervised"

    def __init__(self, settings: Unlabelled) -> None:
        self.settings = settings

    @classmethod
    def of(cls, setup: Setup) -> UnsupervisedLoss | None:
        unlabelled, model = setup.recipe.unlabelled, setup.recipe.model
        if unlabelled is None or unlabelled.method != "paper":
            return None
        if unlabelled.loss == "masks" and not model.masks:
            raise VssError(
                f"unlabelled.loss: a network of family {model.family} scores pixels, and has no masks to learn from",
                "leave it out, or train a mask classifier",
            )
        return cls(unlabelled)

    def term(self, said: Said) -> Term:
        view = said.view
        assert said.unlabelled is not None
        assert view.unlabelled is not None
        outputs, target = said.unlabelled, view.target
        loss_sum, count = cross_entropy_sum(outputs.scores, target)
        reliable = global_share(count, (~view.unlabelled.padding).sum())
        weight = self.settings.weight / reliable.clamp_min(1e-6) if self.settings.scale_weight else self.settings.weight
        loss = global_mean(loss_sum, count)
        if self.settings.loss == "masks":
            assert isinstance(outputs, MaskOutputs)
            masks = SetPredictionLoss(SetPredictionSettings(void="ignored"))
            loss = masks(outputs.layers, target, outputs.clip).total / len(outputs.layers)
        return Term(loss, weight * said.layers, {"reliable": reliable})
