"""Reliable and unreliable pixels during training: percentiles that change over the run (specs: U2PL sections 4, 5)."""

from __future__ import annotations

import torch
from torch import Tensor

from vsscli.data.classes import IGNORE
from vsscli.training.losses import of_all, processes, total


def entropy_of(probabilities: Tensor) -> Tensor:
    """Entropy in nats of distributions (B, C, ...), with the floor of the published code; (B, ...)."""
    return -(probabilities * (probabilities + 1e-10).log()).sum(dim=1)


def percentile(values: Tensor, valid: Tensor, percent: float) -> Tensor:
    """A percentile of the valid values of all processes, which have equally many, interpolated as in NumPy; infinity if
    none is valid. A scalar that stays on the device, so that nothing waits for it."""
    counted, count = torch.where(valid, values, torch.inf).reshape(-1), valid.sum()
    if processes() > 1:
        counted, count = of_all(counted).flatten(), total(count)
    ordered = counted.sort().values
    place = (count - 1).clamp_min(0).double() * (percent / 100)
    below = place.floor()
    at = torch.stack([below, (below + 1).clamp_max(len(ordered) - 1)]).long()
    low, high = ordered[at]
    return torch.where(place > below, torch.lerp(low, high, (place - below).to(low)), low)


def split_by_entropy(entropy: Tensor, valid: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """The most and the least certain valid pixels (B, H, W), ``share`` per cent each; bounds are included, pixels
    between them are in neither."""
    reliable = entropy <= percentile(entropy, valid, share)
    unreliable = entropy >= percentile(entropy, valid, 100 - share)
    return reliable & valid, unreliable & valid


def keep_sure(label: Tensor, entropy: Tensor, percent: float) -> Tensor:
    """Labels (B, H, W) with 255 where the entropy is at or above its percentile over all labelled pixels.

    The least certain pixel is dropped even at the 100th, as in the published code.
    """
    limit = percentile(entropy, label != IGNORE, percent)
    return torch.where(entropy < limit, label, IGNORE)


def narrowing_share(share: float, progress: float) -> float:
    """Per cent of pixels set apart at a fraction of the run: ``share`` at its start (progress 0), 0 at its end."""
    return share * (1 - progress)
