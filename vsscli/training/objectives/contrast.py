"""Learning from unreliable pixels, as negatives of classes that they surely do not belong to: equation 6."""

from __future__ import annotations

import torch

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.models.projection import ProjectionHead
from vsscli.recipes.training import Contrast
from vsscli.training.bank import Banks
from vsscli.training.contrast import (
    Cells,
    ContrastPlan,
    contrastive_loss,
    label_mask,
    negatives_of,
    plan_step,
    published_label_mask,
)
from vsscli.training.evidence import cell_shares, shrink
from vsscli.training.objectives.objective import Objective, Said, Setup, Term
from vsscli.training.ranks import Ranks, rank_bounds, rank_window
from vsscli.training.view import StepView


class ContrastiveLoss(Objective):
    """The contrast of each class's anchors, cells of the student's features, with its bank of negatives."""

    name = "contrast"
    kept_as = "banks"
    asks_teacher = True
    memory: Banks

    def __init__(self, settings: Contrast, ranks: Ranks, head: ProjectionHead) -> None:
        self.settings, self.ranks, self.head = settings, ranks, head
        sizes = [settings.first_queue or settings.queue] + [settings.queue] * (ranks.num_classes - 1)
        self.memory = Banks(sizes, settings.channels, next(head.parameters()).device)

    @classmethod
    def of(cls, setup: Setup) -> ContrastiveLoss | None:
        """Refuse ranks that the classes or the store do not allow, a variant that would learn nothing, and a network
        without features; report the ranks and the memory."""
        unlabelled, network = setup.recipe.unlabelled, setup.network
        if unlabelled is None or unlabelled.contrast is None:
            return None
        settings = unlabelled.contrast
        if settings.variant != "paper" and unlabelled.teacher == "store":
            raise VssError(
                f"unlabelled.contrast.variant {settings.variant} finds no negative with teacher store: the published "
                "code needs two passes of the teacher that differ, and a store holds one",
                "set variant to paper, or teacher to ema",
            )
        if not network.feature_channels:
            raise VssError(
                "this network outputs no features for a projection head",
                "leave unlabelled.contrast out of the recipe, or train another family",
            )
        ranks = rank_bounds(settings, network.num_classes, setup.stored.kept if setup.stored else None, setup.talk)
        device = next(network.parameters()).device
        made = cls(settings, ranks, ProjectionHead(network.feature_channels, settings.channels).to(device))
        setup.talk.say(
            f"memory banks: {made.memory.rows} features of {settings.channels} for {network.num_classes} classes, "
            f"{made.memory.nbytes / 2**20:.0f} MiB on {device.type}; the contrast is computed in pieces of at most "
            f"{settings.step_bytes / 2**20:.0f} MiB"
        )
        return made

    def plan(self, view: StepView) -> ContrastPlan:
        """Push the step's keys into the banks, then draw anchors and negatives."""
        assert view.teacher is not None
        assert view.teacher.projected is not None
        return plan_step(view.teacher.projected, self._cells(view), self.memory, self.settings)

    def term(self, said: Said) -> Term:
        assert said.anchors is not None
        loss = contrastive_loss(said.anchors, said.plan, self.memory, self.settings)
        filled = self.memory.lengths.sum() / self.memory.rows
        return Term(loss, self.settings.weight * said.layers, {"banks": filled})

    def _cells(self, view: StepView) -> Cells:
        """What the loss needs to know of all cells, those of labelled crops first."""
        assert view.teacher is not None
        assert view.teacher.unlabelled.features is not None
        assert view.evidence is not None
        ranks, settings = self.ranks, self.settings
        features = view.teacher.unlabelled.features
        size = (features.shape[-2], features.shape[-1])
        evidence = view.evidence.cells(size, ranks, settings.confidence)
        shares = cell_shares(view.teacher.labelled.scores, size)
        label = shrink(view.labelled.labels, size).long()
        known = (label != IGNORE).flatten()
        window = torch.cat(
            [
                rank_window(shares.topk(ranks.low, dim=1).indices, 0, ranks.low, ranks.num_classes),
                rank_window(evidence.ranked, ranks.low, ranks.high, ranks.num_classes),
            ]
        )
        mask = label_mask if settings.variant == "paper" else published_label_mask
        own = torch.cat([mask(label, ranks.num_classes), mask(evidence.label, ranks.num_classes)])
        negative = negatives_of(
            window,
            own,
            torch.cat([known, evidence.unreliable.flatten()]),
            labelled=len(known),
            variant=settings.variant,
        )
        trusted = own & torch.cat([known, evidence.reliable.flatten()])[:, None]
        sure = torch.cat([shares > settings.confidence, evidence.sure])
        return Cells(trusted, sure, negative, crops=len(label) + len(evidence.label))
