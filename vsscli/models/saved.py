"""What the files of a checkpoint hold: plain values and tensors, written without code, compared by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.files import whole_file


def write_torch(path: Path, content: Any, what: str) -> None:
    """Write plain values and tensors with ``torch.save``, in full or not at all; equal content gives equal bytes.

    Raises
    ------
    VssError
        The file can't be written; ``what`` is its name there.
    """
    with whole_file(path, what) as part, part.open("wb") as file:
        try:
            # To an open file, because torch would write the name of a path into the zip.
            torch.save(content, file)
        except RuntimeError as error:
            # torch's writer hides a full disk, or an interruption, behind an error of its own
            if isinstance(error.__context__, OSError | KeyboardInterrupt):
                raise error.__context__ from None
            raise


def is_checkpoint(content: Any) -> bool:
    """Whether what a file holds is a checkpoint of vss."""
    return isinstance(content, dict) and isinstance(content.get("vss"), str)


def plain_values(value: Any, name: str) -> Any:
    """The value with tensors on the CPU.

    Raises
    ------
    TypeError
        It contains a value that ``weights_only=True`` would not load again.
    """

    def plain(leaf: Any, place: str) -> Any:
        if isinstance(leaf, Tensor):
            # The memory format stays: an optimiser's state must have that of its parameters.
            return own_memory(leaf)
        if leaf is None or type(leaf) in (bool, int, float, str):
            return leaf
        raise TypeError(
            f"{place} of a checkpoint is a {type(leaf).__name__}; only plain values and tensors can be kept"
        )

    return over_leaves(value, plain, name)


def own_memory(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, in its own memory: of a view, torch would write the whole storage."""
    tensor = tensor.detach().cpu()
    return tensor.clone() if tensor.untyped_storage().nbytes() != tensor.nbytes else tensor


def over_leaves(value: Any, do: Callable[[Any, str], Any], place: str = "") -> Any:
    """Nested dicts, lists and tuples with ``do(leaf, place)`` for every leaf; its place is the keys that lead to it."""
    if isinstance(value, dict):
        return {key: over_leaves(entry, do, f"{place}/{key!r}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        entries = [over_leaves(entry, do, f"{place}/{index}") for index, entry in enumerate(value)]
        return tuple(entries) if isinstance(value, tuple) else entries
    return do(value, place)


def digest_values(value: Any) -> str:
    """SHA-256 of nested plain values and tensors."""
    digest = hashlib.sha256()

    def add(leaf: Any, place: str) -> None:
        if isinstance(leaf, Tensor):
            add_tensor(digest, place, leaf)
        else:
            digest.update(f"{place}={leaf!r}\n".encode())

    over_leaves(value, add)
    return digest.hexdigest()


def add_tensor(digest: Any, name: str, tensor: Tensor) -> None:
    """Add a tensor to a digest: its name, type, shape and contiguous bytes."""
    digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
    flat = tensor.detach().cpu().contiguous().view(-1)
    digest.update(flat.view(torch.uint8).numpy().data)
