"""The interface of all backbones."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Backbone(nn.Module, ABC):
    """A network that encodes images into maps at strides 4, 8, 16 and 32 (`trunks.STRIDES`).

    Attributes
    ----------
    channels
        Channels of the maps, finest first.
    crop
        Height and width of the only images it takes; None if it takes any.
    """

    channels: tuple[int, ...]
    crop: tuple[int, int] | None = None

    def __init__(self, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self._frozen: tuple[str, ...] = ()

    @abstractmethod
    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode normalised images (B, 3, H, W) into maps (B, channels[i], H / STRIDES[i], W / STRIDES[i])."""

    @abstractmethod
    def depth_of(self, name: str) -> int:
        """The depth of a parameter's layer, for layer-wise decay of the learning rate.

        Depth 0, everything outside the pretrained trunk, learns at the full rate. The trunk's last block has depth 1.
        """

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies to a parameter."""
        return parameter.ndim > 1 and not name.endswith("bias")

    def freeze(self, *parts: str) -> None:
        """Freeze parameters and modules, given as attributes: no gradients, drop path or new statistics."""
        self._frozen = parts
        for part in parts:
            getattr(self, part).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Backbone:
        """Switch to training or evaluation mode, except for frozen parts."""
        super().train(mode)
        for part in self._frozen:
            frozen = getattr(self, part)
            if isinstance(frozen, nn.Module):
                frozen.eval()
        return self

    def run(self, module: nn.Module, *inputs: object) -> Tensor:
        """Call a module; with ``checkpointing``, recompute its activations in the backward pass."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(module, *inputs, use_reentrant=False)
        return module(*inputs)


def drop_path_rates(last: float, depth: int) -> list[float]:
    """Rates of stochastic depth of all blocks (Huang et al. 2016, arXiv:1603.09382): linear from 0 to the last."""
    return [last * block / max(1, depth - 1) for block in range(depth)]


def initialise(module: nn.Module) -> None:
    """Initialise weights as ViT-Adapter does; norms keep their ones and zeros.

    Its normal distribution is truncated at 100 standard deviations, so a plain one is used.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, (nn.Conv2d, nn.ConvTranspose2d)):
            fan_out = math.prod(part.kernel_size) * part.out_channels // part.groups
            nn.init.normal_(part.weight, std=math.sqrt(2.0 / fan_out))
        else:
            continue
        if part.bias is not None:
            nn.init.zeros_(part.bias)
