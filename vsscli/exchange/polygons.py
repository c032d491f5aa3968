"""Polygons: painting them, and tracing the outlines of a mask.

Pixel (row r, column c) is the square from (x, y) = (c, r) to (c + 1, r + 1). It belongs to a polygon whose inside its
centre is in, by the even-odd rule; of a centre on an edge, the left and upper edges count (as in computer graphics), so
polygons that share an edge neither overlap nor leave a gap. Outlines run along the sides of pixels, so painting them
again gives the mask back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import approximate_polygon

from vsscli.exchange.items import Size

FURTHEST = 2.0**31
"""Coordinates beyond are no pixel's, and beyond what whole numbers of 64 bits are exact for."""


class Region(NamedTuple):
    """A connected part of a mask: its outline, and those of its holes, (N, 2) float64 each, x before y."""

    outline: np.ndarray
    holes: list[np.ndarray]

    def rings(self) -> list[np.ndarray]:
        """All of them."""
        return [self.outline, *self.holes]

    def keyhole(self) -> np.ndarray:
        """One ring that goes around everything: from the outline to each hole and back on the same way, which adds no
        area by the even-odd rule."""
        ring = self.outline
        for hole in self.holes:
            apart = (
                np.abs(ring[:, None] - hole[None]).sum(axis=2) if len(ring) * len(hole) < 2**22 else np.zeros((1, 1))
            )
            at, start = np.unravel_index(int(apart.argmin()), apart.shape)
            there = np.concatenate([hole[start:], hole[: start + 1]])
            ring = np.concatenate([ring[: at + 1], there, ring[at:]])
        return ring


def paint(label: np.ndarray, rings: Sequence[np.ndarray], value: int) -> None:
    """Set the pixels inside of some rings together to a value; what lies outside of the image is cut off.

    Parameters
    ----------
    label
        (H, W) uint8, changed.
    rings
        (N, 2) each, x before y; holes are rings too.
    value
        What to set.

    Raises
    ------
    ValueError
        A ring has fewer than three corners, or a coordinate that is no number.
    """
    points = [_sound(ring) for ring in rings]
    low = np.min([ring.min(axis=0) for ring in points], axis=0)
    high = np.max([ring.max(axis=0) for ring in points], axis=0)
    size = np.array(label.shape[::-1])
    left, top = np.clip(np.floor(low), 0, size).astype(int)
    right, bottom = np.clip(np.ceil(high), 0, size).astype(int)
    if left < right and top < bottom:
        inside = _inside([ring - (left, top) for ring in points], (bottom - top, right - left))
        label[top:bottom, left:right][inside] = value


def _sound(ring: np.ndarray) -> np.ndarray:
    ring = np.asarray(ring, np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise ValueError(f"a polygon has {len(ring)} corners, and needs three with two coordinates each")
    if not np.isfinite(ring).all() or np.abs(ring).max() > FURTHEST:
        raise ValueError("a polygon has a coordinate that no image has")
    return ring


def _inside(rings: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """The pixels of an image whose centres are inside, (H, W) bool: crossed edges are counted along rows."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.int64)
    for ring in rings:
        start, end = ring, np.roll(ring, -1, axis=0)
        up = end[:, 1] < start[:, 1]
        start, end = np.where(up[:, None], end, start), np.where(up[:, None], start, end)
        first = np.clip(np.ceil(start[:, 1] - 0.5), 0, height).astype(np.int64)
        count = np.clip(np.ceil(end[:, 1] - 0.5), 0, height).astype(np.int64) - first
        edge = np.repeat(np.arange(len(ring)), count)
        rows = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        (x0, y0), (x1, y1) = start[edge].T, end[edge].T
        at = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        columns = np.clip(np.ceil(at - 0.5), 0, width).astype(np.int64)
        crossings += np.bincount(rows * (width + 1) + columns, minlength=crossings.size).reshape(crossings.shape)
    return (np.cumsum(crossings[:, :-1], axis=1) & 1).astype(bool)


def regions(mask: np.ndarray) -> Iterator[Region]:
    """The outlines of a mask's connected parts; pixels that only touch at a corner are not connected.

    Parameters
    ----------
    mask
        (H, W) bool.
    """
    parts, count = ndimage.label(mask)
    outlines: list[np.ndarray | None] = [None] * (count + 1)
    holes: list[list[np.ndarray]] = [[] for _ in range(count + 1)]
    padded = np.pad(parts, 1)
    for ring in _rings(np.pad(mask, 1).astype(np.uint8)):
        x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]].astype(int)
        part, above = padded[y + 1, x + 1], padded[y, x + 1]  # below and above the corner that is uppermost, then left
        if part and part != above:
            outlines[part] = ring
        else:
            holes[above].append(ring)
    for outline, inner in zip(outlines[1:], holes[1:], strict=True):
        assert outline is not None
        yield Region(outline, inner)


def _rings(padded: np.ndarray) -> Iterator[np.ndarray]:
    """All closed lines between the inside and the outside of a mask with a border of zeros, by their corners."""
    above, left = padded[:-1, 1:], padded[1:, :-1]
    code = padded[:-1, :-1] | above << 1 | left << 2 | padded[1:, 1:] << 3
    rows, columns = np.nonzero(_CORNERS[code])
    code = code[rows, columns]
    # Two lines meet where pixels touch at a corner; each of them turns around its pixel.
    twice = np.repeat(np.arange(len(rows)), 1 + _TOUCHING[code])
    second = np.diff(twice, prepend=-1) == 0
    rows, columns, code = rows[twice], columns[twice], code[twice]
    # Of two corners in one place, the one whose line goes left is before the other in its row; likewise in its column.
    lower = np.where(code == 9, second, ~second)
    beside = _partners(np.lexsort((second, columns, rows)))
    across = _partners(np.lexsort((np.where(_TOUCHING[code] == 1, lower, False), rows, columns)))
    points, seen = np.stack([columns, rows], axis=1).astype(np.float64), bytearray(len(rows))
    beside_of, across_of = beside.tolist(), across.tolist()
    for first in range(len(rows)):
        if seen[first]:
            continue
        ring, at = [], first
        while not seen[at]:
            other = beside_of[at]
            seen[at] = seen[other] = 1
            ring += [at, other]
            at = across_of[other]
        yield points[ring]


_CORNERS = np.array([value not in (0, 3, 5, 10, 12, 15) for value in range(16)])
_TOUCHING = np.array([value in (6, 9) for value in range(16)]).astype(np.int64)


def _partners(order: np.ndarray) -> np.ndarray:
    """The other end of the line that begins at each corner: along a row or column, corners come in pairs."""
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner


def simplified(region: Region, tolerance: float) -> Region | None:
    """A region whose outlines stray by up to ``tolerance`` pixels and have fewer corners (Douglas and Peucker 1973);
    None where nothing is left of it."""
    if tolerance <= 0:
        return region
    rings = [approximate_polygon(np.concatenate([ring, ring[:1]]), tolerance)[:-1] for ring in region.rings()]
    if len(rings[0]) < 3:
        return None
    return Region(rings[0], [ring for ring in rings[1:] if len(ring) > 2])
