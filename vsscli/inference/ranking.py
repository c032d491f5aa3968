"""The K most likely classes of every pixel, in order; of equally likely classes the lower one comes first."""

from __future__ import annotations

import torch
from torch import Tensor

LOW_BITS = 0xFF


def top_classes(mean: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """The K most likely of C classes, at most 255, given non-negative probabilities (..., C) float32, most likely
    first, in the order of a stable sort: classes (K, ...) uint8 and their probabilities (K, ...) float32.

    On a CPU, NumPy's vectorised sort is used: at 360x480, 8 of 11 classes, one core took 6 ms, `torch.topk` 33; at
    480x853, 8 of 124 classes, 96 and 540. On a GPU, `torch.topk` is used.
    """
    keys = _keys(mean)
    if sorts_in_numpy(keys.device):
        keys.numpy().sort(axis=-1)  # in place
        top = keys[..., -kept:].flip(-1)
    else:
        top = torch.topk(keys, kept, dim=-1).values
    top = top.movedim(-1, 0).contiguous()
    # A key holds the class in bits beyond those of a float32, so rounding to float32 drops it.
    return top.bitwise_not().bitwise_and_(LOW_BITS).to(torch.uint8), top.view(torch.float64).float()


def sorts_in_numpy(device: torch.device) -> bool:
    """Whether NumPy can sort tensors on a device in place."""
    return device.type == "cpu"


def _keys(mean: Tensor) -> Tensor:
    """(..., C) float32 to distinct int64 keys in the order wanted.

    Non-negative floats sort like their bits. As float64 the lowest 29 bits are empty; the last 8 take the inverted bits
    of the class, so that the lower class has the greater key.
    """
    classes = torch.arange(mean.shape[-1], device=mean.device)
    return mean.double().view(torch.int64).bitwise_or_(LOW_BITS - classes)
