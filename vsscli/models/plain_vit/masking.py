"""Masked attention of queries, and how training does without it little by little (specs: eomt.md, Mask annealing)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

POWER = 0.9


def usual_windows(blocks: int) -> tuple[tuple[float, float], ...]:
    """The published schedule: windows of a sixth of the training, starting evenly from 1/6 to 4/6."""
    starts = [(1.0 + 3.0 * block / max(1, blocks - 1)) / 6.0 for block in range(blocks)]
    return tuple((start, start + 1.0 / 6.0) for start in starts)


def mask_probability(fraction: float, start: float, end: float) -> float:
    """The probability that a query stays within its mask, at a fraction of the training.

    1 before the start, ``(1 - (fraction - start) / (end - start)) ** 0.9`` up to the end, 0 after it.
    """
    if fraction < start:
        return 1.0
    if fraction >= end:
        return 0.0
    return float((1.0 - (fraction - start) / (end - start)) ** POWER)


class MaskedAttention(nn.Module):
    """Limits each query to the patches of its own mask, in every block with a probability of its own.

    The other tokens look everywhere, and queries at all that are not patches; so no query is left with nothing to see.
    """

    probabilities: Tensor

    def __init__(self, windows: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self._certain = [True] * len(windows)
        self.register_buffer("probabilities", torch.ones(len(windows)), persistent=False)

    def at_progress(self, fraction: float) -> None:
        """Anneal all probabilities to a fraction of the training."""
        self.set_probabilities([mask_probability(fraction, *window) for window in self.windows])

    def set_probabilities(self, values: Sequence[float]) -> None:
        """Set the probability of every block."""
        self.probabilities.copy_(torch.tensor(values, dtype=torch.float32), non_blocking=True)
        self._certain = [value >= 1.0 for value in values]

    @torch.no_grad()
    def forward(self, block: int, mask_logits: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
        """What each token may look at in a block, (B, 1, N, N), N being queries, ``prefix`` tokens and patches.

        Mask logits (B, Q, h, w) are resized to the grid of the patches; inside is what is above 0. Below a probability
        of 1 a number in [0, 1) is drawn for each query, (B, Q), and those above it are free.
        """
        count, queries = mask_logits.shape[:2]
        inside = functional.interpolate(mask_logits.float(), size=grid, mode="bilinear", align_corners=False) > 0
        inside = inside.flatten(2)
        if not self._certain[block]:
            free = torch.rand(count, queries, device=inside.device) > self.probabilities[block]
            inside = inside | free[..., None]
        length = queries + prefix + inside.shape[2]
        allowed = torch.ones(count, 1, length, length, dtype=torch.bool, device=inside.device)
        allowed[:, 0, :queries, queries + prefix :] = inside
        return allowed
