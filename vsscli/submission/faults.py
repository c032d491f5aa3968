"""Faults of a submission: all are counted, the first of each kind are kept."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

LISTED = 10
"""Faults of each kind that are kept."""

NAME_LENGTH = 200
"""Longer names are truncated."""


@dataclass(frozen=True)
class EntryFault:
    """A fault of one frame or entry."""

    kind: str
    entry: str
    what: str

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"kind": self.kind, "entry": self.entry, "what": self.what}


class Faults:
    """Collects faults in bounded memory."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.listed: list[EntryFault] = []

    def add(self, kind: str, entry: str, what: str) -> None:
        """Count a fault, and keep it if it is among the first of its kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= LISTED:
            name = entry if len(entry) <= NAME_LENGTH else f"{entry[:NAME_LENGTH]}…"
            self.listed.append(EntryFault(kind, name, what))

    def __len__(self) -> int:
        return self.counts.total()

    def summary(self) -> str:
        """`3 missing, 1 size`."""
        return ", ".join(f"{count} {kind}" for kind, count in self.counts.items())


def in_pixels(size: tuple[int, ...]) -> str:
    """`853x480` (width x height) of (480, 853)."""
    return f"{size[1]}x{size[0]}"
