"""Masks are decoded exactly, to the last byte of the stream, whatever the filters."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from png_samples import palette_file, png_file

from vsscli.data.masks import read_mask, write_mask
from vsscli.data.png import encode_label
from vsscli.errors import VssError

VALUES = np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8)


@pytest.mark.parametrize("palette", [None, bytes(range(256)) * 3])
def test_plain_masks_are_read_into_an_array_of_the_callers_own(tmp_path: Path, palette: bytes | None) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(encode_label(VALUES, palette or b""))
    label = read_mask(path)
    np.testing.assert_array_equal(label, VALUES)
    assert label.dtype == np.uint8
    label[:] = 7
    assert (label == 7).all(), "the array is the caller's own"


@pytest.mark.parametrize("mode", ["1", "P", "L"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_masks_of_few_bits_are_read_as_they_are_stored(tmp_path: Path, mode: str, bits: int) -> None:
    path = tmp_path / "mask.png"
    numbers = VALUES % (2 if mode == "1" else 2**bits)
    if mode == "P":
        path.write_bytes(palette_file(numbers, [(number, 9, 7) for number in range(2**bits)], bits))
    else:
        path.write_bytes(png_file(numbers, 1 if mode == "1" else bits))
    np.testing.assert_array_equal(read_mask(path), numbers)


def test_a_transparent_colour_changes_no_value(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    image = Image.fromarray(VALUES)
    image.putpalette(bytes(range(256)) * 3)
    image.save(path, transparency=0)
    np.testing.assert_array_equal(read_mask(path), VALUES)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(stream: bytes, *, interlaced: bool = False, pieces: int = 1) -> bytes:
    """A grey PNG of the size of VALUES around a compressed stream, cut into pieces."""
    height, width = VALUES.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, interlaced)
    cuts = [len(stream) * piece // pieces for piece in range(pieces + 1)]
    data = b"".join(chunk(b"IDAT", stream[start:stop]) for start, stop in pairwise(cuts))
    text = chunk(b"tEXt", b"Comment\x00IEND")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + data + chunk(b"IEND", b"")


def filtered(values: np.ndarray, kinds: list[int]) -> bytes:
    """Rows filtered as the PNG specification (section 9.2) defines it, one kind after the other."""
    rows = values.astype(int)
    height, width = rows.shape
    result = bytearray()
    for y in range(height):
        kind = kinds[y % len(kinds)]
        result.append(kind)
        for x in range(width):
            left = rows[y, x - 1] if x else 0
            above = rows[y - 1, x] if y else 0
            corner = rows[y - 1, x - 1] if x and y else 0
            nearest = min((left, above, corner), key=lambda value: abs(left + above - corner - value))
            predicted = (0, left, above, (left + above) // 2, nearest)[kind]
            result.append((rows[y, x] - predicted) % 256)
    return bytes(result)


@pytest.mark.parametrize("kinds", [[0], [1], [2], [3], [4], [0, 1, 2, 3, 4], [4, 2, 0]])
@pytest.mark.parametrize("pieces", [1, 3])
def test_every_filter_is_undone(tmp_path: Path, kinds: list[int], pieces: int) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(png(zlib.compress(filtered(VALUES, kinds)), pieces=pieces))
    np.testing.assert_array_equal(read_mask(path), VALUES)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("short", "it is truncated"),
        ("header", "the checksum of its header does not match"),
        ("sum", "checksum of its chunk IDAT"),
        ("filter", "is damaged"),
        ("long", ""),
    ],
)
def test_a_stream_that_is_not_the_mask_is_refused_and_what_follows_it_ignored(
    tmp_path: Path, fault: str, says: str
) -> None:
    whole = filtered(VALUES, [0, 1])
    if fault == "filter":
        data = png(zlib.compress(b"\x09" + whole[1:]))
    else:
        data = png(zlib.compress({"short": whole[:-60], "long": whole + whole}.get(fault, whole)))
    if fault == "header":  # a width that the check sum denies
        data = data[:19] + b"\x34" + data[20:]
    if fault == "sum":
        position = data.index(b"IDAT") + 60
        data = data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]
    path = tmp_path / "mask.png"
    path.write_bytes(data)
    if not says:
        np.testing.assert_array_equal(read_mask(path), VALUES)
        return
    with pytest.raises(VssError, match=says):
        read_mask(path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ("truncated", "is truncated"),
        ("empty", "is empty"),
        ("missing", "does not exist"),
        ("text", "damaged or not a PNG file"),
        ("colour", "is a colour PNG"),
        ("16 bits", "with value 300"),
    ],
)
def test_faults_are_named(tmp_path: Path, damage: str, says: str) -> None:
    path = tmp_path / "mask.png"
    write_mask(path, VALUES)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("this is no image, whatever its name says")
    elif damage == "colour":
        Image.new("RGB", (4, 4)).save(path)
    else:
        Image.fromarray(np.full((4, 4), 300, np.uint16)).save(path)
    with pytest.raises(VssError, match=says):
        read_mask(path)
