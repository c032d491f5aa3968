"""Tables of figures: for a terminal, as aligned text, and as Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import TextWrapper
from typing import TYPE_CHECKING

from vsscli.printable import printable

if TYPE_CHECKING:
    from rich.table import Table

BORDER = 3
"""Characters that a drawn table adds to each column."""


@dataclass(frozen=True)
class ScoreRow:
    """One row of a table of scores.

    Parameters
    ----------
    name
        What was scored: a network, with or without augmentation, or a fusion.
    scores
        Fractions by metric, ``{"miou": 0.64, "vc8": 0.92}``; a missing one is shown as a dash.
    """

    name: str
    scores: Mapping[str, float]


def score_table(rows: Sequence[ScoreRow], metrics: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Scores laid out as in the paper's Table 3 (arXiv 2406.00587): one method per row, per cent with two decimals.

    Returns columns and rows for `rich_table`, `plain_table` or `markdown_table`. The best of each metric, which is the
    lowest of an error, is marked ``*`` if there are several rows.
    """
    from vsscli.metrics.registry import title

    best = {metric: max((_rank(row, metric) for row in rows), default=-math.inf) for metric in metrics}
    cells = []
    for row in rows:
        marks = ["*" if len(rows) > 1 and _rank(row, metric) == best[metric] > -math.inf else "" for metric in metrics]
        values = [_percent(row.scores.get(metric)) for metric in metrics]
        cells.append([row.name, *(f"{mark}{value}" for value, mark in zip(values, marks, strict=True))])
    return ["method", *(title(metric) for metric in metrics)], cells


def plain_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """Aligned text for pipes and logs, without trailing spaces or a final line break.

    Parameters
    ----------
    columns
        Headings.
    rows
        Cells; numbers are right-aligned, floats have four decimals.
    title
        A line above the table.
    """
    return narrow_table(columns, rows, None, title)


def fits(columns: Sequence[str], rows: Iterable[Sequence[object]], width: int) -> bool:
    """Whether a table can be drawn ``width`` characters wide without truncation."""
    names, cells, _ = _layout(columns, rows)
    return _drawn(_widths([names, *cells]), BORDER) <= width


def narrow_table(columns: Sequence[str], rows: Iterable[Sequence[object]], width: int | None, title: str = "") -> str:
    """The same for screens ``width`` characters wide, without breaking words.

    Cells that do not fit go below their row on separate lines, with their heading. A name longer than the screen stays
    in one piece, so that it can be copied.
    """
    names, cells, right = _layout(columns, rows)
    widths = _widths([names, *cells])
    kept = list(range(len(names)))
    while width is not None and len(kept) > 1 and _drawn([widths[i] for i in kept], 2) > width:
        kept.remove(max((i for i in kept if not right[i]), key=lambda i: widths[i], default=kept[-1]))
    taken = [i for i in range(len(names)) if i not in kept]
    lines = [printable(title)] if title else []
    for number, line in enumerate([names, *cells]):
        padded = [line[i].rjust(widths[i]) if right[i] else line[i].ljust(widths[i]) for i in kept]
        lines.append("  ".join(padded).rstrip())
        for i in taken if number else ():
            if line[i] and width is not None:
                wrapper = TextWrapper(max(width, 20), "    ", "      ", break_long_words=False, break_on_hyphens=False)
                lines += wrapper.wrap(f"{names[i]}: {line[i]}")
    return "\n".join(lines)


def _widths(lines: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]


def _drawn(widths: Sequence[int], between: int) -> int:
    return sum(widths) + between * len(widths)


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """The table in GitHub's Markdown; arguments as for `plain_table`."""
    names, cells, right = _layout(columns, rows)
    rule = ["---:" if to_right else "---" for to_right in right]
    lines = [[_in_markdown(cell) for cell in line] for line in [names, *cells]]
    lines.insert(1, rule)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rich_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> Table:
    """The table for `rich`; arguments as for `plain_table`."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    names, cells, right = _layout(columns, rows)
    table = Table(title=Text(printable(title)) if title else None, title_justify="left", box=box.SIMPLE_HEAD)
    for name, to_right in zip(names, right, strict=True):
        table.add_column(Text(name), justify="right" if to_right else "left")
    for line in cells:
        table.add_row(*(Text(cell, style="bold" if _is_best(cell) else "") for cell in line))
    return table


def _layout(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> tuple[list[str], list[list[str]], list[bool]]:
    """Cells as text, and which columns hold numbers."""
    cells = [[_cell(value) for value in row] for row in rows]
    for row in cells:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells under {len(columns)} headings: {row}")
    right = [bool(cells) and all(_is_number(row[i]) for row in cells) for i in range(len(columns))]
    return [_cell(name) for name in columns], cells, right


def _is_best(cell: str) -> bool:
    """Whether a cell is a figure that `score_table` marked; names may begin with a star too."""
    return cell.startswith("*") and _is_number(cell[1:])


def _in_markdown(cell: str) -> str:
    """A cell escaped for Markdown, and for HTML made from it."""
    if _is_best(cell):
        return f"**{cell[1:]}**"
    return re.sub(r"[\\`*\[\]|]", r"\\\g<0>", escape(cell, quote=False))


def figure(value: float | None, form: str = ".4f") -> str:
    """A number as tables show it; a dash if there is none."""
    return "-" if value is None or not math.isfinite(value) else format(value, form)


def _cell(value: object) -> str:
    if value is None or isinstance(value, float):
        return figure(value)
    return printable(" ".join(str(value).strip().split(" ")))


def _is_number(cell: str) -> bool:
    if cell == "-":
        return True
    try:
        float(cell.lstrip("*").rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True


def _percent(fraction: float | None) -> str:
    return figure(None if fraction is None else 100 * fraction, ".2f")


def _rank(row: ScoreRow, metric: str) -> float:
    """A figure as it is shown, so that equal ones are both the best; higher is better."""
    from vsscli.metrics.registry import metric_of

    shown = _percent(row.scores.get(metric))
    kind = metric_of(metric)
    sign = -1 if kind is not None and kind.lower_is_better else 1
    return -math.inf if shown == "-" else sign * float(shown)
