"""A few numbers known on the host, as a tensor on a device."""

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
