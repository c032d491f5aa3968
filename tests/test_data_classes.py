"""Class tables: reading them from files, and refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vsscli.data.classes import ClassTable, load_class_table, read_class_entries
from vsscli.errors import VssError


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_vspw_ships_with_its_124_classes_and_their_colours() -> None:
    table = load_class_table("vspw124")
    assert (table.name, table.num_classes) == ("vspw124", 124)
    assert (table.names[0], table.names[60], table.names[123]) == ("wall", "person", "train")
    assert table.colours[0] == (120, 120, 120)


def test_a_yaml_list_of_names_gets_the_same_colours_every_time(tmp_path: Path) -> None:
    source = write(tmp_path / "street.yaml", "[road, sky, car]")
    table = load_class_table(source)
    assert (table.name, table.names) == ("street", ("road", "sky", "car"))
    # The first three colours of PASCAL VOC's published colour map after black.
    assert table.colours == ((128, 0, 0), (0, 128, 0), (128, 128, 0))
    assert load_class_table(source) == table


def test_made_up_colours_are_all_different(tmp_path: Path) -> None:
    table = load_class_table(write(tmp_path / "many.json", json.dumps([f"c{k}" for k in range(254)])))
    assert len(set(table.colours)) == 254


def test_a_json_table_gives_names_and_colours_and_what_it_is_called(tmp_path: Path) -> None:
    values = {
        "dataset": "streets",
        "classes": [{"id": 0, "name": "road", "colour": [1, 2, 3]}, {"id": 1, "name": "sky"}],
    }
    table = load_class_table(write(tmp_path / "classes.json", json.dumps(values)))
    assert (table.name, table.colours) == ("streets", ((1, 2, 3), (0, 128, 0)))


def test_a_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    assert load_class_table(write(tmp_path / "t.json", '\ufeff["road", "sky"]')).names == ("road", "sky")


def test_a_name_is_looked_for_among_the_shipped_tables_then_under_the_root_then_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    write(tmp_path / "root" / "classes.json", '["under_root"]')
    write(tmp_path / "classes.json", '["in_cwd"]')
    write(tmp_path / "other.yaml", "[only_in_cwd]")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "root"
    assert load_class_table("vspw124", root).num_classes == 124
    assert load_class_table("classes.json", root).names == ("under_root",)
    assert load_class_table("classes.json").names == ("in_cwd",)
    assert load_class_table("other.yaml", root).names == ("only_in_cwd",)
    assert load_class_table(str(tmp_path / "other.yaml"), root).names == ("only_in_cwd",)


def test_a_table_that_is_nowhere_names_the_places_and_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="neither shipped") as caught:
        load_class_table("classes.json", tmp_path)
    assert str(tmp_path / "classes.json") in caught.value.message
    assert "vspw124" in caught.value.hint


def test_a_table_survives_being_written_into_a_checkpoint() -> None:
    table = load_class_table("vspw124")
    assert ClassTable.from_dict(json.loads(json.dumps(table.to_dict()))) == table


def test_ids_with_gaps_are_kept_for_remapping(tmp_path: Path) -> None:
    source = write(
        tmp_path / "coco.json", '[{"category_id": 1, "name": "person"}, {"category_id": 90, "name": "brush"}]'
    )
    assert [entry.id for entry in read_class_entries(source)[1]] == [1, 90]


def test_the_palette_puts_class_k_at_first_id_plus_k_and_leaves_the_rest_black() -> None:
    table = ClassTable("t", ("a", "b"), ((9, 8, 7), (6, 5, 4)))
    palette = table.palette(first_id=1)
    assert len(palette) == 768
    assert palette[:9] == bytes([0, 0, 0, 9, 8, 7, 6, 5, 4])
    assert not any(palette[9:])


def test_254_classes_are_the_most(tmp_path: Path) -> None:
    assert load_class_table(write(tmp_path / "a.json", json.dumps([f"c{k}" for k in range(254)]))).num_classes == 254
    with pytest.raises(VssError, match="255 classes") as caught:
        load_class_table(write(tmp_path / "b.json", json.dumps([f"c{k}" for k in range(255)])))
    assert "254" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[road, road]", "more than one class named 'road'"),
        ("[]", "no classes"),
        ("[road, yes]", "has name True"),
        ("[{name: road, colour: [0, 0, 256]}]", "has colour"),
        ("[{name: road, colour: [0, 0]}]", "has colour"),
        ("[{name: road, colour: red}]", "has colour"),
        ("[{name: road, id: 1}, {name: sky, id: 0}]", "comes after id 1"),
        ("[{name: road, id: -1}]", "has id -1"),
        ("{labels: [road]}", "not a class table"),
        ("just text", "not a class table"),
        ("[road", "flow sequence"),
        ("{classes: [a], classes: [b]}", "`classes`"),
    ],
)
def test_a_broken_table_is_refused_by_name(tmp_path: Path, text: str, match: str) -> None:
    source = write(tmp_path / "broken.yaml", text)
    with pytest.raises(VssError, match=match) as caught:
        load_class_table(source)
    assert "broken" in caught.value.message


def test_a_table_of_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_bytes(b"\xff\xfe\x00junk")
    with pytest.raises(VssError, match="not UTF-8"):
        load_class_table(str(tmp_path / "t.json"))


@pytest.mark.parametrize("values", [None, 3, {}, {"classes": "road"}, {"classes": [3]}])
def test_junk_where_a_checkpoint_should_hold_a_table_is_refused(values: object) -> None:
    with pytest.raises(VssError):
        ClassTable.from_dict(values)  # type: ignore[arg-type]
