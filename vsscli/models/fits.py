"""Whether a network fits this machine's memory, checked before any is allocated."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vsscli.errors import VssError

if TYPE_CHECKING:
    from torch import nn

LAYERS = ("depth", "depths", "encoder_layers", "decoder_layers", "extra_extractors", "interactions", "heads", "points")
USUAL = 10**8
"""A bound that small networks stay far below: the largest size in the configuration, squared, times the layers."""


def require_room(config: Mapping[str, Any], build: Callable[[], nn.Module]) -> None:
    """Refuse a network whose weights exceed the machine's memory, by building it on the meta device.

    Networks that are small by their configuration are not built. The error has both sizes.
    """
    numbers = _numbers("", config)
    layers = max((number for name, number in numbers if name.rpartition(".")[2] in LAYERS), default=1)
    if max((number for _, number in numbers), default=0) ** 2 * max(layers, 1) < USUAL:
        return
    room = memory()
    if room is None:
        return
    import torch

    with torch.device("meta"):
        weights = sum(parameter.nbytes for parameter in build().parameters())
    if weights > room:
        raise VssError(
            f"a network of this size has weights of {weights / 2**30:.1f} GiB; this machine has {room / 2**30:.1f} GiB",
            "choose smaller sizes (`model` in the recipe)",
        )


def memory() -> int | None:
    """Bytes of memory of this machine, or of its container; None if unknown."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # not Linux or macOS
        return None
    try:
        return min(machine, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no container, or one without a limit
        return machine


def _numbers(name: str, value: Any) -> list[tuple[str, int]]:
    """All numbers in a configuration, rounded up, with the names of their fields: a ratio may make a width too."""
    if isinstance(value, Mapping):
        return [found for key, inner in value.items() for found in _numbers(f"{name}.{key}" if name else key, inner)]
    if isinstance(value, list | tuple):
        return [found for inner in value for found in _numbers(name, inner)]
    return [(name, math.ceil(value))] if type(value) in (int, float) else []
