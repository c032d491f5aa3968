"""Tensors of which each process holds a share (`torch.distributed.tensor`): whole ones from them, and back.

A tensor that is not shared out is its own share, so callers need not ask.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from vsscli.models.saved import over_leaves

Part = tuple[tuple[int, ...], int, Tensor]
"""A process's part of a tensor: the shape of the whole, the number of the part's first row, and its rows."""


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

    def gather(leaf: Any, _: str) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        whole = whole_of(leaf)
        return whole.cpu() if keep else None

    return over_leaves(value, gather)


def parted(value: Any) -> tuple[Any, dict[str, Part]]:
    """Nested dicts, lists and tuples with `None` in place of shares; and this process's part of each, by its place."""
    parts: dict[str, Part] = {}

    def part(leaf: Any, place: str) -> Any:
        if not isinstance(leaf, DTensor):
            return leaf
        if leaf.placements != (Shard(0),):
            raise TypeError(f"{place} is shared out as {leaf.placements}, not by rows")
        mesh, rows = leaf.device_mesh, leaf.shape[0]
        # As `torch.chunk` deals out rows: the last processes may have fewer, or none.
        start = min(mesh.get_local_rank() * -(-rows // mesh.size()), rows)
        parts[place] = (tuple(leaf.shape), start, share_of(leaf))
        return None

    return over_leaves(value, part), parts
