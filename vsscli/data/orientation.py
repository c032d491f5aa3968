"""Orientation: how a stored picture is turned upright.

Cameras store pixels as the sensor delivers them and record how it was held: images in EXIF, videos in a display matrix.
Players and annotation tools show the upright picture, so that is what is read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

TAG = 0x0112
"""EXIF's tag of the orientation, 1 to 8 (EXIF 2.32, 4.6.4)."""


@dataclass(frozen=True)
class Turn:
    """One of the eight symmetries of a rectangle: whether it is first transposed, and then mirrored left to right and
    flipped top to bottom."""

    transposed: bool = False
    mirrored: bool = False
    flipped: bool = False

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the upright picture."""
        return (width, height) if self.transposed else (height, width)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Turn (H, W, …) upright; returns the array itself if it is upright, otherwise a copy."""
        if self == UPRIGHT:
            return array
        turned = array.swapaxes(0, 1) if self.transposed else array
        return np.ascontiguousarray(turned[:: -1 if self.flipped else 1, :: -1 if self.mirrored else 1])


UPRIGHT = Turn()

# By the value of the EXIF tag: where the stored first row and column are displayed (1 is top and left).
EXIF = {
    2: Turn(mirrored=True),
    3: Turn(mirrored=True, flipped=True),
    4: Turn(flipped=True),
    5: Turn(transposed=True),
    6: Turn(transposed=True, mirrored=True),
    7: Turn(transposed=True, mirrored=True, flipped=True),
    8: Turn(transposed=True, flipped=True),
}

NOTES = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
"""Keys under which Pillow keeps metadata that may give an orientation."""


def image_turn(image: Image.Image) -> Turn:
    """How an opened image is turned upright, by the metadata that Pillow found before its pixels.

    Pillow turns a TIFF upright itself. Metadata that can't be read, or has none of the eight values, is ignored, as
    viewers do.
    """
    if image.format == "TIFF" or not any(note in image.info for note in NOTES):
        return UPRIGHT
    try:
        return EXIF.get(image.getexif().get(TAG, 1), UPRIGHT)
    except Exception:  # damaged metadata can make Pillow raise almost anything
        return UPRIGHT


def matrix_turn(matrix: np.ndarray) -> Turn | None:
    """How a video's display matrix turns its frames; `None` if it is none of the eight symmetries.

    The matrix is (9,) int32, a b u c d v x y w with 16 binary places: column p and row q are shown at column a p + c q
    + x and row b p + d q + y (ISO/IEC 14496-12, 6.2.2). Scale and position are ignored.
    """
    a, b, _, c, d = (float(value) for value in matrix[:5])
    largest = max(abs(a), abs(b), abs(c), abs(d))
    a, b, c, d = (0.0 if abs(value) < largest / 1000 else value for value in (a, b, c, d))
    if a and d and not b and not c:
        return Turn(mirrored=a < 0, flipped=d < 0)
    if b and c and not a and not d:
        return Turn(transposed=True, mirrored=c < 0, flipped=b < 0)
    return None
