"""A checkpoint in shares: each process of a run that shares out its weights writes a file of its own.

The checkpoint's file names these files, in the order of processes, in place of ``weights`` and ``training``: ``shares``
is a list with the name and the digest (`vsscli.models.saved.digest_values`) of each. They are in a folder beside it,
``last.pt.shares`` for ``last.pt``, and hold a dict of

===== ==========================================================================================================
parts by place in ``rest``: shape of the whole tensor, the number of its first row that is here, and the rows
rest  ``weights`` and ``training``, with `None` in place of tensors in parts; in the first process's file alone
===== ==========================================================================================================

A name contains the digest, so no file replaces another: what a checkpoint names is there until its next version is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.inside import Inside
from vsscli.models.saved import digest_values, over_leaves, plain_values, write_torch
from vsscli.models.shares import Part
from vsscli.models.torchfile import read_torch
from vsscli.names import name_fault, shown_name

OURS = re.compile(r"\.?\d+-\d+-of-\d+-[0-9a-f]+\.pt")
"""How the names of shares begin, and of what a killed process left of one."""


def shares_folder(path: Path) -> Path:
    """The folder of a checkpoint's shares."""
    return path.with_name(f"{path.name}.shares")


def share_names(step: int, digests: Sequence[str]) -> list[tuple[str, str]]:
    """Names and digests of the files of all processes, by the digests that `write_share` returned to them."""
    return [(_name(step, rank, len(digests), digest), digest) for rank, digest in enumerate(digests)]


def write_share(path: Path, step: int, rank: int, processes: int, rest: Any, parts: Mapping[str, Part]) -> str:
    """Write one process's share of the checkpoint ``path``, and return its digest. A share that is there already stays:
    a step is saved before its validation and after it, with the same weights.

    Parameters
    ----------
    rest, parts
        As `vsscli.models.shares.parted` returns them, of a dict of ``weights`` and ``training``.

    Raises
    ------
    VssError
        The file can't be written, or its folder is a link.
    TypeError
        A value could not be loaded again.
    """
    content = {"parts": plain_values(parts, "parts")}
    if rank == 0:
        content["rest"] = plain_values(rest, "rest")
    digest = digest_values(content)
    file = shares_folder(path) / _name(step, rank, processes, digest)
    _require_no_link(path, file)
    if not file.is_file():
        write_torch(file, content, "share")
    return digest


def remove_shares(path: Path, keep: Collection[str] = ()) -> None:
    """Remove the shares of earlier versions of a checkpoint, and their folder if none remains."""
    inside, folder = Inside(path.parent), shares_folder(path)
    with suppress(OSError):  # the next checkpoint removes what could not be removed now
        for file in inside.files(folder):
            if file.parent == folder and OURS.match(file.name) and file.name not in keep:
                inside.unlink(file)
        if not keep and inside.holds(folder):
            inside.rmdir(folder)


def named_shares(path: Path, content: Any) -> list[tuple[str, str]]:
    """Name and digest of the shares that a checkpoint's file names; empty if it holds its tensors itself.

    Raises
    ------
    VssError
        They are not names of files in a folder, or one occurs twice.
    """
    found = content.get("shares", []) if isinstance(content, dict) and "vss" in content else []
    if type(found) is not list or not all(type(one) is tuple and list(map(type, one)) == [str, str] for one in found):
        raise _damaged(path, "its shares are not pairs of names and digests")
    for name, _ in found:
        if fault := name_fault(name):
            raise _damaged(path, f"its share {shown_name(name)} {fault}")
    if len(dict(found)) < len(found):
        raise _damaged(path, "it names a share twice")
    return found


def joined(path: Path, content: Any) -> Any:
    """What a checkpoint's file holds, with ``weights`` and ``training`` from the shares that it may name.

    Raises
    ------
    VssError
        A share is missing, damaged or another's, or they do not fit together; names the file.
    """
    named = named_shares(path, content)
    if not named:
        return content
    try:
        whole = Shares(path, named, check=True).whole()
        return {**content, "weights": whole["weights"], "training": whole["training"]}
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise _damaged(path, error) from error


