"""Reading files of tensors that others wrote, without running what is in them."""

from __future__ import annotations

import pickletools
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from vsscli.errors import VssError

_GLOBAL = re.compile(r"GLOBAL (\S+)")


def read_torch(path: Path, what: str) -> Any:
    """Read a file of ``torch.save``, tensors mapped from the disk where its format allows.

    Parameters
    ----------
    path
        The file.
    what
        What to call it in an error.

    Returns
    -------
    object
        Tensors on the CPU, in plain containers.

    Raises
    ------
    VssError
        The file is missing, empty, cut off or damaged, no file of tensors at all, or would run code: the function it
        asks for is named.
    """
    check_file(path, what)
    with path.open("rb") as file:
        start = file.read(4)
    # A zip holds the tensors as they are in memory. Before 1.6, torch wrote a row of pickles.
    zipped = start.startswith(b"PK\x03\x04")
    if not zipped and not start.startswith(b"\x80"):
        raise VssError(f"{what} {path} is not a file of torch.save", "check the path; it may be another kind of file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # damaged bytes reach the unpickler, which raises whatever they lead it to
        wanted = _refused(path, str(error), zipped)
        raise (would_run_code(path, what, wanted) if wanted else damaged(path, what, error)) from error


def would_run_code(path: Path, what: str, wanted: str) -> VssError:
    """The error for a file that names something to import that is not admitted."""
    return VssError(
        f"{what} {path} would run code when loaded: it asks for {wanted}",
        "vss loads tensors and plain values only; have its owner save a state dict, or use safetensors",
    )


def damaged(path: Path, what: str, error: Exception) -> VssError:
    """The error for a file whose bytes make no sense."""
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    said = f" ({reason[:200]})" if " " in reason else ""  # a lone word or number says nothing to a reader
    return VssError(
        f"{what} {path} can't be read, it is cut off, damaged or of another kind{said}",
        "copy or download it again",
    )


def read_safetensors(path: Path, what: str) -> dict[str, torch.Tensor]:
    """Read a safetensors file.

    Raises
    ------
    VssError
        The file is missing, cut off or damaged.
    """
    check_file(path, what)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise VssError(f"{what} {path} is no whole safetensors file ({error})", "copy or download it again") from error


def check_file(path: Path, what: str) -> None:
    """Refuse what is not a file with something in it."""
    if path.is_dir():
        raise VssError(f"{what} {path} is a folder", "name a file in it")
    try:
        size = path.stat().st_size
    except OSError as error:
        reason = "is not there" if isinstance(error, FileNotFoundError) else f"can't be read: {error.strerror}"
        raise VssError(f"{what} {path} {reason}", "check the path") from error
    if size == 0:
        raise VssError(f"{what} {path} is empty", "copy or download it again")


def _refused(path: Path, message: str, zipped: bool) -> str:
    """Name what torch refused to import, or nothing where the trouble was another."""
    found = _GLOBAL.search(message)
    if found:
        return found[1]
    if zipped or "Weights only load failed" not in message:
        return ""
    # A plain pickle stops torch at its first unknown instruction, before a name; read on without obeying.
    strings: list[str] = []
    try:
        with path.open("rb") as file:
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    return str(argument).replace(" ", ".")
                if code.name == "STACK_GLOBAL":
                    return ".".join(strings[-2:])
                if "UNICODE" in code.name:
                    strings.append(str(argument))
    except Exception:  # not a pickle after all
        return ""
    return ""
