"""From a score grid to the frame it stands for."""

from __future__ import annotations

import numpy as np


def neighbours(grid: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of the pixels along a side: the two cells of the score grid it lies between, and how far along.

    Bilinear, ``align_corners=False``, as torch.nn.functional.interpolate places them.

    Returns
    -------
    tuple
        Lower and upper cell (frame,) int, and the upper one's share (frame,) float32.
    """
    place = np.maximum((np.arange(frame) + 0.5) * (grid / frame) - 0.5, 0.0)
    lower = np.minimum(place.astype(np.intp), grid - 1)
    return lower, np.minimum(lower + 1, grid - 1), (place - lower).astype(np.float32)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w) to (H, W) between the cells of the score grid, as `neighbours` places them."""
    (up, down, rise), (left, right, run) = (neighbours(g, s) for g, s in zip(values.shape, size, strict=True))
    rows = values[up] * (1 - rise[:, None]) + values[down] * rise[:, None]
    return rows[:, left] * (1 - run) + rows[:, right] * run
