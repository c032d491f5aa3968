"""The pictures of a report's frames: the frame itself, and layers to lay over it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.png import encode_label
from vsscli.report.overlay import PAPER, heat, outlines

WIDTH = 960
"""Wider frames are drawn this wide, so that a report of thousands stays small."""

QUALITY = 80

LINE = 254
"""Value of the line between classes: no class has it."""

LINE_ALPHA = 128

LEVELS = 32
"""Steps of entropy in its layer: more would not be seen, and take more space."""

STRIPE = 3
"""Width in pixels of the stripes of a mark. Stripes are seen on every colour, and without colour."""

GRID = 64
"""Columns of the coarse labels by which a page names the class under the pointer."""

Size = tuple[int, int]


def drawn_size(size: Size) -> Size:
    """Height and width at which frames of some height and width are drawn."""
    height, width = size
    return size if width <= WIDTH else (max(1, round(height * WIDTH / width)), WIDTH)


def photograph(image: np.ndarray, size: Size) -> bytes:
    """A frame, (H, W, 3) uint8, as a JPEG of some height and width."""
    file = io.BytesIO()
    picture = Image.fromarray(image)
    if picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), Image.Resampling.BOX)
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def label_layer(label: np.ndarray, table: ClassTable, size: Size) -> bytes:
    """Labels (H, W) as a PNG of some height and width, in the classes' colours with lines between them; pixels without
    a class are transparent."""
    small = shrunk(label, size)
    values = np.where(small < table.num_classes, small, np.uint8(IGNORE))
    palette = bytearray(table.palette())
    palette[3 * LINE : 3 * LINE + 3] = bytes(PAPER)
    alpha = bytearray(b"\xff" * 256)
    alpha[LINE], alpha[IGNORE] = LINE_ALPHA, 0
    values[outlines(values, thin=True)] = LINE
    return encode_label(values, bytes(palette), alpha=bytes(alpha))


def mark_layer(marked: np.ndarray, size: Size) -> bytes:
    """Marked pixels (H, W) bool as a PNG of stripes, black and yellow; the others are transparent."""
    small = shrunk(marked.view(np.uint8), size)
    rows, columns = np.indices(size, dtype=np.uint16, sparse=True)
    values = small * (1 + (rows + columns) // STRIPE % 2).astype(np.uint8)
    return encode_label(values, bytes((0, 0, 0, 10, 10, 10, 255, 225, 0)), alpha=b"\0\xff\xff")


def heat_layer(entropy: np.ndarray, size: Size) -> bytes:
    """Entropies (H, W) in [0, 1] as a PNG: black at 0 to white at 1."""
    half = (-(-size[0] // 2), -(-size[1] // 2)) if size[1] > WIDTH // 2 else size
    image = Image.fromarray(np.asarray(entropy, np.float32))
    if entropy.shape != half:
        image = image.resize((half[1], half[0]), Image.Resampling.BOX)
    values = np.clip(np.asarray(image) * (LEVELS - 1), 0, LEVELS - 1).round().astype(np.uint8)
    return encode_label(values, heat(np.arange(LEVELS) / (LEVELS - 1)).tobytes())


def readout(label: np.ndarray, table: ClassTable) -> dict[str, Any]:
    """What a page says of labels (H, W) in words: the share of each class, and labels on a coarse grid.

    Returns
    -------
    dict
        ``shares``: pairs of class and share of all pixels, the largest first. ``grid``: columns, rows, and the labels
        row by row as runs, class and length alternating; 255: no class.
    """
    counts = np.bincount(label.reshape(-1), minlength=256)[: table.num_classes]
    order = [int(index) for index in np.argsort(-counts, kind="stable") if counts[index]]
    columns = min(GRID, label.shape[1])
    rows = max(1, round(label.shape[0] * columns / label.shape[1]))
    cells = shrunk(label, (rows, columns)).reshape(-1)
    cells = np.where(cells < table.num_classes, cells, np.uint8(IGNORE))
    starts = np.flatnonzero(np.diff(cells, prepend=np.int16(-1)))
    lengths = np.diff(starts, append=cells.size)
    runs = np.stack([cells[starts].astype(int), lengths], axis=1).reshape(-1)
    shares = [[index, round(float(counts[index]) / label.size, 6)] for index in order]
    return {"shares": shares, "grid": [columns, rows, *runs.tolist()]}


def shrunk(values: np.ndarray, size: Size) -> np.ndarray:
    """Values (H, W) uint8 at some height and width, each that of the pixel in the middle of what it stands for."""
    if values.shape == size:
        return values
    return np.asarray(Image.fromarray(values).resize((size[1], size[0]), Image.Resampling.NEAREST))
