"""The values in masks, and what they indicate."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from png_samples import palette_file

from vsscli.data.census import Census
from vsscli.data.check import Look, check_videos
from vsscli.data.classes import ClassTable
from vsscli.data.config import Data
from vsscli.data.folders import read_video_folder
from vsscli.data.layouts import open_dataset
from vsscli.data.mapping import load_mapping
from vsscli.data.masks import MaskIds, noted_first, to_classes, write_mask
from vsscli.data.palettes import legend_of
from vsscli.data.png import encode_label
from vsscli.data.remap import remap_masks
from vsscli.data.sound import check_once
from vsscli.data.verdict import Meaning, judge, judge_absent, translated
from vsscli.errors import VssError
from vsscli.talk import Silence

SIZE = (6, 8)
NAMES = ("road", "sky", "car", "yes: no", "tree")


class Listener(Silence):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, text: str) -> None:
        self.heard.append(text)

    def warn(self, text: str) -> None:
        self.heard.append(f"warning: {text}")


def meaning(classes: int, **ids: Any) -> Meaning:
    table = ClassTable("t", NAMES[:classes], ((1, 1, 1),) * classes)
    return Meaning(table, MaskIds(**ids), "classes.json")


def census(**pixels: int) -> Census:
    """Of one mask: `v10=5` is five pixels of value 10."""
    counted = Census(frames=1)
    values = np.zeros(256, np.int64)
    for name, count in pixels.items():
        values[int(name[1:])] = count
    counted.count_values(values)
    return counted


def root_with(folder: Path, *values: tuple[int, ...], classes: int = 3) -> Path:
    """A data set of one video; each mask holds some values, in columns."""
    for part in ("origin", "mask"):
        (folder / "data" / "v" / part).mkdir(parents=True)
    for number, held in enumerate(values):
        Image.new("RGB", SIZE[::-1], (number, 0, 0)).save(folder / "data" / "v" / "origin" / f"{number:02d}.png")
        mask = np.resize(np.array(held, np.uint8), SIZE)
        Image.fromarray(mask).save(folder / "data" / "v" / "mask" / f"{number:02d}.png")
    (folder / "train.txt").write_text("v\n")
    (folder / "classes.json").write_text(json.dumps(list(NAMES[:classes])))
    return folder


def looked_at(root: Path, told: Meaning, *, sparse: bool = False) -> Look:
    return check_videos([read_video_folder(root / "data" / "v", "v")], told, masks=True, sparse=sparse, workers=1)


def test_masks_are_counted_and_counts_are_remembered(tmp_path: Path) -> None:
    root = root_with(tmp_path, (0, 1), (1, 2), (1, 3))
    heard = Listener()
    video, record = read_video_folder(root / "data" / "v", "v"), tmp_path / "checked.json"
    first, again = (check_once([video], meaning(3), masks=True, record=record, workers=1, talk=heard) for _ in range(2))
    for counted in (first, again):
        assert (counted.frames, counted.masks, counted.values) == (3, 3, [0, 1, 2, 3])
        assert counted.pixels[:4].tolist() == [24, 72, 24, 24]
        assert counted.within[:4].tolist() == [1, 3, 1, 1]
    assert "not checked again" in heard.heard[-1]


def test_what_is_remembered_is_said_again(tmp_path: Path) -> None:
    root = root_with(tmp_path, (0, 1), (0, 2))
    video, record = read_video_folder(root / "data" / "v", "v"), tmp_path / "checked.json"
    for _ in range(2):
        heard = Listener()
        check_once([video], meaning(3), masks=True, record=record, workers=1, talk=heard)
        assert [text for text in heard.heard if "set data.first_id: 0 and data.void_ids: [255]" in text]


@pytest.mark.parametrize("told", ["{}", '{"frames": 1, "masks": 1, "values": {"256": [1, 1]}}', '{"frames": 1}'])
def test_a_census_that_is_none_is_refused(told: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Census.from_json(json.loads(told))


@pytest.mark.parametrize(
    ("classes", "values", "line"),
    [
        (1, (0, 255), {0: "ignore", 255: "road"}),
        (2, (0, 255), {0: "road", 255: "sky"}),
        (3, (0, 255), {0: "road", 255: "sky"}),
        (3, (10, 20, 30), {10: "road", 20: "sky", 30: "car"}),
        (3, (0, 10, 20, 30), {0: "ignore", 10: "road", 20: "sky", 30: "car"}),
        (3, (0, 10, 20), {0: "road", 10: "sky", 20: "car"}),
        (3, (0, 10, 20, 255), {0: "road", 10: "sky", 20: "car", 255: "ignore"}),
        (2, (40, 80, 120), {40: "road", 80: "sky", 120: "ignore"}),
        (4, (40, 80, 120, 160), {40: "road", 80: "sky", 120: "car", 160: "yes: no"}),
    ],
)
def test_where_nothing_is_labelled_the_remedy_is_a_mapping_that_labels_something(
    classes: int, values: tuple[int, ...], line: dict[int, str], tmp_path: Path
) -> None:
    root = root_with(tmp_path, *[values] * 5, classes=classes)
    (fault,) = looked_at(root, meaning(classes)).faults
    assert "void: " not in fault.remedy.split("}")[-1]
    assert "unknown_ids" not in fault.remedy
    (written,) = re.findall(r"\{target.*\}", fault.remedy)
    assert yaml.safe_load(written) == {"target": "classes.json", "map": line}
    # Followed to the letter, it works.
    (root / "ids.yaml").write_text(written)
    dataset = open_dataset(Data(name="d", root=str(root), classes="classes.json", remap="ids.yaml"))
    look = check_videos(dataset.split("train"), dataset.meaning, masks=True, workers=1)
    assert look.faults == ()
    assert dataset.meaning.labelled(look.census)


@pytest.mark.parametrize("held", [(0,), (255,), (0, 255), (0, 7)])
def test_a_split_without_a_labelled_pixel_is_at_fault(held: tuple[int, ...], tmp_path: Path) -> None:
    (fault,) = looked_at(root_with(tmp_path, *[held] * 4), meaning(3, unknown="void")).faults
    assert fault.what.startswith("no pixel of the split has a class: its 4 masks hold ")
    assert f"{held[-1]} (" in fault.what
    assert "unknown_ids" not in fault.remedy


def test_void_is_advised_only_where_labels_are_left() -> None:
    (few,) = judge(census(v1=90, v2=90, v77=3), meaning(2))
    (many,) = judge(census(v1=3, v77=90), meaning(2))
    assert "data.unknown_ids: void" in few.remedy
    assert "unknown_ids" not in many.remedy
    assert [remark.weight for remark in (few, many)] == ["fault", "fault"]


def test_values_taken_for_void_are_said_by_their_share() -> None:
    void = meaning(2, unknown="void")
    assert [r.weight for r in judge(census(v1=900, v2=900, v77=3), void)] == ["note"]
    (said,) = judge(census(v1=900, v2=900, v77=300), void)
    assert said.weight == "warning"
    assert "value 77 (14.3% of the pixels, in 1 or more of 1 masks)" in said.what


def test_masks_that_count_from_another_number_are_said_with_the_setting() -> None:
    (low,) = judge(census(v0=50, v1=30, v2=20), meaning(3))
    assert low.weight == "warning"
    assert "hold 0, which is void, in 50.0% of the pixels, and never 3, the last class 'car'" in low.what
    assert low.remedy == "if masks count classes from 0, set data.first_id: 0 and data.void_ids: [255]"
    (high,) = judge(census(v1=50, v2=30, v3=20), meaning(3, first=0, void=(255,)))
    assert high.weight == "fault"
    assert "set data.first_id: 1 and data.void_ids: [0, 255]" in high.remedy
    assert judge(census(v0=50, v1=30, v2=20, v3=1), meaning(3)) == []
    assert judge(census(v1=30, v2=20), meaning(3)) == []


def test_a_lone_class_is_said() -> None:
    (said,) = judge(census(v1=30), meaning(3))
    assert said.what == "all labelled pixels of the split are road, of 3 classes: no other can be learned or scored"
    (binary,) = judge(census(v0=10, v1=30), meaning(2))
    assert "all labelled pixels of the split are road" in binary.what
    assert "data.first_id: 0" in binary.remedy
    (only,) = judge(census(v0=10, v1=30), meaning(1))
    assert only.weight == "warning"
    assert only.what.startswith("road is the only class of ")


def test_classes_that_never_occur_are_named() -> None:
    (said,) = judge_absent(census(v1=1, v3=1), meaning(5), "the labelled data", "warning")
    assert str(said) == "3 of 5 classes never occur in the labelled data: sky, yes: no, tree"
    (zero,) = judge_absent(census(v0=1, v1=1, v3=1), meaning(5), "the labelled data", "note")
    assert "data.first_id: 0" in zero.remedy
    assert judge_absent(census(v1=1, v2=1), meaning(2), "it", "note") == []


def test_smoothed_edges_are_told_from_classes() -> None:
    many = Census(frames=1)
    many.count(np.arange(240, dtype=np.uint8).reshape(6, 40))
    (said,) = judge(many, meaning(3))
    assert "smoothed edges" in said.remedy


def test_a_census_is_translated_to_the_values_of_another_set() -> None:
    told = translated(census(v0=5, v1=3, v255=2), meaning(2, first=0, void=(255,)), meaning(2))
    assert {value: int(told.pixels[value]) for value in told.values} == {1: 5, 2: 3, 255: 2}


def test_many_strange_masks_are_one_fault_and_many_missing_ones_too(tmp_path: Path) -> None:
    root = root_with(tmp_path, *[(1, 2, 3)] * 9, (1, 77), (1, 78), (1, 77), (2, 77))
    for number in range(1, 9):
        (root / "data" / "v" / "mask" / f"{number:02d}.png").unlink()
    missing, strange = looked_at(root, meaning(3)).faults
    assert missing.what == "5 of 13 frames have masks; this is the first without"
    assert missing.path.name == "01.png"
    assert "values 77, 78 (" in strange.what
    (only,) = looked_at(root, meaning(3), sparse=True).faults
    assert only == strange


def test_masks_that_are_all_missing_are_a_fault_wherever_some_may_be(tmp_path: Path) -> None:
    root = root_with(tmp_path, (1,), (2,))
    for path in (root / "data" / "v" / "mask").iterdir():
        path.unlink()
    (fault,) = looked_at(root, meaning(3), sparse=True).faults
    assert fault.what == "none of the 2 frames has a mask; this is the first"


def test_one_mask_alone_is_never_told_to_throw_all_of_itself_away() -> None:
    with pytest.raises(VssError) as caught:
        to_classes(np.full(SIZE, 77, np.uint8), MaskIds(), 3, Path("a.png"))
    assert "unknown_ids" not in caught.value.hint
    with pytest.raises(VssError) as caught:
        to_classes(np.array([[1, 77]], np.uint8), MaskIds(), 3, Path("a.png"))
    assert "data.unknown_ids: void" in caught.value.hint


def write_noted(path: Path, label: np.ndarray, palette: bytes, first: int) -> None:
    """A mask as earlier versions wrote it."""
    path.write_bytes(encode_label(label, palette, f"vss:first_id\0{first}".encode()))


def test_predictions_put_among_labels_say_themselves_that_they_count_from_0(tmp_path: Path) -> None:
    root = root_with(tmp_path, *[(1, 2, 3)] * 6)
    mask = root / "data" / "v" / "mask"
    for number in range(2, 6):
        # The palette says it as well, and its remedy would be another one.
        palette = ClassTable("t", NAMES[:3], ((9, 1, 1), (2, 9, 2), (3, 3, 9))).palette()
        write_noted(mask / f"{number:02d}.png", np.resize(np.uint8([0, 1, 2]), SIZE), palette, 0)
    write_noted(mask / "01.png", np.resize(np.uint8([1, 2, 3]), SIZE), b"", 1)
    (fault,) = looked_at(root, meaning(3)).faults
    assert fault.path.name == "02.png"
    assert fault.what == ("4 of 6 masks, by the note of vss in the file, count classes from 0; data.first_id is 1")
    (written,) = re.findall(r"\{target.*\}", fault.remedy)
    assert yaml.safe_load(written)["map"] == {0: "road", 1: "sky", 2: "car"}
    assert [noted_first(mask / f"{number:02d}.png") for number in range(3)] == [None, 1, 0]


def test_notes_are_read_behind_a_palette_and_nothing_else_is_one(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_noted(path, np.ones(SIZE, np.uint8), bytes(range(256)) * 3, 0)
    assert noted_first(path) == 0
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:20],
        whole.replace(b"first_id\x000", b"first_id\x00x"),
        whole.replace(b"tEXt", b"zTXt"),
    ):
        path.write_bytes(damaged)
        assert noted_first(path) is None
    assert noted_first(tmp_path / "gone.png") is None


def test_remapping_that_keeps_nothing_is_refused_with_the_values(tmp_path: Path) -> None:
    root = root_with(tmp_path / "data", (10, 20), (20, 30))
    (tmp_path / "ids.yaml").write_text("{target: data/classes.json, others: ignore, map: {1: road, 2: sky}}")
    mapping = load_mapping(tmp_path / "ids.yaml")
    for _ in range(2):
        with pytest.raises(VssError, match=r"no pixel of 2 masks has a class of classes: .* values 10, 20, 30"):
            remap_masks(root / "data" / "v" / "mask", tmp_path / "out", mapping, workers=1)
    (tmp_path / "ids.yaml").write_text("{target: data/classes.json, map: {1: road}}")
    with pytest.raises(VssError, match="does not mention") as caught:
        remap_masks(root / "data" / "v" / "mask", tmp_path / "new", load_mapping(tmp_path / "ids.yaml"), workers=1)
    assert "others: ignore" not in caught.value.hint


def test_masks_that_were_read_by_their_colours_are_counted_and_said(tmp_path: Path) -> None:
    table = ClassTable("abc", ("a", "b", "c"), ((200, 10, 10), (10, 200, 10), (10, 10, 200)))
    told = Meaning(table, MaskIds(legend=legend_of(table, 1, (0, 255))))
    folder = tmp_path / "data" / "v"
    (folder / "origin").mkdir(parents=True)
    (folder / "mask").mkdir()
    values = np.array([[1, 2, 3, 1]], np.uint8)
    for number in range(3):
        Image.new("RGB", (4, 1)).save(folder / "origin" / f"{number}.png")
        write_mask(folder / "mask" / f"{number}.png", values, table, 1)
    # As a program leaves it that makes PNGs smaller: the same picture, its colours in another order.
    data = palette_file(np.array([[2, 0, 1, 2]], np.uint8), [(10, 200, 10), (10, 10, 200), (200, 10, 10)])
    (folder / "mask" / "1.png").write_bytes(data)
    look = looked_at(tmp_path, told)
    assert look.faults == ()
    assert look.census.pixels[1:4].tolist() == [6, 3, 3]
    assert look.census.by_colours == 1
    (said,) = [remark for remark in look.remarks if "colours" in remark.what]
    assert (said.weight, said.what[: said.what.index(":")]) == (
        "note",
        "1 of 3 masks of the split were read by their colours",
    )
    assert Census.from_json(look.census.to_json()).by_colours == 1
