"""Weak-to-strong consistency (UniMatch V2), in place of the paper's losses of unlabelled frames."""

from __future__ import annotations

import torch

from vsscli.data.classes import IGNORE
from vsscli.data.strong import VIEWS
from vsscli.errors import VssError
from vsscli.recipes.training import Unlabelled
from vsscli.training.losses import cross_entropy_sum, global_mean, global_share
from vsscli.training.objectives.objective import Objective, Said, Setup, Term


class ConsistencyLoss(Objective):
    """Cross-entropy of both strong views with the teacher's labels, where it is sure, over all pixels but padding."""

    name = "unsupervised"

    def __init__(self, settings: Unlabelled) -> None:
        self.settings = settings

    @classmethod
    def of(cls, setup: Setup) -> ConsistencyLoss | None:
        unlabelled, clip = setup.recipe.unlabelled, setup.network.frames
        if unlabelled is None or unlabelled.method != "unimatch":
            return None
        if clip > 1:
            raise VssError(
                f"unlabelled.method unimatch is for networks of images, and this one learns from clips of {clip}",
                "set model.clip to 1, or unlabelled.method to paper",
            )
        return cls(unlabelled)

    def term(self, said: Said) -> Term:
        crops, sure = said.view.unlabelled, said.view.sure
        assert said.unlabelled is not None
        assert crops is not None
        assert sure is not None
        target = crops.labels.masked_fill(~sure, IGNORE)
        pairs = len(target) // VIEWS
        losses = []
        for view in range(VIEWS):
            part = slice(view * pairs, (view + 1) * pairs)
            loss_sum, _ = cross_entropy_sum(said.unlabelled.part(part).scores, target[part])
            losses.append(global_mean(loss_sum, (~crops.padding[part]).sum().float()))
        counted = global_share((target != IGNORE).sum(), (~crops.padding).sum())
        return Term(torch.stack(losses).mean(), self.settings.weight * said.layers / 2, {"reliable": counted})
