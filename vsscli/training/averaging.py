"""An exponential moving average of a network's weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from vsscli.models.frozen import learning_state
from vsscli.models.shares import share_of, shared_like

Start = Callable[[int], float]
"""The momentum after a number of steps, from 1, while it is below its final value."""


def gradually(step: int) -> float:
    """As usual: a fifth at first."""
    return (1 + step) / (10 + step)


def as_mean(step: int) -> float:
    """The mean of the weights after all steps, as UniMatch has it: ``1 - 1 / (t + 1)``, t counted from 0."""
    return 1 - 1 / step


class AveragedWeights:
    """The average of parameters and floating-point buffers over the steps; integer buffers are copied, a frozen trunk
    is left out.

    It starts from the current weights, or continues those of a ``copy``, which then always has the average.
    ``momentum`` is the share of the old average kept per step; it starts smaller, at ``start`` of the step, so that the
    initial weights do not outweigh the first steps. Of a network that is shared out over processes, each averages its
    shares.
    """

    def __init__(
        self, network: nn.Module, momentum: float, start: Start = gradually, copy: nn.Module | None = None
    ) -> None:
        self.momentum, self.start = momentum, start
        self.weights: dict[str, Tensor] = (
            learning_state(copy)
            if copy is not None
            else {name: tensor.clone() for name, tensor in learning_state(network).items()}
        )

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update with the weights after ``step`` steps (counted from 1)."""
        momentum = min(self.momentum, self.start(step))
        old, new = [], []
        for name, tensor in learning_state(network).items():
            if tensor.is_floating_point():
                old.append(share_of(self.weights[name]))
                new.append(share_of(tensor))
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(old, new, 1 - momentum)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from saved weights."""
        for name, tensor in self.weights.items():
            tensor.copy_(shared_like(weights[name], tensor))
