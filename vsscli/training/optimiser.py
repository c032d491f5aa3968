"""AdamW over the parameter groups that a network names, and its learning rate over time."""

from __future__ import annotations

import math

import torch
from torch import nn

from vsscli.models.network import Network
from vsscli.recipes.training import Train


def build_optimiser(network: Network, train: Train, head: nn.Module | None = None) -> torch.optim.AdamW:
    """AdamW with the recipe's rates: no weight decay on norms and biases, layer-wise rates for loaded layers.

    Every group keeps its full rate as ``base_lr``, which each step multiplies by the schedule's factor, and as ``part``
    whether it is of the encoder, which may have a warm-up of its own. A ``head``
    beside the network learns at the full rate.
    """
    groups = []
    for group in network.parameter_groups(train.layer_decay):
        base = train.lr * group.lr_scale * (train.encoder_lr if group.encoder else 1.0)
        decay = train.weight_decay if group.decay else 0.0
        parameters = [parameter for parameter in group.parameters if parameter.requires_grad]
        if parameters:
            part = "encoder" if group.encoder else "decoder"
            groups.append({"params": parameters, "lr": base, "base_lr": base, "weight_decay": decay, "part": part})
    if head is not None:
        for decays in (True, False):
            parameters = [parameter for parameter in head.parameters() if (parameter.ndim > 1) == decays]
            decay = train.weight_decay if decays else 0.0
            groups.append({"params": parameters, "lr": train.lr, "base_lr": train.lr, "weight_decay": decay})
    # The fused optimiser divides by the loss scale itself, too late for clipping.
    fused = not (train.clip and train.precision == "16")
    return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, fused=fused)


def learning_rate_factor(
    step: int,
    *,
    steps: int,
    warmup: int,
    power: float,
    schedule: str = "poly",
    encoder_warmup: int = 0,
) -> float:
    """Factor on a learning rate at a step.

    ``poly``: ``(1 - step / steps) ** power * min(1, (step + 1) / warmup)``, as the "poly" schedule of DeepLab (Chen et
    al. 2017, section 3.1) with the warm-up of Goyal et al. 2017.

    ``poly_after`` and ``cosine``: ``step / warmup``, and then ``(1 - t) ** power`` or ``(1 + cos(pi t)) / 2``, where t
    goes from 0 at the end of the warm-up to 1 at the last step. With an ``encoder_warmup`` it is 0 during the warm-up,
    and the encoder's own comes after it (specs: eomt.md, Optimiser; pmt.md, Training).
    """
    if schedule == "poly":
        factor: float = (1 - step / steps) ** power
        return factor * ((step + 1) / warmup) if step < warmup else factor
    begin, rise = (warmup, encoder_warmup) if encoder_warmup else (0, warmup)
    if step < begin + rise:
        return max(0, step - begin) / rise
    passed = (step - begin - rise) / (steps - begin - rise)
    return (1 - passed) ** power if schedule == "poly_after" else (1 + math.cos(math.pi * passed)) / 2


def set_learning_rates(optimiser: torch.optim.Optimizer, step: int, train: Train) -> float:
    """Set every group's learning rate for a step; return the highest."""
    highest = 0.0
    for group in optimiser.param_groups:
        factor = learning_rate_factor(
            step,
            steps=train.steps,
            warmup=train.warmup,
            power=train.power,
            schedule=train.schedule,
            encoder_warmup=train.encoder_warmup if group.get("part") == "encoder" else 0,
        )
        least = min(train.min_lr, group["base_lr"]) if step >= train.warmup else 0.0
        group["lr"] = least + (group["base_lr"] - least) * factor
        highest = max(highest, group["lr"])
    return highest
