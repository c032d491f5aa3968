"""Decoding masks where that is what takes the time."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from zlib_ng import zlib_ng

from vsscli.data.masks import MaskIds, read_mask
from vsscli.data.palettes import Legend, read_palette
from vsscli.data.pixels import MOST_PIXELS
from vsscli.data.png import SIGNATURE, may_turn

BEGINNING = SIGNATURE + b"\x00\x00\x00\x0dIHDR"
PLAIN = (b"\x08\x00\x00\x00\x00", b"\x08\x03\x00\x00\x00")
"""The end of a PNG's header: 8 bits, grey or palette, the usual compression and filters, not interlaced."""

UNUSUAL = frozenset({b"IHDR", b"acTL"})
"""Chunks that a plain mask does not have behind its header: another one, and those of an animation."""


@dataclass(frozen=True)
class Plain:
    """A plain mask.

    Parameters
    ----------
    values
        (H, W) uint8 as they are stored.
    palette, alpha
        Colours of a palette, three bytes each, and the transparency of the first; empty where it has none.
    """

    values: np.ndarray
    palette: bytes = b""
    alpha: bytes = b""


def mask_reader(ids: MaskIds) -> Callable[[Path], np.ndarray]:
    """What reads the masks of a data set: `read_label`, unless they are of another kind."""
    return partial(read_label, legend=ids.legend) if ids.reader is None else ids.read


def read_label(path: Path, legend: Legend | None = None) -> np.ndarray:
    """Decode a mask as `data.masks.read_mask` does, up to three times as fast.

    Pillow inflates a PNG row by row into an image of its own, from which NumPy gets a copy. Here it is inflated in one
    go; rows without a filter, as palette images have them, are then the mask, and others are left to Pillow, which
    writes into the array's own memory. Whatever is unusual about a file is left to `read_mask`, which knows every kind
    of mask and names what is wrong.

    Returns
    -------
    numpy.ndarray
        (H, W) uint8.

    Raises
    ------
    VssError
        As `read_mask`.
    """
    try:
        plain = decode_plain(path.read_bytes())
    except Exception:  # damaged data can raise almost anything; the careful way says what it was
        plain = None
    if plain is None:
        return read_mask(path, legend)
    if not plain.palette:
        return plain.values
    return read_palette(plain.values, plain.palette, plain.alpha, legend, f"mask {path}")


def decode_plain(data: bytes) -> Plain | None:
    """The mask in a PNG file, if it is a plain and whole one (PNG specification, third edition, 5, 9 and 10).

    Parameters
    ----------
    data
        The file. Whatever it holds, no more is inflated than its header says, and that is bounded.

    Returns
    -------
    Plain or None
        Damaged data can raise almost anything.
    """
    if data[:16] != BEGINNING or data[24:29] not in PLAIN or _word(data, 29) != zlib.crc32(data[12:29]):
        return None
    width, height = _word(data, 16), _word(data, 20)
    if not 0 < width * height <= MOST_PIXELS:
        return None
    chunks = _chunks(data)
    if not UNUSUAL.isdisjoint(chunks) or any(may_turn(kind, body) for kind, body in chunks.items()):
        return None
    length = height * (1 + width)  # a row is one byte that names its filter, and its pixels
    inflate = zlib_ng.decompressobj()
    filtered = inflate.decompress(chunks[b"IDAT"], length + 1)  # one more: a stream that is too long shows
    if len(filtered) != length or not inflate.eof:
        return None
    colours = (chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"")) if data[25] == 3 else (b"", b"")
    rows = np.frombuffer(filtered, np.uint8).reshape(height, 1 + width)
    if not rows[:, 0].any():
        return Plain(rows[:, 1:].copy(), *colours)
    values = np.empty((height, width), np.uint8)
    # Stored, not compressed: Pillow's decoder wants a stream, and copies it.
    stored = zlib_ng.compress(filtered, 0)
    Image.frombuffer("L", (width, height), values, "raw", "L", 0, 1).frombytes(stored, "zip", "L", 0)
    return Plain(values, *colours)


def _chunks(data: bytes) -> dict[bytes, bytes]:
    """What chunks of each kind hold, joined: each is a length, four letters, as many bytes, and a check sum."""
    start, parts = 33, dict[bytes, list[bytes]]()
    while (kind := data[start + 4 : start + 8]) != b"IEND":
        if len(kind) < 4:
            raise ValueError("the file ends before its last chunk")
        end = start + 8 + _word(data, start)
        parts.setdefault(kind, []).append(data[start + 8 : end])
        start = end + 4
    return {kind: found[0] if len(found) == 1 else b"".join(found) for kind, found in parts.items()}


def _word(data: bytes, start: int) -> int:
    return int.from_bytes(data[start : start + 4], "big")
