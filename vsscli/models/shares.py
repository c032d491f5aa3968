"""Tensors of which each process holds a share (`torch.distributed.tensor`): whole ones from them, and back.

A tensor that is not shared out is its own share, so callers need not ask.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def share_of(tensor: Tensor) -> Tensor:
    """This process's share, in the same memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def shared_like(whole: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, shared out as ``like`` is; nothing is sent."""
    if not isinstance(like, DTensor) or isinstance(whole, DTensor):
        return whole
    return distribute_tensor(whole.to(like.device).contiguous(), like.device_mesh, like.placements, src_data_rank=None)


def whole_of(tensor: Tensor) -> Tensor:
    """The whole tensor; all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(value: Any, *, keep: bool = True) -> Any:
    """Nested dicts, lists and tuples with whole tensors on the CPU in place of shares.

    All processes must call it with the same shares in the same order. One after another is gathered, and a process
    that does not ``keep`` them gets `None` for each, so it never holds more than one.
    """
    if isinstance(value, DTensor):
        whole = whole_of(value)
        return whole.cpu() if keep else None
    if isinstance(value, dict):
        return {key: gathered(entry, keep=keep) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(gathered(entry, keep=keep) for entry in value)
    return value
