"""Files as other programs write them, put together by hand after their specifications."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import read_as, reading

from vsscli.data.classes import ClassTable
from vsscli.data.png import encode_label
from vsscli.exchange.catalogue import reader_of
from vsscli.exchange.colour import ColourWriter
from vsscli.exchange.guess import guess_format
from vsscli.exchange.items import Choices, Item
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import open_source_files

TABLE = ClassTable("t", ("road", "car"), ((128, 64, 128), (0, 0, 142)))
V = 255

# A road of 2x4 in the lower half, a car of 2x2 in its middle.
LABEL = np.array([[V, V, V, V], [0, 1, 1, 0], [0, 1, 1, 0]], np.uint8)
SIZE = (3, 4)

CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>5</id><name>streets</name><size>1</size><mode>annotation</mode><labels>
    <label><name>road</name><color>#804080</color><type>any</type><attributes></attributes></label>
  </labels></task></meta>
  <image id="0" name="v/0.jpg" width="4" height="3">
    <polygon label="car" source="manual" occluded="0" points="1.00,1.00;3.00,1.00;3.00,3.00;1.00,3.00" z_order="1"/>
    <mask label="road" source="manual" occluded="0" rle="0, 8" left="0" top="1" width="4" height="2" z_order="0"></mask>
    <box label="car" source="manual" occluded="0" xtl="0" ytl="0" xbr="1" ybr="1" z_order="0"></box>
  </image>
  <image id="1" name="v/1.jpg" width="4" height="3"></image>
</annotations>
"""

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><name>t</name><original_size><width>4</width><height>3</height></original_size>
    <source>v.mp4</source></task></meta>
  <track id="0" label="road" source="manual">
    <polygon frame="0" outside="0" occluded="0" keyframe="1" points="0,1;4,1;4,3;0,3" z_order="0"/>
    <polygon frame="1" outside="0" occluded="0" keyframe="0" points="0,1;4,1;4,3;0,3" z_order="0"/>
    <polygon frame="2" outside="1" occluded="0" keyframe="1" points="0,1;4,1;4,3;0,3" z_order="0"/>
  </track>
  <track id="1" label="car" source="manual">
    <mask frame="1" outside="0" occluded="0" keyframe="1" rle="0, 4" left="1" top="1" width="2" height="2" z_order="1"/>
    <mask frame="2" outside="1" occluded="0" keyframe="1" rle="0, 4" left="1" top="1" width="2" height="2" z_order="1"/>
  </track>
