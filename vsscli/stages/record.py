"""The record of a stage: its key, its result, how long it took. One file per stage, replaced in one step.

A record exists from the moment that a stage begins, so that an interrupted stage is recognised.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from vsscli import __version__
from vsscli.files import write_text
from vsscli.store.remote import relative_address
from vsscli.structured import json_or_none

FILE = "stage.json"

Parts = dict[str, Any]
"""A key, or a part of one."""


@dataclass(frozen=True)
class Result:
    """The result of a stage: its path, a fingerprint of its content, figures as plain JSON values.

    Stages that take it are repeated if the fingerprint changes, and only then. The path of a table is the stage's own
    folder.
    """

    path: Path
    fingerprint: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A stage that began, and its result if it ended.

    Parameters
    ----------
    key
        What decides it: see `vsscli.stages.key`.
    forced
        Whether it was repeated by ``--force``.
    seconds
        Time that it took without interruption; `None` if it was continued.
    flops
        Counted operations of its networks; `None` if none ran.
    stores
        Stores that it wrote or began to write, under this key and earlier ones, if they exist. All of them are removed
        when the frames change.
    stale
        Whether the place where it writes still holds a store that was made of something else.
    """

    status: Literal["begun", "done"]
    key: Parts
    forced: bool = False
    seconds: float | None = None
    flops: float | None = None
    result: Result | None = None
    stores: tuple[Path, ...] = ()
    stale: bool = False

    @property
    def begun(self) -> tuple[Path, ...]:
        """All places where it is known to have written a store, including its result."""
        return (*self.stores, *(() if self.result is None else (self.result.path,)))


def read_stage_record(folder: Path) -> Record | None:
    """The record in a stage's folder; `None` if there is no readable one, and the stage is run again."""
    try:
        values = json_or_none(folder / FILE)
        result = values.pop("result")
        del values["vss"]
        if result is not None:
            result = Result(**{**result, "path": _place(folder, result["path"])})
        stores = tuple(_place(folder, path) for path in values.pop("stores", ()))
        return Record(**values, result=result, stores=stores)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def write_stage_record(folder: Path, record: Record) -> None:
    """Write a record. Paths in it are relative to the folder, so that a workspace can move."""
    values: dict[str, Any] = {"vss": __version__, **asdict(record)}
    if record.result is not None:
        values["result"]["path"] = relative_address(record.result.path, folder / FILE)
    values["stores"] = [relative_address(path, folder / FILE) for path in record.stores]
    write_text(folder / FILE, json.dumps(values, indent=1) + "\n")


def read_records(workspace: Path) -> list[Record]:
    """The records of all stages of all pipelines in a workspace."""
    found = (read_stage_record(path.parent) for path in sorted(workspace.glob(f"*/*/{FILE}")))
    return [record for record in found if record is not None]


def _place(folder: Path, address: str) -> Path:
    return Path(os.path.normpath(folder / address))
