"""What a verb says: talk on stderr, as `vsscli.report.progress` writes it, and data on stdout."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from vsscli.printable import printable, printable_text
from vsscli.report.progress import Progress, is_terminal, screen


def plain(stream: TextIO) -> bool:
    """Whether to write without colour: no terminal, or ``NO_COLOR`` is set."""
    return bool(os.environ.get("NO_COLOR")) or not is_terminal(stream)


class Console(Progress):
    """The command line's listener, and the printer of its results."""

    def print(self, *lines: str) -> None:
        """Lines of the result. A line break within one is part of some name, and shown as such."""
        if self.first:
            print("\n".join(map(printable, lines)), flush=True)

    def print_text(self, text: str) -> None:
        """A whole text as the result: a recipe, a schema."""
        if self.first:
            print(printable_text(text), flush=True)

    def print_json(self, values: object) -> None:
        """The result as one JSON object on one line; what is no number (NaN, infinity) becomes null."""
        if self.first:
            print(json.dumps(_json(values), allow_nan=False), flush=True)

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """The result as a table: drawn on a terminal, else aligned text."""
        if not self.first:
            return
        from vsscli.report.table import fits, narrow_table, plain_table, rich_table

        rows = [list(row) for row in rows]
        if is_terminal(sys.stdout):
            terminal = screen(sys.stdout)
            if fits(columns, rows, terminal.width):
                terminal.print(rich_table(columns, rows, title))
            else:  # drawn, it would cut what people copy
                print(narrow_table(columns, rows, terminal.width, title), flush=True)
        else:
            print(plain_table(columns, rows, title), flush=True)


def _json(value: Any) -> Any:
    """Plain JSON values for what verbs report: NumPy's and torch's numbers and arrays, paths, mappings, sequences."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_json(item) for item in value]
    if hasattr(value, "tolist"):
        return _json(value.tolist())
    raise TypeError(f"{type(value).__name__} is nothing to print as JSON")
