"""Losses on label maps."""

from __future__ import annotations

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vsscli.data.classes import IGNORE
from vsscli.models.scores import ScoreKind, Scores, to_probabilities

# Above this many upsampled values (256 MiB of float32) crops go through the loss one at a time and are recomputed in
# the backward pass: all crops of a batch at full size with 124 classes is where training runs out of memory.
WHOLE_BATCH_VALUES = 64 * 2**20


def cross_entropy_sum(scores: Scores, label: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cross-entropy summed over the pixels that have a label, at the label's size, and the number of these pixels; or
    both with a weight (B, H, W) float32 for each pixel.

    Scores (B, C, h, w) are upsampled bilinearly (``align_corners=False``) to the label (B, H, W), class indices, 255
    for no label. The sum is ``-log p(label)``, equations 4 and 5 of the paper before the division.
    """
    label = label.long()
    labelled = label != IGNORE
    count = labelled.sum().float() if weight is None else (weight * labelled).sum()
    # In proportion, whatever predicting does: the loss teaches the class, and what lacks to 1 lowers none.
    values = scores.values if scores.kind is ScoreKind.LOGITS else to_probabilities(scores, "normalise")
    if label.numel() * values.shape[1] <= WHOLE_BATCH_VALUES:
        return _upsampled_sum(values, label, scores.kind, weight), count
    crops = [slice(crop, crop + 1) for crop in range(len(label))]
    weights = [None if weight is None else weight[crop] for crop in crops]
    parts = [
        checkpoint(_upsampled_sum, values[crop], label[crop], scores.kind, own, use_reentrant=False)
        for crop, own in zip(crops, weights, strict=True)
    ]
    return torch.stack(parts).sum(), count


def processes() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def total(counts: Tensor) -> Tensor:
    """The sum over all processes."""
    if processes() > 1:
        counts = counts.clone()
        torch.distributed.all_reduce(counts)
    return counts


def of_all(tensor: Tensor) -> Tensor:
    """The tensors of all processes, which have one shape, in the order of their ranks: (processes, ...)."""
    every = tensor.new_empty(processes() * tensor.numel())
    torch.distributed.all_gather_into_tensor(every, tensor.flatten())
    return every.view(-1, *tensor.shape)


def global_mean(loss_sum: Tensor, count: Tensor) -> Tensor:
    """Mean over all processes' pixels, scaled so that averaging gradients over processes gives its gradient."""
    return loss_sum * processes() / total(count).clamp_min(1.0)


def global_share(count: Tensor, pixels: Tensor) -> Tensor:
    """The share of all processes' pixels that was counted."""
    both = total(torch.stack([count, pixels.to(count)]))
    return both[0] / both[1].clamp_min(1.0)


def _upsampled_sum(values: Tensor, label: Tensor, kind: ScoreKind, weight: Tensor | None) -> Tensor:
    size = tuple(label.shape[-2:])
    reduction = "sum" if weight is None else "none"
    upsampled = functional.interpolate(values.float(), size=size, mode="bilinear", align_corners=False)
    if kind is ScoreKind.LOGITS:
        loss = functional.cross_entropy(upsampled, label, ignore_index=IGNORE, reduction=reduction)
    else:
        # Contiguous, because torch's gradient of this loss takes no other memory format on the CPU.
        logarithm = upsampled.clamp_min(1e-8).log().contiguous()
        loss = functional.nll_loss(logarithm, label, ignore_index=IGNORE, reduction=reduction)
    return loss if weight is None else (loss * weight).sum()
