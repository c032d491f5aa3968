"""Where results go by default, and how they are found again.

``<workspace>/<recipe>/`` holds a training run, ``<workspace>/<pipeline>/<stage>/`` the result of a stage,
``<workspace>/stores/<data>/<split>/`` the stores of a split.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from vsscli.errors import VssError
from vsscli.inside import require_inside
from vsscli.names import plain_name, require_names
from vsscli.store.header import Header, read_header

STORES = "stores/*/*/*.zarr"
"""Where stores are in a workspace."""

Begin = Callable[[Path, Sequence[Path]], object]
"""Called with the place of a store, and the stores that it is made of, before anything is written there."""


def unheard(place: Path, sources: Sequence[Path]) -> None:
    """The `Begin` that does nothing."""


def run_folder(workspace: Path, recipe_name: str) -> Path:
    """Folder of a training run.

    Raises
    ------
    VssError
        A link leads out of the workspace.
    """
    require_inside(workspace, workspace / recipe_name)
    return workspace / recipe_name


def store_path(workspace: Path, header: Header, name: str) -> Path:
    """Place of a store: its name is readable, and has the fingerprint so that two settings never share a place.

    Raises
    ------
    VssError
        The header names no data set or split, or one that can't be the name of a folder; or a link leads out of the
        workspace. The store itself may be a link.
    """
    noted = [header.data.get(key) for key in ("name", "split")]
    parts = [part if isinstance(part, str) else "" for part in noted]
    require_names(parts, "data set and split of a store", "give --out, or make its source stores again")
    folder = workspace.joinpath("stores", *parts)
    require_inside(workspace, folder)
    return folder / f"{plain_name(name)}-{header.fingerprint[:8]}.zarr"


def older_store(path: Path, header: Header) -> Path | None:
    """A store with the same predictions in an earlier format, beside the place of a store, if there is one."""
    for other in sorted(path.parent.glob(f"{glob.escape(path.stem.rpartition('-')[0])}-*.zarr")):
        with suppress(VssError):
            there = read_header(other)
            same = there.source == header.to_dict()["source"] and there.table.names == header.table.names
            if there.format < header.format and same and there.parsed_encoding() == header.parsed_encoding():
                return other
    return None


def find_stores(workspace: Path, split: str | None = None) -> list[Path]:
    """Stores in the workspace, newest first.

    Parameters
    ----------
    workspace
        Folder of all results.
    split
        Name of a split; `None`: all; "evaluation" means the split that each store's recipe evaluates on.
    """
    found = []
    for path in workspace.glob(STORES):
        try:
            header = read_header(path)
        except VssError:
            continue  # see `unreadable_stores`
        if split is None or _is_of(header, split):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def unreadable_stores(workspace: Path) -> list[tuple[Path, VssError]]:
    """Stores that can't be read, by name, with the error: another format, or damaged."""
    found = []
    for path in sorted(workspace.glob(STORES)):
        try:
            read_header(path)
        except VssError as error:
            found.append((path, error))
    return found


def _with_unreadable(hint: str, workspace: Path) -> str:
    """The hint of an error about missing stores, extended by stores that were skipped because they are unreadable."""
    unreadable = unreadable_stores(workspace)
    if not unreadable:
        return hint
    _, first = unreadable[0]
    others = f" (and {len(unreadable) - 1} more: `vss cache ls`)" if len(unreadable) > 1 else ""
    return f"{hint}; skipped: {first.message}{others}: {first.hint}"


def _is_of(header: Header, split: str) -> bool:
    if split != "evaluation":
        return bool(header.data.get("split") == split)
    section = header.data.get("section")
    return header.data.get("split") in ("val", section.get("val") if isinstance(section, dict) else None)


def newest_store(workspace: Path, split: str | None = None, data: str | None = None) -> Path:
    """The newest prediction or fusion, of a split if one is named.

    Parameters
    ----------
    workspace
        Folder of all results.
    split
        As for `find_stores`.
    data
        Name of the data set; `None`: any.

    Raises
    ------
    VssError
        There is no such store; the hint is the command that makes one.
    """
    for path in find_stores(workspace, split=split):
        header = read_header(path)
        if header.kind != "pseudo" and data in (None, header.data.get("name")):
            return path
    if split is None:
        hint = _with_unreadable("make one with `vss predict`, or name one", workspace)
        raise VssError(f"no prediction store in {workspace}", hint)
    checkpoints = sorted(
        [*workspace.glob("*/last.pt"), *workspace.glob("*/*/last.pt")], key=lambda path: path.stat().st_mtime_ns
    )
    checkpoint = checkpoints[-1] if checkpoints else "CHECKPOINT"
    what, wanted = ("an evaluation split", "val") if split == "evaluation" else (f"split {split!r}", split)
    of = f" of {data}" if data else ""
    raise VssError(
        f"no prediction of {what}{of} in {workspace}",
        _with_unreadable(
            f"make one with `vss predict --model {checkpoint} --split {wanted} --tta`, or name one with --pred",
            workspace,
        ),
    )
