"""An exponential moving average of a network's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsscli.models.frozen import learning_state


class AveragedWeights:
    """The average of parameters and floating-point buffers over the steps; integer buffers are copied, a frozen trunk
    is left out.

    It starts from the current weights. ``momentum`` is the share of the old average kept per step; it starts smaller,
    at ``(1 + step) / (10 + step)``, so that the initial weights do not outweigh the first steps.
    """

    def __init__(self, network: nn.Module, momentum: float) -> None:
        self.momentum = momentum
        self.weights: dict[str, Tensor] = {name: tensor.clone() for name, tensor in learning_state(network).items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update with the weights after ``step`` steps (counted from 1)."""
        momentum = min(self.momentum, (1 + step) / (10 + step))
        old, new = [], []
        for name, tensor in learning_state(network).items():
            if tensor.is_floating_point():
                old.append(self.weights[name])
                new.append(tensor)
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(old, new, 1 - momentum)

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continue from saved weights."""
        for name, tensor in self.weights.items():
            tensor.copy_(weights[name])
