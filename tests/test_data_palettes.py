"""Palettes: indices are values, unless the colours show that a program has renumbered them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from png_samples import palette_file, png_file

from vsscli.data.classes import ClassTable, Colour, load_class_table, made_up_colour
from vsscli.data.mapping import load_mapping
from vsscli.data.masks import MaskIds, read_mask, write_mask
from vsscli.data.palettes import Legend, legend_of
from vsscli.data.png import encode_label
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels

COLOURS: tuple[Colour, ...] = (
    (128, 64, 128),
    (244, 120, 200),
    (170, 110, 60),
    (70, 160, 230),
    (60, 170, 50),
    (40, 50, 210),
    (230, 30, 60),
    (250, 210, 60),
)
TABLE = ClassTable("street", tuple("abcdefgh"), COLOURS)
LEGEND = legend_of(TABLE, 1, (0, 255))
BLACK = (0, 0, 0)
VOC = [BLACK, *(made_up_colour(index) for index in range(255))]
MASK = np.random.default_rng(3).choice(np.array([0, 1, 2, 3, 4, 6, 7, 8], np.uint8), (24, 32))


def renumbered(mask: np.ndarray, palette: bytes, order: list[int]) -> tuple[np.ndarray, list[Colour]]:
    """The same picture with its used colours in another order, and no others."""
    table = np.zeros(256, np.uint8)
    table[order] = np.arange(len(order))
    colours = [(palette[3 * value], palette[3 * value + 1], palette[3 * value + 2]) for value in order]
    return table[mask], colours


def read(tmp_path: Path, data: bytes, legend: Legend | None = LEGEND) -> np.ndarray:
    """A mask as it is read."""
    path = tmp_path / "m.png"
    path.write_bytes(data)
    return read_mask(path, legend)


@pytest.mark.parametrize("seed", range(8))
def test_a_palette_in_another_order_is_read_by_its_colours(tmp_path: Path, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(np.unique(MASK)).tolist()
    data = palette_file(*renumbered(MASK, TABLE.palette(1), order))
    np.testing.assert_array_equal(read(tmp_path, data), MASK)
    padded = palette_file(
        renumbered(MASK, TABLE.palette(1), order)[0], [*(c for c in data_colours(order)), BLACK, BLACK]
    )
    np.testing.assert_array_equal(read(tmp_path, padded), MASK)


def data_colours(order: list[int]) -> list[Colour]:
    return renumbered(MASK, TABLE.palette(1), order)[1]


@pytest.mark.parametrize(("depth", "values"), [(1, [0, 5]), (2, [7, 3, 1]), (4, [0, 8, 3, 2, 4, 7])])
def test_palettes_of_few_bits_too(tmp_path: Path, depth: int, values: list[int]) -> None:
    mask = np.random.default_rng(1).choice(np.array(values, np.uint8), (9, 13))
    data = palette_file(*renumbered(mask, TABLE.palette(1), values[::-1]), depth)
    np.testing.assert_array_equal(read(tmp_path, data), mask)


def test_unused_classes_left_out_in_the_same_order(tmp_path: Path) -> None:
    """The commonest of all: nothing is sorted, but colours that the picture does not use are gone."""
    mask = np.array([[0, 1, 2, 5]], np.uint8)
    np.testing.assert_array_equal(read(tmp_path, palette_file(*renumbered(mask, TABLE.palette(1), [0, 1, 2, 5]))), mask)
    lone = np.full((3, 3), 4, np.uint8)
    np.testing.assert_array_equal(read(tmp_path, palette_file(*renumbered(lone, TABLE.palette(1), [4]))), lone)


def test_void_is_black_whatever_its_number(tmp_path: Path) -> None:
    legend = legend_of(TABLE, 0, (255,))
    mask = np.array([[255, 0, 3, 7, 255]], np.uint8)
    data = palette_file(*renumbered(mask, TABLE.palette(), [7, 255, 0, 3]))
    np.testing.assert_array_equal(read(tmp_path, data, legend), mask)


@pytest.mark.parametrize("first", [0, 1])
def test_masks_of_vss_itself_are_read_by_number(tmp_path: Path, first: int) -> None:
    values = np.array([[0, 1, 5, 8 + first - 1, 255]], np.uint8)
    data = encode_label(values, TABLE.palette(first))
    np.testing.assert_array_equal(read(tmp_path, data, legend_of(TABLE, first)), values)


CITY = [(128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153), (250, 170, 30)]
RANDOM = [tuple(colour) for colour in np.random.default_rng(0).integers(0, 256, (256, 3)).tolist()]


@pytest.mark.parametrize(
    "palette", [VOC, RANDOM, [BLACK, *CITY, *RANDOM][:256], RANDOM[:9]], ids=["voc", "random", "city", "short"]
)
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("values", [[0, 1, 2, 3, 4, 6, 7, 8], [1], [0, 7], [7]])
def test_palettes_that_have_nothing_to_do_with_the_table_do_not_count(
    tmp_path: Path, palette: list[Colour], first: int, values: list[int]
) -> None:
    mask = np.resize(np.array(values, np.uint8), (4, 8))
    tables = [
        TABLE,
        ClassTable("names", tuple("abcdefghi"), tuple(made_up_colour(index) for index in range(9))),
        ClassTable("camvid", tuple("abc"), ((128, 128, 128), (128, 0, 0), (0, 128, 128))),
    ]
    for table in tables:
        np.testing.assert_array_equal(read(tmp_path, palette_file(mask, palette), legend_of(table, first)), mask)
    np.testing.assert_array_equal(read(tmp_path, palette_file(mask, palette), None), mask)


def test_the_shipped_tables_do_not_mistake_vocs_palette(tmp_path: Path) -> None:
    for name in ("vspw124", "camvid11", "cityscapes19", "ade20k150"):
        table = load_class_table(name)
        mask = np.arange(table.num_classes, dtype=np.uint8)[None]
        for first in (0, 1):
            np.testing.assert_array_equal(read(tmp_path, palette_file(mask, VOC), legend_of(table, first)), mask)


def refusal(tmp_path: Path, data: bytes, legend: Legend | None = LEGEND, remedy: str = "8-bit grey PNG") -> str:
    with pytest.raises(VssError, match=r"mask .*m\.png has a palette that contradicts its values") as caught:
        read(tmp_path, data, legend)
    assert remedy in caught.value.hint
    return caught.value.message


def test_colours_in_order_but_shifted_are_refused(tmp_path: Path) -> None:
    """Either the numbers are one too low, or somebody forgot void in the palette."""
    mask = np.array([[0, 1, 2, 5]], np.uint8)
    # As predictions that are put among labels look: there the numbers are right, and what they count from is not.
    from_0 = "set data.first_id: 0 and data.void_ids: [255]"
    shown = refusal(tmp_path, palette_file(mask, list(COLOURS)), remedy=from_0)
    assert "1 below the values given by data.first_id" in shown
    everything = np.arange(8, dtype=np.uint8)[None]
    assert "in order" in refusal(tmp_path, palette_file(everything, list(COLOURS)), remedy=from_0)
    from_1 = "set data.first_id: 1 and data.void_ids: [0, 255]"
    shown = refusal(tmp_path, palette_file(mask + 1, [BLACK, *COLOURS]), legend_of(TABLE), from_1)
    assert "1 above the values given by data.first_id" in shown
    np.testing.assert_array_equal(read(tmp_path, palette_file(mask, list(COLOURS)), legend_of(TABLE)), mask)


def test_a_colour_of_no_class_among_those_of_others_is_refused(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2, 3]], np.uint8)
    colours = [COLOURS[4], (255, 255, 255), COLOURS[0], COLOURS[2]]
    assert "number 1 (255, 255, 255) is not" in refusal(tmp_path, palette_file(mask, colours))


def test_a_colour_nobody_sees_tells_nothing(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2]], np.uint8)
    data = palette_file(mask, [COLOURS[4], COLOURS[1], COLOURS[0]], alpha=b"\xff\x00")
    assert "is not" in refusal(tmp_path, data)


@pytest.mark.parametrize("colours", [[BLACK], [BLACK, COLOURS[1]], [COLOURS[0], BLACK]])
def test_black_at_the_number_of_a_class_is_refused(tmp_path: Path, colours: list[Colour]) -> None:
    """Void may have become the number of a class, or somebody painted that class black."""
    mask = np.arange(len(colours), dtype=np.uint8)[None]
    assert "the colour of void" in refusal(tmp_path, palette_file(mask, colours), legend_of(TABLE))
    np.testing.assert_array_equal(read(tmp_path, palette_file(mask, [*colours, *RANDOM[:9]]), legend_of(TABLE)), mask)


def test_a_colour_of_two_classes_is_refused(tmp_path: Path) -> None:
    table = ClassTable("twins", tuple("abc"), ((9, 1, 1), (9, 1, 1), (5, 6, 7)))
    mask = np.array([[0, 1]], np.uint8)
    assert "more than one" in refusal(tmp_path, palette_file(mask, [(5, 6, 7), (9, 1, 1)]), legend_of(table, 1))


def test_two_colours_that_changed_places_are_refused(tmp_path: Path) -> None:
    """A table that was edited since: all other colours stand at their numbers, used or not."""
    colours = [BLACK, *COLOURS]
    colours[2], colours[7] = colours[7], colours[2]
    assert "some are at their own" in refusal(tmp_path, palette_file(np.array([[1, 2, 3]], np.uint8), colours))


def test_greys_of_a_grey_mask_are_its_values(tmp_path: Path) -> None:
    mask = np.array([[0, 12, 120, 4, 150, 12]], np.uint8)
    ramp = bytes(value for value in range(256) for _ in range(3))
    data = palette_file(*renumbered(mask, ramp, [12, 150, 0, 4, 120]))
    np.testing.assert_array_equal(read(tmp_path, data, None), mask)
    reader = load_mapping("ade20k")
    plain = tmp_path / "plain.png"
    write_mask(plain, mask)
    np.testing.assert_array_equal(reader.read(tmp_path / "m.png"), reader.read(plain))


def test_a_grey_ramp_to_look_at_is_none_of_values(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 2]], np.uint8)
    np.testing.assert_array_equal(read(tmp_path, palette_file(mask, [(4 * v,) * 3 for v in range(60)]), None), mask)
    np.testing.assert_array_equal(
        read(tmp_path, palette_file(mask[:, :2], [BLACK, (255,) * 3]), legend_of(TABLE)), mask[:, :2]
    )
    assert "for viewing" in refusal(tmp_path, palette_file(mask, [BLACK, (128,) * 3, (255,) * 3]), None)


def test_grey_masks_of_one_bit_are_refused_where_255_may_be_meant(tmp_path: Path) -> None:
    mask = np.array([[0, 1, 1]], np.uint8)
    data = png_file(mask, 1)
    np.testing.assert_array_equal(read(tmp_path, data, None), mask)
    np.testing.assert_array_equal(read(tmp_path, data, legend_of(TABLE, 0, ())), mask)
    np.testing.assert_array_equal(read(tmp_path, png_file(mask * 0, 1)), mask * 0)
    with pytest.raises(VssError, match=r"1 bit with values 0, 1; .* stand for 0, 255") as caught:
        read(tmp_path, data)
    assert caught.value.hint.startswith("write it as an 8-bit grey PNG of the right ones, or say what its numbers are")


def test_grey_masks_of_4_bits_keep_values_that_could_not_be_others(tmp_path: Path) -> None:
    mask = np.array([[0, 3, 7, 8]], np.uint8)
    np.testing.assert_array_equal(read(tmp_path, png_file(mask, 4)), mask)


@pytest.mark.parametrize("name", ["vspw124", "camvid11", "cityscapes19", "ade20k150", "cocostuff171"])
def test_no_optimised_mask_is_read_wrong_and_hardly_any_refused(tmp_path: Path, name: str) -> None:
    table, rng, refused = load_class_table(name), np.random.default_rng(len(name)), 0
    for round_ in range(120):
        first = int(rng.integers(2))
        void = (0, 255) if first else (255,)
        values = rng.choice([*range(first, first + table.num_classes), *void], rng.integers(1, 9), replace=False)
        mask = rng.choice(values.astype(np.uint8), (6, 7))
        used = np.unique(mask).tolist()
        numbers, colours = renumbered(
            mask, table.palette(first), rng.permutation(used).tolist() if round_ % 2 else used
        )
        merged = list(dict.fromkeys(colours))
        numbers = np.array([merged.index(colour) for colour in colours], np.uint8)[numbers]
        try:
            found = read(tmp_path, palette_file(numbers, merged), legend_of(table, first, void))
        except VssError:
            refused += 1
            continue
        np.testing.assert_array_equal(
            np.where(np.isin(found, void), 255, found), np.where(np.isin(mask, void), 255, mask)
        )
    assert refused <= 12


@pytest.mark.parametrize("other", ["vspw124", "camvid11", "cityscapes19"])
def test_palettes_of_other_tables_are_none_of_this_ones(tmp_path: Path, other: str) -> None:
    rng, palette = np.random.default_rng(0), load_class_table(other).palette(1)
    colours = [(palette[3 * value], palette[3 * value + 1], palette[3 * value + 2]) for value in range(256)]
    for name in {"vspw124", "camvid11", "cityscapes19", "ade20k150", "cocostuff171"} - {other}:
        table = load_class_table(name)
        for most in (1, 2, 5, table.num_classes):
            mask = rng.integers(0, most + 1, (6, 7)).astype(np.uint8)
            np.testing.assert_array_equal(
                read(tmp_path, palette_file(mask, colours), legend_of(table, 1, (0, 255))), mask
            )


def test_every_reader_hears_it(tmp_path: Path) -> None:
    data = palette_file(*renumbered(MASK, TABLE.palette(1), [8, 3, 0, 1, 7, 6, 4, 2]))
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "f.png").write_bytes(data)
    np.testing.assert_array_equal(MaskIds(legend=LEGEND).read(tmp_path / "v" / "f.png"), MASK)
    np.testing.assert_array_equal(FolderLabels(tmp_path, LEGEND).label("v", 0, "f"), MASK)
    rows = "".join(
        f"- {{id: {k}, name: {name}, colour: {list(TABLE.colours[k])}}}\n" for k, name in enumerate("abcdefgh")
    )
    (tmp_path / "source.yaml").write_text(rows)
    (tmp_path / "m.yaml").write_text("source: source.yaml\ntarget: source.yaml\nothers: ignore\nmap: {a: a, g: g}\n")
    expected = np.where(np.isin(MASK, (1, 7)), MASK, 255)
    np.testing.assert_array_equal(load_mapping("m.yaml", tmp_path).read(tmp_path / "v" / "f.png"), expected)
