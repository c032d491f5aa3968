"""Learning from labels: equation 4, of pixels or of masks."""

from __future__ import annotations

from torch import Tensor

from vsscli.models.outputs import MaskOutputs, Outputs
from vsscli.training.losses import cross_entropy_sum, global_mean
from vsscli.training.matching import Void
from vsscli.training.objectives.objective import Objective, Said, Setup, Term
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings


class SupervisedLoss(Objective):
    """The loss of labelled crops, as published for the network's family."""

    name = "supervised"

    def __init__(self, void: Void, weight: float = 1.0) -> None:
        self.void, self.weight = void, weight

    @classmethod
    def of(cls, setup: Setup) -> SupervisedLoss:
        unlabelled = setup.recipe.unlabelled
        # UniMatch: L = (L_x + L_u) / 2.
        return cls(setup.recipe.train.void, 0.5 if unlabelled is not None and unlabelled.method == "unimatch" else 1.0)

    def term(self, said: Said) -> Term:
        crops = said.view.labelled
        return Term(supervised_loss(said.labelled, crops.labels, self.void, crops.present), self.weight)


def supervised_loss(outputs: Outputs, labels: Tensor, void: Void = "negative", present: Tensor | None = None) -> Tensor:
    """The loss of labels (B, H, W) uint8: of matched masks if the network classifies masks, else of pixels, where those
    without a label never count. ``present`` says which labels occur, so that matching need not ask the device."""
    if isinstance(outputs, MaskOutputs):
        return SetPredictionLoss(SetPredictionSettings(void=void))(outputs.layers, labels, outputs.clip, present).total
    return global_mean(*cross_entropy_sum(outputs.scores, labels))
