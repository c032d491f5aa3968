"""One step: batches to loss to new weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from vsscli.models.network import Normalisation
from vsscli.models.scores import Scores
from vsscli.training.losses import cross_entropy_sum


@dataclass(frozen=True)
class Batch:
    """Crops of one step on this process: images (B, 3, H, W) uint8, labels (B, H, W) uint8 with 255 for none."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Losses:
    """Losses of one step, averaged over all processes; tensors, so that nobody waits for the device."""

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor | None


class StepLoss(nn.Module):
    """``L = L_s + weight * L_u`` (equation 3 of the paper; the contrastive term has a place of its own).

    Both are means over the labelled pixels of the whole batch, over all processes, so that two processes learn what
    one would.
    """

    def __init__(self, normalisation: Normalisation, unlabelled_weight: float) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.unlabelled_weight = unlabelled_weight

    def forward(self, network: nn.Module, labelled: Batch, unlabelled: Batch | None) -> Losses:
        images = labelled.images if unlabelled is None else torch.cat([labelled.images, unlabelled.images])
        scores: Scores = network(self.normalisation(images).contiguous(memory_format=torch.channels_last))
        split = len(labelled.images)
        supervised = _global_mean(*cross_entropy_sum(Scores(scores.values[:split], scores.kind), labelled.labels))
        if unlabelled is None:
            return Losses(supervised, supervised.detach(), None)
        unsupervised = _global_mean(*cross_entropy_sum(Scores(scores.values[split:], scores.kind), unlabelled.labels))
        total = supervised + self.unlabelled_weight * unsupervised
        return Losses(total, supervised.detach(), unsupervised.detach())


def _global_mean(loss_sum: Tensor, count: Tensor) -> Tensor:
    """Mean over all processes' pixels, scaled so that averaging gradients over processes gives its gradient."""
    if torch.distributed.is_initialized():
        count = count.clone()
        torch.distributed.all_reduce(count)
        loss_sum = loss_sum * torch.distributed.get_world_size()
    return loss_sum / count.clamp_min(1.0)


def average_over_processes(fabric: Fabric, loss: Tensor) -> float:
    """Value of a loss of :class:`StepLoss`, over all processes."""
    mean = fabric.all_reduce(loss.detach(), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return float(mean)
