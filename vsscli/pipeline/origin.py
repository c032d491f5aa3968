"""What made a prediction, as plain values: the networks behind it, their runs, licences and training curves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, load_checkpoint
from vsscli.pipeline.runs import curves_in
from vsscli.store.header import Header, read_header
from vsscli.store.reader import Store
from vsscli.store.remote import is_remote
from vsscli.structured import json_or_none
from vsscli.training.journal import JOURNAL

CHECKPOINTS = ("last.pt", "best.pt")

DEEP = 8
"""A fusion of fusions is followed this far."""

MOST = 64
"""Checkpoints of a workspace that are asked whether they made a prediction, the newest ones."""


def origin(store: Store, workspace: Path) -> dict[str, Any]:
    """What a store's header, and the summary of the pipeline that made it, say of its making."""
    header = store.header
    made: dict[str, Any] = {"kind": header.kind, "format": header.format, "fingerprint": header.fingerprint}
    made |= {name: value for name, value in header.summary.items() if isinstance(value, str | int | float)}
    source = {name: value for name, value in header.source.items() if not isinstance(value, dict | list) or name in FEW}
    stores = _addresses(header)
    return made | {"source": source, **({"stores": stores} if stores else {}), **_pipeline(store, workspace)}


FEW = ("scales", "window", "step", "weights", "temperatures")
"""Lists in a header's source that are short enough to show."""


def _pipeline(store: Store, workspace: Path) -> dict[str, Any]:
    """The stage of a pipeline in the workspace whose result the store is, if there is one."""
    for path in sorted(workspace.glob("*/summary.json")):
        found = json_or_none(path)
        stages = found.get("stages") if isinstance(found, dict) else None
        for stage in stages if isinstance(stages, list) else ():
            place = stage.get("result") if isinstance(stage, dict) else None
            if isinstance(place, str) and os.path.realpath(workspace / place) == os.path.realpath(store.path):
                kept = {
                    name: found.get(name) for name in ("pipeline", "command", "time", "commit", "versions", "machine")
                }
                return {"run": kept | {"stage": stage.get("name"), "seconds": stage.get("seconds")}}
    return {}


def networks(stores: Sequence[Store], runs: Sequence[Path], workspace: Path) -> list[dict[str, Any]]:
    """The trained networks behind some predictions, found in the workspace by their weights, and runs that are named.

    Parameters
    ----------
    stores
        Predictions or fusions.
    runs
        Folders of training runs.
    workspace
        Where checkpoints are looked for.

    Raises
    ------
    VssError
        A named folder is not that of a training run.
    """
    wanted = {weights for store in stores for weights in _weights(store.path, store.header)}
    found: dict[Path, dict[str, Any]] = {}
    for folder in runs:
        checkpoint = next(_opened(folder / name for name in CHECKPOINTS), None)
        if checkpoint is None and not (folder / JOURNAL).is_file():
            what = "does not exist" if not folder.exists() else "has neither a checkpoint nor journal.jsonl"
            raise VssError(f"run {folder} {what}", "name the folder of a training run, runs/NAME")
        found[folder] = _run(folder, checkpoint, wanted)
    for checkpoint in _opened(_newest(workspace) if wanted else ()):
        folder = checkpoint.path.parent if checkpoint.path is not None else workspace
        if checkpoint.fingerprint in wanted and folder not in found:
            found[folder] = _run(folder, checkpoint, wanted)
    return list(found.values())


ABOUT = ("checkpoint", "fingerprint", "recipe", "family", "backbone", "pretrained", "licence", "steps", "used")


def _run(folder: Path, checkpoint: Checkpoint | None, wanted: set[str]) -> dict[str, Any]:
    values: dict[str, Any] = {"name": folder.name, "path": str(folder), "curves": curves_in(folder / JOURNAL)}
    values |= dict.fromkeys(ABOUT)
    if checkpoint is None:
        return values
    backbone = checkpoint.network.get("backbone") or checkpoint.network.get("encoder")
    return values | {
        "checkpoint": str(checkpoint.path),
        "fingerprint": checkpoint.fingerprint,
        "recipe": checkpoint.recipe.get("name"),
        "family": checkpoint.network.get("family"),
        "backbone": backbone,
        "pretrained": checkpoint.network.get("pretrained"),
        "licence": checkpoint.licence,
        "steps": checkpoint.step,
        "used": checkpoint.fingerprint in wanted,
    }


def _weights(path: Path, header: Header, deep: int = DEEP) -> Iterator[str]:
    """Digests of the weights behind a prediction; of a fusion, those of its sources that are beside it."""
    weights = header.source.get("weights")
    if isinstance(weights, str):
        yield weights
    for address in _addresses(header) if deep and not is_remote(path) else ():
        place = Path(os.path.normpath(Path(os.path.abspath(path)).parent / address))
        try:
            yield from _weights(place, read_header(place), deep - 1)
        except (VssError, OSError, ValueError):
            continue


def _addresses(header: Header) -> list[str]:
    """The stores that a fusion was made from, as its header names them."""
    stores = header.source.get("stores")
    found = [one.get("address") for one in stores if isinstance(one, dict)] if isinstance(stores, list) else []
    return [address for address in found if isinstance(address, str)]


def _newest(workspace: Path) -> list[Path]:
    """Checkpoints in a workspace, newest first."""
    paths = [path for name in CHECKPOINTS for path in (*workspace.glob(f"*/{name}"), *workspace.glob(f"*/*/{name}"))]
    return sorted(paths, key=lambda path: -path.stat().st_mtime_ns)[:MOST]


def _opened(paths: Iterable[Path]) -> Iterator[Checkpoint]:
    """Those of some files that are checkpoints of ours, without their weights."""
    for path in paths:
        try:
            yield load_checkpoint(path, weights=False)
        except (VssError, OSError):
            continue
