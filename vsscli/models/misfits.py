"""How the tensors of a file differ from those of a network."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def misfits(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str:
    """Which tensors are missing, surplus or of another shape, with the first names of each; empty if all fit."""
    missing = [name for name in expected if name not in found]
    surplus = [name for name in found if name not in expected]
    misshapen = [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    return "; ".join(
        f"{len(names)} tensors {what} ({first_of(names)})"
        for what, names in (("are missing", missing), ("are surplus", surplus), ("have another shape", misshapen))
        if names
    )


def first_of(names: list[str] | tuple[str, ...], most: int = 3) -> str:
    """The first few names, with an ellipsis if there are more."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")
