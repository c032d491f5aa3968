"""Enlarging a score grid to the frame."""

from __future__ import annotations

import numpy as np


def neighbours(grid: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two cells of the score grid around each pixel along a side, and the weight of the second.

    Bilinear, ``align_corners=False``, as torch.nn.functional.interpolate places them.

    Returns
    -------
    tuple
        Lower and upper cell (frame,) int, and the upper one's weight (frame,) float32.
    """
    place = np.maximum((np.arange(frame) + 0.5) * (grid / frame) - 0.5, 0.0)
    lower = np.minimum(place.astype(np.intp), grid - 1)
    return lower, np.minimum(lower + 1, grid - 1), (place - lower).astype(np.float32)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w) to (H, W), bilinearly as in `neighbours`."""
    (up, down, rise), (left, right, run) = (neighbours(g, s) for g, s in zip(values.shape, size, strict=True))
    rows = values[up] * (1 - rise[:, None]) + values[down] * rise[:, None]
    return rows[:, left] * (1 - run) + rows[:, right] * run
