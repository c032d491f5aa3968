"""A census of masks: how many pixels have each value, and in how many masks it occurs.

`data.check` takes it in the pass that decodes every mask, and `evaluation.score` while it counts. `data.verdict` judges
from it whether masks mean what the data set's description says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

VALUES = 256


def _zeros() -> np.ndarray:
    return np.zeros(VALUES, np.int64)


@dataclass(eq=False)
class Census:
    """The values of a split's masks: the number of frames, and of masks that could be read; pixels of each value as
    read, and masks in which it occurs, (256,) int64; masks that were read by colour because their palette was
    renumbered (`data.palettes`)."""

    frames: int = 0
    masks: int = 0
    pixels: np.ndarray = field(default_factory=_zeros)
    within: np.ndarray = field(default_factory=_zeros)
    by_colours: int = 0

    def count(self, mask: np.ndarray) -> None:
        """Count a mask, (H, W) uint8."""
        self.count_values(np.bincount(mask.reshape(-1), minlength=VALUES))

    def count_values(self, pixels: np.ndarray) -> None:
        """Count a mask by its histogram, (256,)."""
        self.masks += 1
        self.pixels = self.pixels + pixels
        self.within = self.within + (pixels > 0)

    def __add__(self, other: Census) -> Census:
        return Census(
            self.frames + other.frames,
            self.masks + other.masks,
            self.pixels + other.pixels,
            self.within + other.within,
            self.by_colours + other.by_colours,
        )

    @property
    def values(self) -> list[int]:
        """The values that occur, in ascending order."""
        found: list[int] = np.flatnonzero(self.pixels).tolist()
        return found

    def share(self, *values: int) -> float:
        """The share of all pixels with one of some values; 0 if nothing was counted."""
        total = int(self.pixels.sum())
        return int(self.pixels[list(values)].sum()) / total if total else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values, without mask values that do not occur."""
        rows = {str(value): [int(self.pixels[value]), int(self.within[value])] for value in self.values}
        return {"frames": self.frames, "masks": self.masks, "by_colours": self.by_colours, "values": rows}

    @classmethod
    def from_json(cls, values: Any) -> Census:
        """The census that `to_json` wrote; `ValueError`, `KeyError` or `TypeError` for anything else."""
        census = cls(int(values["frames"]), int(values["masks"]), by_colours=int(values.get("by_colours", 0)))
        for value, (pixels, within) in dict(values["values"]).items():
            if not 0 <= int(value) < VALUES:
                raise ValueError(f"masks can't have value {value}")
            census.pixels[int(value)], census.within[int(value)] = int(pixels), int(within)
        return census
