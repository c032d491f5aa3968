"""The sides of a synthetic street, painted flat: houses with windows, doors and roofs, and greenery between them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from vsscli.drawn.canvas import BUILDING, SKY, TREE, Brush, Span, draw_colour

TEXELS = 10  # per metre
HEIGHT = 18  # metres
LENGTH = 140  # metres; then the wall repeats


class Wall(NamedTuple):
    """One side of the street: colour and class (row 0 at the top, `SKY` above the roofs), and its height in metres
    along X, for its shadow on the ground."""

    colour: np.ndarray
    label: np.ndarray
    height: np.ndarray


def _colour(rng: np.random.Generator, hue: Span, saturation: Span, value: Span) -> np.ndarray:
    return np.array(draw_colour(rng, hue, saturation, value))


def paint_wall(rng: np.random.Generator, noise: np.ndarray) -> Wall:
    """Paint a wall from left to right; ``noise``, a tile (n, n) float32, gives its texture."""
    rows, columns = HEIGHT * TEXELS, LENGTH * TEXELS
    colour, label = Image.new("RGB", (columns, rows)), Image.new("L", (columns, rows), SKY)
    brush = Brush(colour, label)
    height = np.zeros(columns, dtype=np.float32)
    left = 0
    while left < columns:
        right = left + int(rng.uniform(5, 13) * TEXELS)
        if columns - right < 5 * TEXELS:
            right = columns
        paint = _paint_greenery if rng.random() < 0.2 else _paint_house
        height[left:right] = paint(rng, brush, left, right)
        left = right
    repeats = (1 + rows // noise.shape[0], 1 + columns // noise.shape[1])
    grain = np.tile(noise, repeats)[:rows, :columns, None]
    textured = np.asarray(colour, dtype=np.float32) * (1 + np.float32(0.07) * grain)
    return Wall(textured.clip(0, 255).astype(np.uint8), np.asarray(label), height)


def _paint_house(rng: np.random.Generator, brush: Brush, left: int, right: int) -> float:
    """Paint one house; return its height in metres."""
    ground, storeys = HEIGHT * TEXELS, int(rng.integers(1, 5))
    storey = rng.uniform(2.7, 3.3) * TEXELS
    top = int(ground - storeys * storey - 4)
    if rng.random() < 0.8:
        wall = _colour(rng, (0.0, 0.15), (0.05, 0.6), (0.35, 0.9))
    else:
        wall = _colour(rng, (0.2, 0.7), (0.05, 0.3), (0.4, 0.8))
    if storeys < 4 and rng.random() < 0.6:
        roof = _colour(rng, (-0.05, 0.08), (0.1, 0.6), (0.2, 0.5))
        ridge = int(top - rng.uniform(1.2, 2.4) * TEXELS)
        inset = int(rng.uniform(0.0, 0.5) * (right - left))
        chimney = int(rng.uniform(left + 0.3 * (right - left), right - 0.3 * (right - left)))
        brush.box(chimney, ridge - 7, chimney + 6, top - 1, wall * 0.7, BUILDING)
        brush.polygon([(left, top), (left + inset, ridge), (right - inset, ridge), (right - 1, top)], roof, BUILDING)
    brush.box(left, top, right - 1, ground, wall, BUILDING)
    brush.box(left, top, right - 1, top + 2, wall * 0.6, BUILDING)
    brush.box(left, ground - 6, right - 1, ground, wall * 0.65, BUILDING)

    frame, glass = wall * 0.5 + 115, _colour(rng, (0.5, 0.65), (0.1, 0.4), (0.15, 0.5))
    pane, gap = int(rng.uniform(8, 14)), int(rng.uniform(10, 20))
    count = max((right - left - 6) // (pane + gap), 1)
    margin = (right - left - count * pane - (count - 1) * gap) // 2
    shop = rng.random() < 0.35
    for floor in range(storeys):
        sill = int(ground - floor * storey - 0.9 * TEXELS)
        lintel = int(ground - (floor + 1) * storey + 0.5 * TEXELS)
        if floor == 0 and shop:
            brush.box(left + 5, lintel + 4, right - 6, sill + 2, glass * rng.uniform(0.8, 1.6), BUILDING)
            awning = _colour(rng, (0, 1), (0.4, 0.9), (0.4, 0.9))
            brush.box(left + 3, lintel - 2, right - 4, lintel + 4, awning, BUILDING)
            continue
        for column in range(count):
            start = left + margin + column * (pane + gap)
            shine = glass * rng.uniform(0.6, 1.7) + (rng.random() < 0.1) * np.array((130, 110, 40))
            brush.box(start - 2, lintel - 2, start + pane + 1, sill + 1, frame, BUILDING)
            brush.box(start, lintel, start + pane - 1, sill - 1, shine, BUILDING)
            brush.box(start + pane // 2, lintel, start + pane // 2, sill, frame, BUILDING)
    door = left + margin + int(rng.integers(count)) * (pane + gap)
    brush.box(door - 1, ground - 22, door + 11, ground, _colour(rng, (0, 1), (0.2, 0.8), (0.15, 0.6)), BUILDING)
    return (ground - top) / TEXELS


def _paint_greenery(rng: np.random.Generator, brush: Brush, left: int, right: int) -> float:
    """Paint a hedge or a thicket; return its height in metres."""
    ground, top = HEIGHT * TEXELS, rng.uniform(2.0, 6.0) * TEXELS
    leaf = _colour(rng, (0.14, 0.36), (0.3, 0.7), (0.2, 0.5))
    brush.box(left, ground - 0.75 * top, right - 1, ground, leaf * 0.7, TREE)
    for _ in range(int((right - left) * top / 60)):
        radius = rng.uniform(4, 10)
        x, y = rng.uniform(left + radius, right - radius), rng.uniform(0, top - radius)
        brush.ellipse(x, ground - y, (radius, radius), leaf * rng.uniform(0.6, 1.3) * (0.7 + 0.4 * y / top), TREE)
    return top / TEXELS
