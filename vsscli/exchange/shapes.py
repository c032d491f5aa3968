"""Shapes on a frame, in the order in which they are painted: later ones cover earlier ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from vsscli.errors import VssError
from vsscli.exchange.items import Size
from vsscli.exchange.polygons import paint

DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What values that are not what they should be raise where they are used."""

Draw = Callable[[np.ndarray], None]
"""Paints one shape on a label map, (H, W) uint8."""


def draw_shapes(shapes: Iterable[Draw], size: Size, uncovered: int, where: str) -> np.ndarray:
    """The labels that shapes come to, (H, W) uint8; what none covers is ``uncovered``.

    Raises
    ------
    VssError
        A shape is damaged; ``where`` says in what.
    """
    label = np.full(size, uncovered, np.uint8)
    for draw in shapes:
        try:
            draw(label)
        except DAMAGE as cause:
            raise VssError(
                f"{where} has a shape that can't be drawn: {cause}", "draw it again, or remove it"
            ) from cause
    return label


def polygon(rings: Sequence[Sequence[float]] | Sequence[np.ndarray], index: int) -> Draw:
    """A polygon; ``rings`` has numbers x, y, x, y, … or (N, 2), each ring painted by itself."""

    def draw(label: np.ndarray) -> None:
        for ring in rings:
            numbers = np.asarray(ring, np.float64)
            if numbers.ndim == 1:
                if len(numbers) % 2:
                    raise ValueError(f"a polygon of {len(numbers)} numbers, not pairs")
                numbers = numbers.reshape(-1, 2)
            paint(label, [numbers], index)

    return draw


def pixels(mask: Callable[[Size], np.ndarray], index: int, corner: tuple[int, int] = (0, 0)) -> Draw:
    """A mask: at the size of the image, or a piece whose upper left pixel is at ``corner``, x before y."""

    def draw(label: np.ndarray) -> None:
        piece = mask((label.shape[0], label.shape[1]))
        x, y = corner
        if x < 0 or y < 0 or y + piece.shape[0] > label.shape[0] or x + piece.shape[1] > label.shape[1]:
            raise ValueError(
                f"a mask of {piece.shape[1]}x{piece.shape[0]} at ({x}, {y}) does not fit in "
                f"{label.shape[1]}x{label.shape[0]}"
            )
        label[y : y + piece.shape[0], x : x + piece.shape[1]][piece] = index

    return draw
