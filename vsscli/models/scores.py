"""Scores of a network, with their kind, and the one function that turns them into a distribution."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from vsscli.models.config import ScoreKind

LEAST_SUM = 1e-6  # mask scores with a smaller sum say nothing: the uniform distribution

Missing = Literal["spread", "normalise"]
"""How what mask scores lack to 1 is distributed: evenly over all classes, or in proportion to their scores."""


class Scores(NamedTuple):
    """Scores of a batch, ``values`` (B, C, h, w) at the network's own stride."""

    values: Tensor
    kind: ScoreKind


def own_types(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which operations on a tensor's device take the types of their operands, also under autocast."""
    # There is no autocast for tensors without content, on which costs are counted.
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)


def to_probabilities(scores: Scores, missing: Missing = "spread") -> Tensor:
    """Turn scores into a distribution over the classes.

    Parameters
    ----------
    scores
        Values (B, C, h, w) of any floating type. Logits pass through a softmax. Probabilities are unchanged. Mask
        scores, which are sums over queries of class probability times mask probability and so at least 0, are divided
        by their sum where it is above 1; where it is below, what it lacks is spread evenly over all classes. A softmax
        of mask scores would turn 95 % confidence into 2 % at 124 classes, hence the kinds.
    missing
        ``normalise``: mask scores are divided by their sum where it is below 1 too, and only a pixel with a sum below
        1e-6 gets the uniform distribution. So a pixel that hardly any query claims looks as certain as one that is
        fully claimed: the order of the classes is the same, the entropy is not.

    Returns
    -------
    Tensor
        (B, C, h, w) float32, also under autocast; sums to one over C.
    """
    # Autocast keeps a softmax in float32, but not the division and the sum, which take the type of their inputs.
    with own_types(scores.values):
        values = scores.values.float()
        if scores.kind is ScoreKind.LOGITS:
            return values.softmax(dim=1)
        if scores.kind is ScoreKind.PROBABILITIES:
            return values
        total = values.sum(dim=1, keepdim=True)
        if missing == "spread":
            return values / total.clamp_min(1.0) + (1.0 - total).clamp_min(0.0) / values.shape[1]
        uniform = 1.0 / values.shape[1]
        return torch.where(total < LEAST_SUM, uniform, values / total.clamp_min(LEAST_SUM))
