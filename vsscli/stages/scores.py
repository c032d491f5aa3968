"""The table of an eval stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vsscli.metrics.registry import title
from vsscli.report.table import ScoreRow, score_table


@dataclass(frozen=True)
class Line(ScoreRow):
    """Measured fractions by metric; the paper's figures in per cent; a note needed to compare them."""

    paper: Mapping[str, float] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class ScoreTable:
    """The table of an eval stage: its name, rows, and metrics from left to right."""

    name: str
    rows: tuple[Line, ...]
    metrics: tuple[str, ...]

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Columns and rows; the paper's figures follow the measured ones if any row has one."""
        columns, cells = score_table(self.rows, self.metrics)
        papers = [metric for metric in self.metrics if any(metric in row.paper for row in self.rows)]
        columns += [f"paper {title(metric)}" for metric in papers]
        for row, line in zip(self.rows, cells, strict=True):
            line += [f"{row.paper[metric]:.2f}" if metric in row.paper else "-" for metric in papers]
        if any(row.note for row in self.rows):
            columns, cells = [*columns, "note"], [[*c, row.note] for row, c in zip(self.rows, cells, strict=True)]
        return columns, cells

    def to_json(self) -> list[dict[str, Any]]:
        """The rows as plain JSON values; `None` for NaN."""
        return [
            {
                "name": row.name,
                **{metric: None if math.isnan(row.scores[metric]) else row.scores[metric] for metric in self.metrics},
                "paper": dict(row.paper),
                "note": row.note,
            }
            for row in self.rows
        ]
