"""Class tables of other programs are class tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vsscli.data.classes import load_class_table, made_up_colour, read_class_entries
from vsscli.errors import VssError

COLOURS = ((128, 64, 128), (70, 130, 180))

LABELMAP = """# label:color_rgb:parts:actions
background:0,0,0::
road:128,64,128::
sky:70, 130, 180::
"""

CVAT = [
    {"name": "road", "id": 931, "color": "#804080", "type": "any", "attributes": []},
    {"name": "sky", "id": 17, "color": "#4682b4", "type": "any", "attributes": []},
]

COCO = {
    "images": [],
    "annotations": [],
    "categories": [{"id": 2, "name": "sky", "supercategory": ""}, {"id": 1, "name": "road", "supercategory": "x"}],
}


@pytest.mark.parametrize(
    ("name", "text", "coloured"),
    [
        ("labelmap.txt", LABELMAP, True),
        ("labels.json", json.dumps(CVAT), True),
        ("obj.names.txt", "road\nsky\n", False),
        ("data.yaml", "path: x\ntrain: images/train\nnc: 2\nnames: [road, sky]\n", False),
        ("data.yaml", "names:\n  1: sky\n  0: road\n", False),
        ("instances.json", json.dumps(COCO), False),
    ],
)
def test_tables_of_other_programs(tmp_path: Path, name: str, text: str, coloured: bool) -> None:
    (tmp_path / name).write_text(text)
    table = load_class_table(name, tmp_path)
    assert table.names == ("road", "sky")
    assert table.colours == (COLOURS if coloured else (made_up_colour(0), made_up_colour(1)))
    assert [entry.id for entry in read_class_entries(name, tmp_path)[1]] == [0, 1]


def test_ids_with_gaps_stay_for_those_who_count_on_them(tmp_path: Path) -> None:
    rows = [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}]
    (tmp_path / "coco.json").write_text(json.dumps({"categories": rows}))
    assert [entry.id for entry in read_class_entries("coco.json", tmp_path)[1]] == [1, 3]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("labelmap.txt", "road:1,2,3::\nsky\n", "'sky' is no line of a labelmap"),
        ("labelmap.txt", "road:300,2,3::\n", "colour"),
        ("data.yaml", "names: {0: road, 2: sky}\n", "numbered"),
        ("names.txt", "road\nroad\n", "'road'"),
        ("names.txt", "\n", "no classes"),
    ],
)
def test_what_is_wrong_with_them_is_said(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(VssError, match=said):
        load_class_table(name, tmp_path)
