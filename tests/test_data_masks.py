"""Single masks: exact values, complete files, clear errors."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds, read_mask, to_classes, write_mask
from vsscli.errors import VssError

VALUES = np.array([[0, 1, 2], [3, 12, 255]], np.uint8)


def grey_png(rows: list[list[int]], depth: int) -> bytes:
    """A grey PNG of 1, 2 or 4 bits, put together by hand: Pillow can't write those."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def packed(row: list[int]) -> bytes:
        bits = "".join(f"{value:0{depth}b}" for value in row)
        return int(bits.ljust(-len(bits) % 8 + len(bits), "0"), 2).to_bytes((len(bits) + 7) // 8, "big")

    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), depth, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + packed(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def test_a_mask_comes_back_as_written_grey_or_with_a_palette(tmp_path: Path) -> None:
    for table in (None, ClassTable("t", ("road",), ((9, 9, 9),))):
        write_mask(tmp_path / "deep" / "m.png", VALUES, table)
        np.testing.assert_array_equal(read_mask(tmp_path / "deep" / "m.png"), VALUES)
        assert Image.open(tmp_path / "deep" / "m.png").mode == ("L" if table is None else "P")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["m.png"]


@pytest.mark.parametrize(("depth", "rows"), [(1, [[0, 1, 1]]), (2, [[0, 1, 2, 3]]), (4, [[0, 7, 15], [1, 2, 3]])])
def test_masks_of_fewer_bits_keep_their_values(tmp_path: Path, depth: int, rows: list[list[int]]) -> None:
    (tmp_path / "m.png").write_bytes(grey_png(rows, depth))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), rows)


def test_colour_masks_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "rgb.png")
    with pytest.raises(VssError, match=r"rgb\.png is a colour PNG"):
        read_mask(tmp_path / "rgb.png")


def test_masks_of_16_bits_are_read_where_their_values_fit(tmp_path: Path) -> None:
    Image.fromarray(VALUES.astype(np.uint16)).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), VALUES)
    Image.fromarray(VALUES.astype(np.uint16) + 1).save(tmp_path / "deep.png")
    with pytest.raises(VssError, match=r"deep\.png is a 16-bit PNG with value 256"):
        read_mask(tmp_path / "deep.png")


def test_a_jpeg_is_no_mask_whatever_it_is_called(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "m.png", format="JPEG")
    with pytest.raises(VssError, match="damaged or not a PNG"):
        read_mask(tmp_path / "m.png")


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.random.default_rng(0).integers(0, 9, (40, 40), np.uint8))
    damaged = bytearray((tmp_path / "m.png").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "m.png").write_bytes(damaged)
    with pytest.raises(VssError, match="is damaged"):
        read_mask(tmp_path / "m.png")


def test_a_mask_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "m.png").mkdir()
    with pytest.raises(VssError, match="can't be written"):
        write_mask(tmp_path / "m.png", VALUES)
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_vspws_mask_ids_are_void_at_0_and_255_and_k_minus_1_between() -> None:
    lookup = MaskIds().lookup(124)
    assert (lookup[0], lookup[255], lookup[1], lookup[124]) == (255, 255, 0, 123)
    assert set(lookup[125:255].tolist()) == {254}
    assert set(MaskIds(unknown="void").lookup(124)[125:255].tolist()) == {255}


def test_class_ids_may_start_at_0() -> None:
    np.testing.assert_array_equal(MaskIds(void=(255,), first=0).lookup(3)[:4], [0, 1, 2, 254])


def test_all_254_classes_fit_beside_void() -> None:
    lookup = MaskIds().lookup(254)
    np.testing.assert_array_equal(lookup[1:255], np.arange(254))


@pytest.mark.parametrize(
    ("ids", "classes", "match"),
    [
        (MaskIds(first=0), 3, "mask value 0 would be both void and class 0"),
        (MaskIds(void=(0,), first=3), 254, "need values up to 256"),
        (MaskIds(void=(0, 300)), 3, "void_ids has 300"),
    ],
)
def test_ids_that_contradict_themselves_are_refused(ids: MaskIds, classes: int, match: str) -> None:
    with pytest.raises(VssError, match=match):
        ids.lookup(classes)


def test_a_mask_becomes_class_indices() -> None:
    label = to_classes(VALUES, MaskIds(), 12, Path("m.png"))
    np.testing.assert_array_equal(label, [[255, 0, 1], [2, 11, 255]])
    assert label.dtype == np.uint8


def test_values_outside_the_table_are_named_with_the_file_and_the_remedy() -> None:
    raw = np.array([[1, 2, 13, 99]], np.uint8)
    with pytest.raises(VssError, match=r"m\.png holds values 13, 99, outside of the 11 classes \(1\.\.11\)") as caught:
        to_classes(raw, MaskIds(), 11, Path("m.png"))
    assert "mapping" in caught.value.hint
    assert caught.value.hint.endswith("if they mean no class, set data.unknown_ids: void")
    np.testing.assert_array_equal(to_classes(raw, MaskIds(unknown="void"), 11, Path("m.png")), [[0, 1, 255, 255]])
    np.testing.assert_array_equal(to_classes(raw, MaskIds((0, 13, 99)), 11, Path("m.png")), [[0, 1, 255, 255]])
