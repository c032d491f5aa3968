"""Masks that name their classes are read by these names, and what contradicts a name is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from png_samples import palette_file

from vsscli.data.classes import ClassTable
from vsscli.data.config import Data
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.masks import MaskIds, decode_mask, read_mask, to_classes, write_mask
from vsscli.data.notes import KEY, note_text, parse_note
from vsscli.data.palettes import legend_of
from vsscli.data.png import chunk, encode_label, parse_png
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels

TABLE = ClassTable("abc", ("road", "sky", "grün"), ((128, 64, 128), (70, 130, 180), (7, 142, 35)))
LABEL = np.array([[0, 1, 2, 255], [2, 2, 1, 0]], np.uint8)


def classes_of(path: Path, table: ClassTable, first: int = 1, void: tuple[int, ...] = (0, 255)) -> np.ndarray:
    ids = MaskIds(void, first, legend=legend_of(table, first, void))
    return to_classes(ids.read(path), ids, table.num_classes, path)


@pytest.mark.parametrize(("first", "void"), [(0, (255,)), (1, (0, 255)), (7, (0,))])
@pytest.mark.parametrize("written", [0, 1])
def test_what_vss_writes_is_read_by_name_whatever_the_recipe_counts_from(
    tmp_path: Path, first: int, void: tuple[int, ...], written: int
) -> None:
    label = np.where(LABEL == 255, 255, LABEL + np.uint8(written)).astype(np.uint8)
    write_mask(tmp_path / "m.png", label, TABLE, written)
    np.testing.assert_array_equal(classes_of(tmp_path / "m.png", TABLE, first, void), LABEL)
    read_mask(tmp_path / "m.png", legend_of(TABLE, first, void))[:] = 7  # the array is the caller's own
    assert read_mask(tmp_path / "m.png").tolist() == label.tolist(), "without a table the numbers are all there is"
    assert Image.open(tmp_path / "m.png").convert("RGB").getpixel((0, 0)) == TABLE.colours[0]


def test_a_table_in_another_order_or_with_more_classes_changes_nothing(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", LABEL, TABLE)
    other = ClassTable("t", ("car", "grün", "sky", "road"), ((1, 1, 1), (2, 2, 2), (3, 3, 3), (4, 4, 4)))
    expected = np.array([3, 2, 1], np.uint8)
    read = classes_of(tmp_path / "m.png", other)
    np.testing.assert_array_equal(read, np.where(LABEL == 255, 255, expected[LABEL % 3]))


def test_a_class_that_the_table_lacks_is_refused_with_its_name_where_it_occurs(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", LABEL, TABLE)
    write_mask(tmp_path / "n.png", LABEL % 2, TABLE)
    renamed = ClassTable("t", ("road", "sky", "green"), TABLE.colours)
    with pytest.raises(VssError, match=r"m\.png holds class 'grün'") as caught:
        classes_of(tmp_path / "m.png", renamed)
    assert "--map OLD=NEW" in caught.value.hint
    np.testing.assert_array_equal(classes_of(tmp_path / "n.png", renamed), LABEL % 2)


def test_a_value_without_a_name_is_unknown(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.full_like(LABEL, 77), TABLE)
    with pytest.raises(VssError, match=r"outside of the 3 classes"):
        classes_of(tmp_path / "m.png", TABLE)


def test_a_palette_that_was_numbered_anew_under_a_note_is_refused(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", LABEL, TABLE)
    note = chunk(b"tEXt", parse_png((tmp_path / "m.png").read_bytes()).classes)
    data = palette_file(np.array([[1, 0]], np.uint8), [TABLE.colours[1], TABLE.colours[0]])
    at = data.index(b"IDAT") - 4
    (tmp_path / "n.png").write_bytes(data[:at] + note + data[at:])
    with pytest.raises(VssError, match="another program has rewritten it") as caught:
        classes_of(tmp_path / "n.png", TABLE)
    assert KEY in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"{}", b'{"classes": {"0": "a"}, "void": [0], "palette": 0}', b'{"classes": {"300": "a"}}', b"[" * 99],
)
def test_damaged_notes_are_errors_that_name_the_mask(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "m.png").write_bytes(encode_label(LABEL % 3, TABLE.palette(), KEY.encode() + b"\0" + text))
    with pytest.raises(VssError, match=r"m\.png is damaged"):
        classes_of(tmp_path / "m.png", TABLE)


def test_notes_are_plain_json_in_ascii() -> None:
    body = note_text(TABLE, 1, TABLE.palette(1))
    told = json.loads(body.partition(b"\0")[2].decode("ascii"))
    assert told["classes"] == {"1": "road", "2": "sky", "3": "grün"}
    assert told["void"] == [0, 255]
    assert dict(parse_note(body).names)[3] == "grün"


def test_a_folder_of_predictions_is_read_by_name(tmp_path: Path) -> None:
    write_mask(tmp_path / "v" / "0.png", LABEL, TABLE)
    other = ClassTable("t", TABLE.names[::-1], TABLE.colours[::-1])
    labels = FolderLabels(tmp_path, legend_of(other)).label("v", 0, "0")
    np.testing.assert_array_equal(labels, np.where(LABEL == 255, 255, 2 - LABEL % 3))


def test_predictions_beside_labels_of_a_data_set_are_both_read(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "v"
    (folder / "origin").mkdir(parents=True)
    for stem in "01":
        Image.new("RGB", LABEL.shape[::-1]).save(folder / "origin" / f"{stem}.png")
    write_mask(folder / "mask" / "0.png", np.where(LABEL == 255, 0, LABEL + 1).astype(np.uint8))
    write_mask(folder / "mask" / "1.png", LABEL, TABLE)
    (tmp_path / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    (tmp_path / "val.txt").write_text("v")
    dataset = open_dataset(plain_data(tmp_path))
    (video,) = dataset.split("val")
    for frame in video.frames:
        assert frame.mask is not None
        raw = dataset.ids.read(frame.mask)
        np.testing.assert_array_equal(to_classes(raw, dataset.ids, 3, frame.mask), LABEL)
    assert not decode_mask(folder / "mask" / "1.png", dataset.ids.legend).by_colours


def test_what_vss_wrote_is_read_by_name_beside_masks_that_a_mapping_reads(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    (tmp_path / "map.yaml").write_text("{source: [Sky, Road], target: classes.json, map: {Sky: sky, Road: road}}")
    folder = tmp_path / "data" / "v"
    (folder / "origin").mkdir(parents=True)
    for stem in "01":
        Image.new("RGB", LABEL.shape[::-1]).save(folder / "origin" / f"{stem}.png")
    write_mask(folder / "mask" / "0.png", np.full_like(LABEL, 1))
    write_mask(folder / "mask" / "1.png", LABEL, TABLE)
    (tmp_path / "val.txt").write_text("v")
    dataset = open_dataset(Data(name="d", root=str(tmp_path), classes="classes.json", remap="map.yaml"))
    (video,) = dataset.split("val")
    read = [dataset.ids.read(frame.mask) for frame in video.frames if frame.mask is not None]
    classes = [to_classes(values, dataset.ids, 3, tmp_path) for values in read]
    np.testing.assert_array_equal(classes[0], 1)
    np.testing.assert_array_equal(classes[1], LABEL)
