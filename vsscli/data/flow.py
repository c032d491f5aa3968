"""Optical flow between two frames, and where it can be trusted.

scikit-image takes a second to import, so it is imported only when flow is computed.
"""

from __future__ import annotations

import numpy as np

SIDE = 240
"""Short side of the frames that flow is computed on; half a pixel of it is one pixel of a frame of 480 lines."""

DIFFERENCE = 0.1
"""Largest difference of grey values in [0, 1] between a pixel and its match; beyond it the pixel counts as occluded."""


def small_grey(image: np.ndarray) -> np.ndarray:
    """A frame (H, W, 3) uint8 prepared for `flow`: (h, w) float32 in [0, 1], its short side at most `SIDE`."""
    from skimage.color import rgb2gray
    from skimage.transform import resize

    grey = rgb2gray(image)
    factor = min(1.0, SIDE / min(grey.shape))
    small = [max(1, round(side * factor)) for side in grey.shape]
    return resize(grey, small, anti_aliasing=True).astype(np.float32)


def flow(grey: np.ndarray, other: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a frame are in another, by iterative Lucas-Kanade.

    Parameters
    ----------
    grey, other
        The two frames, of the same size, from `small_grey`.
    size
        H, W of the original frames, for whose pixels flow is returned.

    Returns
    -------
    tuple
        Flat indices (H * W,) int into the other frame, and whether to trust them, (H * W,) bool: they are inside of it,
        and the grey values match.
    """
    from skimage.registration import optical_flow_ilk

    height, width = size
    down, right = optical_flow_ilk(grey, other, radius=7, num_warp=5, dtype=np.float32)
    small = grey.shape
    rows, columns = (np.arange(side) * (s / side) for side, s in zip(size, small, strict=True))
    cell = np.ix_(rows.astype(np.intp), columns.astype(np.intp))
    y = np.arange(height)[:, None] + down[cell] * (height / small[0])
    x = np.arange(width) + right[cell] * (width / small[1])
    inside = (y >= -0.5) & (y < height - 0.5) & (x >= -0.5) & (x < width - 0.5)
    y, x = np.rint(y).clip(0, height - 1).astype(np.intp), np.rint(x).clip(0, width - 1).astype(np.intp)
    seen = other[(y * small[0] // height), (x * small[1] // width)]
    alike = np.abs(seen - grey[cell]) < DIFFERENCE
    return (y * width + x).reshape(-1), (inside & alike).reshape(-1)
