"""Starting one process for each device, with Lightning Fabric."""

from __future__ import annotations

from datetime import timedelta
from functools import lru_cache
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy

from vsscli.errors import VssError
from vsscli.inference.devices import resolve_device, set_float32
from vsscli.inference.memory import keep_freed_memory

PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}

PATIENCE = timedelta(days=7)
"""How long processes wait for each other: the first one validates, fuses or packs alone, which may take hours."""


def launch(device: str, devices: int, precision: str = "32") -> Fabric:
    """Start the processes of a command; each of them returns from here with its own fabric.

    Fabric starts the other processes by running the command line again, so all of them make the same calls. They are
    started once: the same arguments return the same fabric.

    Parameters
    ----------
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    devices
        Number of processes, one for each device.
    precision
        Precision of what is set up with the fabric: ``32``, ``bf16`` or ``16``.

    Raises
    ------
    VssError
        There is no such device, or there are too few.
    """
    fabric = _launched(device, devices, precision)
    if fabric.device.type == "cuda":
        set_float32(exact=precision == "32")
    return fabric


@lru_cache
def _launched(device: str, devices: int, precision: str) -> Fabric:
    place = resolve_device(device)
    chosen: int | list[int] = devices
    if place.type == "cpu":
        keep_freed_memory()
    if place.type == "cuda":
        if devices > torch.cuda.device_count():
            raise VssError(
                f"this machine has {torch.cuda.device_count()} GPUs, not {devices}", "ask for fewer --devices"
            )
        if devices == 1:
            chosen = [place.index]
        elif device.startswith("cuda:"):
            raise VssError(f"--device {device} is one GPU, but --devices is {devices}", "use --device cuda")
    fabric = Fabric(
        accelerator=place.type,
        devices=chosen,
        strategy=DDPStrategy(timeout=PATIENCE) if devices > 1 else "auto",
        precision=PRECISION[precision],
    )
    fabric.launch()
    return fabric
