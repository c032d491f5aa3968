"""Learning from labels that a store or a teacher gives to reliable pixels: equation 5."""

from __future__ import annotations

from vsscli.data.classes import IGNORE
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
        sure = None
        if self.settings.pixel_weights == "certainty":
            assert view.evidence is not None
            sure = view.evidence.certainty
        reliable = global_share((target != IGNORE).sum(), (~view.unlabelled.padding).sum())
        weight = self.settings.weight / reliable.clamp_min(1e-6) if self.settings.scale_weight else self.settings.weight
        if self.settings.loss == "masks":
            assert isinstance(outputs, MaskOutputs)
            masks = SetPredictionLoss(SetPredictionSettings(void="ignored"))
            loss = masks(outputs.layers, target, outputs.clip, weights=sure).total / len(outputs.layers)
        else:
            loss = global_mean(*cross_entropy_sum(outputs.scores, target, sure))
        return Term(loss, weight * said.layers, {"reliable": reliable})
