"""A few numbers known on the host, as tensors on a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def on_device(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Numbers, in lists as `torch.tensor` takes them, on a device, without waiting for it.

    ``torch.tensor(values, device=device)`` and ``new_tensor`` return after the copy, and so after everything that the
    device has been given to do before; up to 64 KiB a copy that need not be waited for is only queued.
    """
    return torch.tensor(values, dtype=dtype).to(device, non_blocking=True)


Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]

_KEPT: dict[tuple[Numbers, torch.device, torch.dtype], Tensor] = {}


def kept_on_device(values: Numbers, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers that every forward pass needs, on a device; the caller must not write to them.

    A GPU keeps them, so that a pass copies nothing and can be recorded as a graph. They are as many as there are sizes
    of images.
    """
    if device.type != "cuda" or torch.compiler.is_compiling():
        return on_device(values, device, dtype)
    key = (values, device, dtype)
    if key not in _KEPT:
        with torch.inference_mode(mode=False):  # training may need them later
            made = on_device(values, device, dtype)
        if type(made) is not Tensor:  # traced, not real
            return made
        _KEPT[key] = made
    return _KEPT[key]