class Shares(Mapping[str, Tensor]):
    """The shares of a checkpoint, mapped from the disk: a mapping of its weights, each put together when asked for.

    ``named`` are their names and digests; ``check`` compares the digests. Raises VssError where a file is missing,
    damaged or another's, and any other error, from all methods, where they do not fit together.
    """

    def __init__(self, path: Path, named: Sequence[tuple[str, str]], *, check: bool) -> None:
        path = Path(os.path.realpath(path))  # shares are beside the file itself, not beside a link to it
        contents = {name: _read(path, name, digest if check else "") for name, digest in named}
        first = contents[named[0][0]]
        self._rest, places = first["rest"], first["parts"].keys()
        for name, content in contents.items():
            if content["parts"].keys() != places:
                raise ValueError(f"share {name} has parts of other tensors")
        self._parts = {place: {name: content["parts"][place] for name, content in contents.items()} for place in places}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._rest["weights"][name]
        place = f"/'weights'/{name!r}"
        return _whole(self._parts[place], place) if place in self._parts else tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._rest["weights"])

    def __len__(self) -> int:
        return len(self._rest["weights"])

    def whole(self) -> dict[str, Any]:
        """``weights`` and ``training`` with all tensors whole."""
        left = set(self._parts)

        def fill(leaf: Any, place: str) -> Any:
            left.discard(place)
            return _whole(self._parts[place], place) if place in self._parts else leaf

        filled: dict[str, Any] = over_leaves(self._rest, fill)
        if left:
            raise ValueError(f"its shares have {min(left)}, which it lacks")
        return filled


def _name(step: int, rank: int, processes: int, digest: str) -> str:
    return f"{step}-{rank}-of-{processes}-{digest[:16]}.pt"


def _read(path: Path, name: str, digest: str) -> dict[str, Any]:
    """A share's file, compared with its digest unless that is empty."""
    folder = shares_folder(path)
    file = folder / name
    if not os.path.exists(file):
        raise VssError(
            f"checkpoint {path} is in shares, and {file} is missing",
            f"copy {folder.name} along with it, or make one file of them before: vss convert {path.name} --to "
            "whole.pt; machines that train together must see the same folder",
        )
    _require_no_link(path, file)
    content: dict[str, Any] = read_torch(file, "share")
    if digest and digest_values(content) != digest:
        raise VssError(f"share {file} is damaged, or another one than checkpoint {path} was written with", _again(path))
    if not _is_share(content):
        raise VssError(f"share {file} is not one that vss wrote", _again(path))
    return content


def _is_share(content: Any) -> bool:
    try:
        return all(
            isinstance(rows, Tensor) and all(type(number) is int for number in (start, *shape))
            for shape, start, rows in content["parts"].values()
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return False


def _require_no_link(path: Path, file: Path) -> None:
    if not Inside(path.parent).holds(file):
        raise VssError(f"share {file} is a link, or in a folder that is one", "replace the link by its target")


def _whole(parts: Mapping[str, Part], place: str) -> Tensor:
    """A tensor from its parts by share: their rows follow on each other, and are as many as its shape says."""
    (shape, _, first), *_ = parts.values()
    end = 0
    for name, (claimed, start, rows) in parts.items():
        if claimed != shape or rows.shape[1:] != shape[1:] or rows.dtype != first.dtype:
            raise ValueError(f"share {name} has {place} as {rows.dtype} {tuple(rows.shape)} of {claimed}")
        if start != end:
            raise ValueError(f"share {name} has {place} from row {start}, and the one before ends at row {end}")
        end += len(rows)
    if end != shape[0]:
        raise ValueError(f"share {name} has {place} up to row {end} of {shape[0]}")
    return torch.cat([rows for _, _, rows in parts.values()])


def _damaged(path: Path, fault: object) -> VssError:
    return VssError(f"checkpoint {path} is damaged: {fault}", _again(path))


def _again(path: Path) -> str:
    return f"copy {path.name} and {shares_folder(path).name} again, or go back to another checkpoint of the run"
