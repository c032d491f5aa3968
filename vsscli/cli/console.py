"""Output of commands: messages on stderr, as `vsscli.report.progress` writes them, and results on stdout."""

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


def uncoloured(stream: TextIO) -> bool:
    """Whether to write without colour: the stream is not a terminal, or ``NO_COLOR`` is set."""
    return bool(os.environ.get("NO_COLOR")) or not is_terminal(stream)


class Console(Progress):
    """The command line's listener, which also prints results."""

    def print(self, *lines: str) -> None:
        """Print lines of the result. A line break within one is part of some name, and is shown escaped."""
        if self.first and lines:
            print("\n".join(map(printable, lines)), flush=True)

    def print_text(self, text: str) -> None:
        """Print a text as the result: a recipe, a schema."""
        if self.first:
            print(printable_text(text), flush=True)

    def print_json(self, values: object) -> None:
        """Print the result as a JSON object on one line; NaN and infinity become null."""
        if self.first:
            print(json.dumps(_json(values), allow_nan=False), flush=True)

    def print_table(self, columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> None:
        """Print the result as a table: with rules on a terminal, else as aligned text."""
        if not self.first:
            return
        from vsscli.report.table import fits, narrow_table, plain_table, rich_table

        rows = [list(row) for row in rows]
        if is_terminal(sys.stdout):
            terminal = screen(sys.stdout)
            if fits(columns, rows, terminal.width):
                terminal.print(rich_table(columns, rows, title))
            else:  # a drawn table would truncate what people copy
                print(narrow_table(columns, rows, terminal.width, title), flush=True)
        else:
            print(plain_table(columns, rows, title), flush=True)


def _json(value: Any) -> Any:
    """Plain JSON values of numbers and arrays of NumPy and torch, paths, mappings and sequences."""
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
    raise TypeError(f"{type(value).__name__} can't be printed as JSON")
