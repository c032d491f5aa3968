"""PNG files assembled by hand: any depth and kind, missing rows, arbitrary chunks."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image

from vsscli.data.png import PASSES, SIGNATURE, chunk

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def packed(row: np.ndarray, depth: int) -> bytes:
    """A row of values, (W, channels), in so many bits each."""
    if depth == 16:
        return row.astype(">u2").tobytes()
    bits = (row.reshape(-1, 1) >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def rows_of(values: np.ndarray, depth: int, interlaced: bool = False) -> bytes:
    """All rows without filters, in the order in which the file has them."""
    images = [values]
    if interlaced:
        images = [values[y::dy, x::dx] for x, y, dx, dy in PASSES]
    return b"".join(b"\0" + packed(row, depth) for image in images if image.size for row in image)


def png_file(
    values: np.ndarray,
    depth: int = 8,
    colour: int = 0,
    *,
    interlaced: bool = False,
    before: bytes = b"",
    behind: bytes = b"",
    rows: bytes | None = None,
    size: tuple[int, int] | None = None,
) -> bytes:
    """A PNG of (H, W) or (H, W, channels); `rows` replaces its rows, `size` (H, W) the size in its header."""
    values = values.reshape(*values.shape[:2], CHANNELS[colour])
    height, width = size or values.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = zlib.compress(rows_of(values, depth, interlaced) if rows is None else rows)
    return SIGNATURE + chunk(b"IHDR", head) + before + chunk(b"IDAT", data) + behind + chunk(b"IEND", b"")


def palette_file(numbers: np.ndarray, colours: list[tuple[int, int, int]], depth: int = 8, alpha: bytes = b"") -> bytes:
    """A palette PNG with these numbers and colours."""
    before = chunk(b"PLTE", bytes(value for colour in colours for value in colour))
    return png_file(numbers, depth, 3, before=before + (chunk(b"tRNS", alpha) if alpha else b""))


def exif(orientation: int) -> bytes:
    """An EXIF block with an orientation, without the prefix in a JPEG."""
    note = Image.Exif()
    note[0x0112] = orientation
    return note.tobytes().removeprefix(b"Exif\0\0")


def jpeg_file(values: np.ndarray, orientation: int = 1) -> bytes:
    """A JPEG with an EXIF orientation."""
    note, file = Image.Exif(), io.BytesIO()
    note[0x0112] = orientation
    Image.fromarray(values).save(file, "JPEG", quality=95, subsampling=0, exif=note)
    return file.getvalue()
