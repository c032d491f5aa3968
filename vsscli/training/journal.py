"""Figures of a run: one JSON object per line, and the same to its trackers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.structured import parse_json
from vsscli.training.trackers import Trackers

JOURNAL = "journal.jsonl"
"""File in the folder of a run."""

Figure = float | int | str | None


class Journal:
    """Append-only record of a run's figures.

    Lines of steps after ``start``, left by a run that was killed after its last checkpoint, are dropped, so that the
    file reads as if nothing had happened.
    """

    def __init__(self, path: Path, start: int, trackers: Trackers | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = []
        if start and path.exists():
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= start]
        write_text(path, "".join(kept))  # replaces whatever was there; of a link, the link itself
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._trackers = trackers

    def record(self, step: int, figures: Mapping[str, Figure]) -> None:
        """Write the figures of one step; NaN becomes null in JSON."""
        clean = {
            key: None if isinstance(value, float) and math.isnan(value) else value for key, value in figures.items()
        }
        self._file.write(json.dumps({"step": step, **clean}) + "\n")
        if self._trackers is not None:
            numbers = {key: value for key, value in clean.items() if isinstance(value, int | float)}
            self._trackers.record(step, numbers)

    def close(self, *, ended: bool = True) -> None:
        """Close the file, and the trackers' runs; ``ended`` if this one came to its last step."""
        self._file.close()
        if self._trackers is not None:
            self._trackers.close(ended=ended)


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal that are whole, in order; none if there is no such file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [parse_json(line, "journal", finite=False) for line in lines if not math.isinf(_step_of(line))]


def _step_of(line: str) -> float:
    try:
        return float(parse_json(line, "journal", finite=False)["step"])
    except (VssError, ValueError, KeyError, TypeError):  # the line a kill cut off
        return math.inf
