"""Device and precision of a network: what ``--device`` and ``--precision`` mean, for every command."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from vsscli.errors import VssError

HALF = {"bf16": torch.bfloat16, "16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """The device of a name: ``cpu``, ``cuda``, ``cuda:N``, or ``auto``, which is the first GPU if there is one, else
    the CPU. `VssError` for an unknown name or a device that this machine does not have."""
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    if not re.fullmatch(r"cuda(:\d+)?", name):
        raise VssError(f"unknown device {name!r}", "--device takes auto, cpu, cuda or cuda:N")
    if not torch.cuda.is_available():
        raise VssError(f"device {name}: torch finds no GPU here", "use --device cpu; `vss doctor` says what torch sees")
    number = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count()
    if number >= count:
        raise VssError(f"device {name}: this machine has {count} GPU(s)", f"the last one is cuda:{count - 1}")
    return torch.device("cuda", number)


@contextmanager
def autocast(device: torch.device, precision: str) -> Iterator[None]:
    """A context in which a network on a device computes with a precision, ``32``, ``bf16`` or ``16``; weights are not
    changed. `VssError`, on entering, if the device does not support it."""
    require_precision(device, precision)
    half = nullcontext() if precision == "32" else torch.autocast(device.type, dtype=HALF[precision])
    if device.type != "cuda":
        with half:
            yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    set_float32(exact=precision == "32")
    try:
        with half:
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def require_precision(device: torch.device, precision: str) -> None:
    """Refuse, with a `VssError`, a precision that is unknown or that a device does not compute in."""
    if precision == "32":
        return
    if precision not in HALF:
        raise VssError(f"unknown precision {precision!r}", f"--precision takes 32, {', '.join(HALF)}")
    if device.type == "cpu" and precision == "16":
        # torch accepts it, but most operators have no CPU kernels for it: 30 times slower than bf16.
        raise VssError("precision 16 needs a GPU", "on a CPU use --precision 32, or bf16 where the processor has it")
    if device.type == "cuda" and precision == "bf16" and not torch.cuda.is_bf16_supported():
        raise VssError(f"{torch.cuda.get_device_name(device)} does not compute in bf16", "use --precision 16 or 32")


def set_float32(*, exact: bool) -> None:
    """How a GPU computes products and convolutions of float32 numbers: in full, as a CPU does, or with factors rounded
    to 10 bits (TF32).

    Rounded suits a network whose other parts compute with 7 or 10 bits, and whose pixel decoder stays in float32.
    torch's own default differs between products and convolutions.
    """
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact
