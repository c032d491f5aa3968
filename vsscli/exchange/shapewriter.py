"""What writers of shapes share: a frame's classes as masks, or as polygons, and how much of them polygons keep."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.exchange.items import Choices, Item, Writer
from vsscli.exchange.polygons import paint, regions, simplified
from vsscli.exchange.sink import Sink


class ShapeWriter(Writer):
    """A writer of masks or polygons; its figures are of the polygons' intersection over union with the masks."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._sum, self._count, self._least = 0.0, 0, 1.0

    def masks(self, item: Item) -> Iterator[tuple[int, np.ndarray]]:
        """The classes in a frame, each with its pixels, (H, W) bool."""
        return class_masks(item.label, self.table.num_classes)

    def polygons(self, item: Item) -> Iterator[tuple[int, list[np.ndarray]]]:
        """The classes in a frame, each with the outlines of its parts, simplified as chosen; (N, 2), x before y."""
        tolerance = self.choices.tolerance
        for index, mask in self.masks(item):
            found = [kept for region in regions(mask) if (kept := simplified(region, tolerance)) is not None]
            painted = mask
            if tolerance > 0:  # otherwise they are exact
                again = np.zeros(mask.shape, np.uint8)
                for region in found:
                    paint(again, region.rings(), 1)
                painted = again.astype(bool)
            self._compare(mask, painted)
            if found:
                yield index, [region.keyhole() for region in found]

    def _compare(self, mask: np.ndarray, painted: np.ndarray) -> None:
        kept = float((mask & painted).sum() / (mask | painted).sum())
        self._sum, self._count, self._least = self._sum + kept, self._count + 1, min(self._least, kept)

    def finish(self) -> dict[str, float]:
        """Mean and least intersection over union, over classes and frames, if polygons were written."""
        return {"iou_kept": self._sum / self._count, "iou_least": self._least} if self._count else {}


def class_masks(label: np.ndarray, num_classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """The classes in a label map (H, W) uint8, each with its pixels, (H, W) bool."""
    for index in np.flatnonzero(np.bincount(label.ravel(), minlength=256)[:num_classes]).tolist():
        yield index, label == index


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, width and height of the smallest box around a mask (H, W) bool that holds something."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top
