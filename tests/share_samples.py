"""Checkpoints in shares, made by one process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.models.checkpoints import Checkpoint, save_checkpoint
from vsscli.models.saved import over_leaves
from vsscli.models.sharefiles import share_names, write_share
from vsscli.models.shares import Part

Change = Callable[[int, dict[str, Part]], None]


def split(value: Any, rank: int, processes: int) -> tuple[Any, dict[str, Part]]:
    """As `vsscli.models.shares.parted`, of tensors that one process has: those with rows are dealt out."""
    parts: dict[str, Part] = {}

    def part(leaf: Any, place: str) -> Any:
        if not isinstance(leaf, Tensor) or leaf.dim() == 0:
            return leaf
        each = -(-len(leaf) // processes)
        start = min(rank * each, len(leaf))
        parts[place] = (tuple(leaf.shape), start, leaf[start : start + each])
        return None

    return over_leaves(value, part), parts


def write_shares(
    path: Path, checkpoint: Checkpoint, processes: int = 3, change: Change = lambda rank, parts: None
) -> list[tuple[str, str]]:
    """The files that processes write before the first one writes the checkpoint; ``change`` alters their parts."""
    kept, digests = {"weights": checkpoint.weights, "training": checkpoint.training}, []
    for rank in range(processes):
        rest, parts = split(kept, rank, processes)
        change(rank, parts)
        digests.append(write_share(path, checkpoint.step, rank, processes, rest, parts))
    return share_names(checkpoint.step, digests)


def save_shared(path: Path, checkpoint: Checkpoint, processes: int = 3) -> list[Path]:
    """A checkpoint in shares, and their files."""
    shares = write_shares(path, checkpoint, processes)
    save_checkpoint(path, replace(checkpoint, weights={}, training=None), shares)
    return [path.with_name(f"{path.name}.shares") / name for name, _ in shares]


def rename_shares(path: Path, shares: Any) -> None:
    """Let a checkpoint name other shares."""
    content = torch.load(path, weights_only=True)
    torch.save({**content, "shares": shares}, path)
