"""Where results go by default, and how they are found again.

``<workspace>/<recipe>/`` holds a training run, ``<workspace>/<pipeline>/<stage>/`` what a stage of a pipeline left,
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
"""Where in a workspace stores lie."""

Begin = Callable[[Path, Sequence[Path]], object]
"""Hears where a store will lie, and of which stores it is made, before anything is written there."""


def unheard(place: Path, sources: Sequence[Path]) -> None:
    """The `Begin` that does nothing."""


def run_folder(workspace: Path, recipe_name: str) -> Path:
    """Folder of a training run.

    Raises
    ------
    VssError
        A link leads it out of the workspace.
    """
    require_inside(workspace, workspace / recipe_name)
    return workspace / recipe_name


def store_path(workspace: Path, header: Header, name: str) -> Path:
    """Place of a store: named for people, and for its fingerprint so that two settings never meet.

    Raises
    ------
    VssError
        The header names no data set or no split, or calls them what can't be the name of a folder; or a link leads it
        out of the workspace. The store itself may be a link.
    """
    noted = [header.data.get(key) for key in ("name", "split")]
    parts = [part if isinstance(part, str) else "" for part in noted]
    require_names(parts, "data set and split of a store", "give --out, or make the stores it comes from again")
    folder = workspace.joinpath("stores", *parts)
    require_inside(workspace, folder)
    return folder / f"{plain_name(name)}-{header.fingerprint[:8]}.zarr"


def older_store(path: Path, header: Header) -> Path | None:
    """A store beside the place of another that holds the same predictions in an earlier format, if there is one."""
    for other in sorted(path.parent.glob(f"{glob.escape(path.stem.rpartition('-')[0])}-*.zarr")):
        with suppress(VssError):
            there = read_header(other)
            same = there.source == header.to_dict()["source"] and there.table.names == header.table.names
            if there.format < header.format and same and there.parsed_encoding() == header.parsed_encoding():
                return other
    return None


def find_stores(workspace: Path, kind: str | None = None, split: str | None = None) -> list[Path]:
    """Stores in the workspace, newest first.

    Parameters
    ----------
    workspace
        Folder of all results.
    kind
        "prediction", "fusion" or "pseudo"; none for all.
    split
        Name of a split; "evaluation" stands for the split that each store's recipe evaluates on.
    """
    found = []
    for path in workspace.glob(STORES):
        try:
            header = read_header(path)
        except VssError:
            continue  # for `unreadable_stores` to name
        if (kind is None or header.kind == kind) and (split is None or _is_of(header, split)):
            found.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(found, reverse=True)]


def unreadable_stores(workspace: Path) -> list[tuple[Path, VssError]]:
    """What lies where stores lie and can't be read, by name, and why: of another format, or damaged."""
    found = []
    for path in sorted(workspace.glob(STORES)):
        try:
            read_header(path)
        except VssError as error:
            found.append((path, error))
    return found


def with_unreadable(hint: str, workspace: Path) -> str:
    """A hint of an error that found no store, and which stores were passed over because they can't be read."""
    unreadable = unreadable_stores(workspace)
    if not unreadable:
        return hint
    _, first = unreadable[0]
    others = f" (and {len(unreadable) - 1} more: `vss cache ls`)" if len(unreadable) > 1 else ""
    return f"{hint}; passed over: {first.message}{others}: {first.hint}"


def _is_of(header: Header, split: str) -> bool:
    if split != "evaluation":
        return bool(header.data.get("split") == split)
    return header.data.get("split") in ("val", header.data.get("section", {}).get("val"))


def newest_evaluation_store(workspace: Path, data: str | None = None) -> Path:
    """The newest prediction or fusion of an evaluation split; see `newest_store`."""
    return newest_store(workspace, "evaluation", data)


def newest_store(workspace: Path, split: str, data: str | None = None) -> Path:
    """The newest prediction or fusion of a split.

    Parameters
    ----------
    workspace
        Folder of all results.
    split
        As for `find_stores`.
    data
        Name of the data set; none: any.

    Raises
    ------
    VssError
        There is none; the hint is the command that makes one.
    """
    for path in find_stores(workspace, split=split):
        header = read_header(path)
        if header.kind != "pseudo" and data in (None, header.data.get("name")):
            return path
    checkpoints = sorted(
        [*workspace.glob("*/last.pt"), *workspace.glob("*/*/last.pt")], key=lambda path: path.stat().st_mtime_ns
    )
    checkpoint = checkpoints[-1] if checkpoints else "CHECKPOINT"
    what, wanted = ("an evaluation split", "val") if split == "evaluation" else (f"split {split!r}", split)
    of = f" of {data}" if data else ""
    raise VssError(
        f"no prediction of {what}{of} in {workspace}",
        with_unreadable(
            f"make one with `vss predict --model {checkpoint} --split {wanted} --tta`, or name one with --pred",
            workspace,
        ),
    )