</annotations>
"""

COCO = {
    "categories": [{"id": 7, "name": "car", "supercategory": ""}, {"id": 3, "name": "road", "supercategory": ""}],
    "annotations": [
        # Down the columns: of every column the first pixel is none.
        {"id": 1, "image_id": 9, "category_id": 3, "iscrowd": 1, "area": 8, "bbox": [0, 1, 4, 2],
         "segmentation": {"size": [3, 4], "counts": [1, 2, 1, 2, 1, 2, 1, 2]}},
        {"id": 2, "image_id": 9, "category_id": 7, "iscrowd": 0, "area": 4, "bbox": [1, 1, 2, 2],
         "segmentation": [[1, 1, 2, 1, 2, 3, 1, 3], [2.0, 1.0, 3.0, 1.0, 3.0, 3.0, 2.0, 3.0]]},
        {"id": 3, "image_id": 9, "category_id": 7, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1]},
    ],
    "images": [{"id": 9, "file_name": "v/0.jpg", "height": 3, "width": 4}],
}  # fmt: skip

LABELME = {
    "version": "5.4.1", "flags": {}, "imagePath": "0.jpg", "imageData": None, "imageHeight": 3, "imageWidth": 4,
    "shapes": [
        {"label": "road", "points": [[0, 1], [4, 1], [4, 3], [0, 3]], "group_id": None, "shape_type": "polygon"},
        {"label": "car", "points": [[1, 1], [3, 1], [3, 3], [1, 3]], "group_id": None, "shape_type": "polygon"},
        {"label": "car", "points": [[0, 0], [1, 1]], "group_id": None, "shape_type": "rectangle"},
    ],
}  # fmt: skip

LABEL_STUDIO = [
    {"id": 4, "data": {"image": "/data/upload/1/0a1b2c3d-v_0.jpg"}, "annotations": [
        {"id": 1, "updated_at": "2026-01-01T00:00:00Z", "result": []},
        {"id": 2, "updated_at": "2026-02-01T00:00:00Z", "result": [
            {"type": "polygonlabels", "original_width": 4, "original_height": 3, "image_rotation": 0,
             "value": {"points": [[0, 100 / 3], [100, 100 / 3], [100, 100], [0, 100]], "polygonlabels": ["road"]}},
            {"type": "polygonlabels", "original_width": 4, "original_height": 3, "image_rotation": 0,
             "value": {"points": [[25, 100 / 3], [75, 100 / 3], [75, 100], [25, 100]], "polygonlabels": ["car"]}},
            {"type": "rectanglelabels", "original_width": 4, "original_height": 3, "image_rotation": 0,
             "value": {"x": 0, "y": 0, "width": 1, "height": 1, "rectanglelabels": ["car"]}},
        ]}]},
    {"id": 5, "data": {"image": "v_1.jpg"}, "annotations": []},
]  # fmt: skip

YOLO = {
    "data.yaml": "names:\n  0: car\n  1: road\n",
    "labels/train/v_0.txt": "1 0 0.333333333 1 0.333333333 1 1 0 1\n0 .25 .333333333 .75 .333333333 .75 1 .25 1\n"
    "0 0.5 0.5 0.1 0.1\n",
}


@pytest.mark.parametrize(
    ("form", "files", "left_out"),
    [
        ("cvat", {"annotations.xml": CVAT_IMAGES}, {"shapes of kind box": 1, "frames without areas": 1}),
        ("coco", {"annotations/instances_default.json": json.dumps(COCO)}, {"boxes": 1}),
        (
            "coco",
            {"a.json": json.dumps({**COCO, "annotations": [*COCO["annotations"], {"image_id": 8, "category_id": 3}]})},
            {"boxes": 1, "images with annotations that the file does not list": 1},
        ),
        ("labelme", {"v/0.json": json.dumps(LABELME)}, {"rectangles": 1}),
        (
            "label-studio",
            {"p.json": json.dumps(LABEL_STUDIO)},
            {"results of type rectanglelabels": 1, "tasks without annotations": 1},
        ),
        ("yolo", YOLO, {"boxes": 1}),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_shapes_are_painted_one_over_the_other(
    tmp_path: Path, form: str, files: dict[str, str], left_out: dict[str, int], zipped: bool
) -> None:
    place = tmp_path / ("a.zip" if zipped else "a")
    if zipped:
        with zipfile.ZipFile(place, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in files.items():
                archive.writestr(name, text)
    for name, text in files.items() if not zipped else ():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    with reading(place, TABLE) as given:
        drawn = 0
        for found in reader_of(form)(given):
            np.testing.assert_array_equal(found.draw(SIZE), LABEL)
            assert found.size in (SIZE, None)
            drawn += 1
        assert drawn == 1
        assert given.left_out == left_out


def test_tracks_are_brought_together_by_frame(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT_VIDEO)
    found = read_as("cvat", tmp_path, TABLE)
    np.testing.assert_array_equal(found["v/000000"], np.where(LABEL == 1, 0, LABEL))
    np.testing.assert_array_equal(found["v/000001"], LABEL)
    assert len(found) == 2


def test_panoptic_segments_become_classes(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[1:] = (1, 2, 0)  # segment 1 + 2 * 256
    pixels[1:, 1] = (9, 0, 1)
    pixels[1:, 2] = (10, 0, 1)
    (tmp_path / "panoptic_val").mkdir()
    Image.fromarray(pixels).save(tmp_path / "panoptic_val" / "0.png")
    segments = [
        {"id": 513, "category_id": 3, "isthing": 0},
        {"id": 65545, "category_id": 7},
        {"id": 65546, "category_id": 7},
    ]
    values = {
        "images": [{"id": 1, "file_name": "0.jpg", "height": 3, "width": 4}],
        "annotations": [{"image_id": 1, "file_name": "0.png", "segments_info": segments}],
        "categories": [{"id": 3, "name": "road"}, {"id": 7, "name": "car"}],
    }
    (tmp_path / "panoptic_val.json").write_text(json.dumps(values))
    np.testing.assert_array_equal(read_as("coco-panoptic", tmp_path, TABLE)["0.jpg"], LABEL)


def test_vocs_own_border_is_void_and_colours_go_by_the_labelmap(tmp_path: Path) -> None:
    from PIL import Image

    colours = {0: (9, 9, 9), 1: (8, 8, 8), V: (0, 0, 0)}
    pixels = np.array([[colours[value] for value in row] for row in LABEL.tolist()], np.uint8)
    pixels[0, 0] = (224, 224, 192)
    (tmp_path / "SegmentationClass").mkdir()
    Image.fromarray(pixels).quantize(8).save(tmp_path / "SegmentationClass" / "0.png")
    (tmp_path / "labelmap.txt").write_text("# x\nbackground:0,0,0::\ncar:8,8,8::\nroad:9,9,9::\n")
    np.testing.assert_array_equal(read_as("voc", tmp_path, TABLE)["0.png"], LABEL)


def test_masks_of_earlier_versions_count_from_where_they_say(tmp_path: Path) -> None:
    data = encode_label(np.where(LABEL == V, V, LABEL + 1).astype(np.uint8), TABLE.palette(1), b"vss:first_id\0" + b"1")
    (tmp_path / "0.png").write_bytes(data)
    np.testing.assert_array_equal(read_as("png", tmp_path, TABLE)["0.png"], LABEL)


def test_masks_that_name_no_classes_are_read_by_number_and_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(encode_label(LABEL))
    with reading(tmp_path, TABLE) as given:
        for found in reader_of("png")(given):
            np.testing.assert_array_equal(found.draw(SIZE), LABEL)
        assert list(given.remarks.values()) == [1]


def test_labels_in_linked_folders_are_read_and_systems_own_files_are_not(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "masks" / "@eaDir").mkdir(parents=True)
    elsewhere.mkdir()
    for place in (elsewhere / "0.png", tmp_path / "masks" / "@eaDir" / "1.png"):
        place.write_bytes(encode_label(LABEL, TABLE.palette()))
    (tmp_path / "masks" / "v").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(tmp_path / "masks")
    with open_source_files(tmp_path / "masks") as source:
        assert source.names == ("v/0.png",)


@pytest.mark.parametrize("key", ["annotations", "predictions"])
def test_tasks_of_label_studio_are_known_by_their_long_runs(tmp_path: Path, key: str) -> None:
    runs = [{"result": [{"type": "brushlabels", "value": {"rle": [255] * 2**15}}]}]
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": 1, key: runs, "data": {"image": "a.png"}}]))
    with open_source_files(tmp_path / "tasks.json") as source:
        assert guess_format(source) == "label-studio"


def test_void_has_a_name_of_its_own_in_a_labelmap(tmp_path: Path) -> None:
    table = ClassTable("t", ("background", "void"), ((1, 1, 1), (2, 2, 2)))
    with Sink(tmp_path / "a") as sink:
        writer = ColourWriter(sink, table, Choices())
        writer.add(Item("v", "0", np.array([[0, 1, V]], np.uint8)))
        writer.finish()
    np.testing.assert_array_equal(read_as("colour", tmp_path / "a", table)["v/0.png"], [[0, 1, V]])
