"""The K most likely classes of every pixel, in order, of classes equally likely the lower first."""

from __future__ import annotations

import torch
from torch import Tensor

LOW_BITS = 0xFF


def top_classes(mean: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Find the K most likely classes of probabilities (..., C) float32, not negative, of at most 255 classes, most
    likely first, in the order of a stable sort: classes (K, ...) uint8 and their probabilities (K, ...) float32.

    On a CPU by NumPy's sort, which compares eight or more keys at a time: at 360x480, 8 of 11 classes, one core took 6
    ms against 33 by `torch.topk`; at 480x853, 8 of 124 classes, 96 against 540. On a GPU by `torch.topk`.
    """
    keys = _keys(mean)
    if sorts_in_numpy(keys.device):
        keys.numpy().sort(axis=-1)  # in place
        top = keys[..., -kept:].flip(-1)
    else:
        top = torch.topk(keys, kept, dim=-1).values
    top = top.movedim(-1, 0).contiguous()
    # A key holds the class in bits that a float32 leaves empty, so rounding to float32 drops it.
    return top.bitwise_not().bitwise_and_(LOW_BITS).to(torch.uint8), top.view(torch.float64).float()


def sorts_in_numpy(device: torch.device) -> bool:
    """Whether NumPy can sort what lies on a device, in place."""
    return device.type == "cpu"


def _keys(mean: Tensor) -> Tensor:
    """(..., C) float32 to int64, all unlike, in the order wanted.

    A float that is not negative orders like its bits. As float64 the lowest 29 bits are empty; the last 8 take the
    class with its bits turned round, so that the lower class is the greater key.
    """
    classes = torch.arange(mean.shape[-1], device=mean.device)
    return mean.double().view(torch.int64).bitwise_or_(LOW_BITS - classes)
