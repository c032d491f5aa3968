"""AdamW over the parameter groups that a network names, and its learning rate over time."""

from __future__ import annotations

import torch
from torch import nn

from vsscli.models.network import Network
from vsscli.recipes.training import Train


def build_optimiser(network: Network, train: Train, head: nn.Module | None = None) -> torch.optim.AdamW:
    """AdamW with the recipe's rates: no weight decay on norms and biases, layer-wise rates for loaded layers.

    Every group keeps its full rate as ``base_lr``, which each step multiplies by the schedule's factor. A ``head``
    beside the network learns at the full rate.
    """
    groups = []
    for group in network.parameter_groups(train.layer_decay):
        base = train.lr * group.lr_scale * (train.encoder_lr if group.encoder else 1.0)
        decay = train.weight_decay if group.decay else 0.0
        parameters = [parameter for parameter in group.parameters if parameter.requires_grad]
        if parameters:
            groups.append({"params": parameters, "lr": base, "base_lr": base, "weight_decay": decay})
    if head is not None:
        for decays in (True, False):
            parameters = [parameter for parameter in head.parameters() if (parameter.ndim > 1) == decays]
            decay = train.weight_decay if decays else 0.0
            groups.append({"params": parameters, "lr": train.lr, "base_lr": train.lr, "weight_decay": decay})
    # The fused optimiser divides by the loss scale itself, too late for clipping.
    fused = not (train.clip and train.precision == "16")
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=fused)


def learning_rate_factor(step: int, *, steps: int, warmup: int, power: float) -> float:
    """Factor on every learning rate at a step: polynomial decay times a linear warm-up.

    ``(1 - step / steps) ** power * min(1, (step + 1) / warmup)``, as the "poly" schedule of DeepLab (Chen et al. 2017,
    section 3.1) with the warm-up of Goyal et al. 2017.
    """
    factor: float = (1 - step / steps) ** power
    if step < warmup:
        factor *= (step + 1) / warmup
    return factor


def set_learning_rate(optimiser: torch.optim.Optimizer, factor: float) -> float:
    """Multiply every group's full rate by the factor; return the highest rate."""
    highest = 0.0
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
        highest = max(highest, group["lr"])
    return highest
