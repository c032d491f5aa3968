"""The one reader of YAML and JSON: what it reads, and that small files can't be expensive to read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vsscli.data.classes import load_class_table
from vsscli.data.mapping import load_mapping
from vsscli.data.panoptic import load_segments
from vsscli.errors import VssError
from vsscli.structured import RECORDED, Limits, json_or_none, parse_json, read_structured
from vsscli.yamltext import parse_yaml

BOMB = (
    "- &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"- &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True))
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[1, 2", "line 1"),
        ("", "line 1"),
        ('{"a": 1, "a": 2}', "key 'a'"),
        ("[" * 100 + "]" * 100, "nested more than 64 deep"),
        ("[" * 100_000, "nested too deeply"),
        ("[NaN]", "NaN"),
        ("[-Infinity]", "-Infinity"),
        ("[1e400]", "too large"),
        ("1" * 5000, "5000 digits"),
        ('["\\ud800"]', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        (b'"\xff"', "utf-8"),
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes, says: str) -> None:
    with pytest.raises(VssError, match=r"^note n\.json ") as caught:
        parse_json(text, "note n.json")
    assert says in caught.value.message
    assert caught.value.hint


def test_json_of_other_programs_is_read() -> None:
    assert parse_json('\ufeff{"a": [1, -2.5, "\\ud83d\\ude00", null, true]}'.encode(), "n") == {
        "a": [1, -2.5, "\U0001f600", None, True]
    }
    assert str(parse_json("[NaN, 1e400]", "n", finite=False)) == "[nan, inf]"


def test_json_is_counted_before_it_is_parsed() -> None:
    with pytest.raises(VssError, match="more than 10 values"):
        parse_json("[" + "0," * 10 + "0]", "n", limits=Limits(100, 10, 10))
    with pytest.raises(VssError, match="larger than 100 bytes"):
        parse_json(" " * 101, "n", limits=Limits(100, 10, 10))


def test_the_record_of_half_a_million_frames_is_within_the_limits() -> None:
    stems = [f"{number:08d}" for number in range(500_000)]
    segments = {str(number): {"shares": "0" * 64, "labels": "0" * 64} for number in range(8_000)}
    assert parse_json(json.dumps({"stems": stems, "segments": segments}, indent=1), "n", limits=RECORDED)


def test_a_note_that_says_nothing_is_none(tmp_path: Path) -> None:
    note = tmp_path / "n.json"
    assert json_or_none(note) is None
    for text in ("[" * 5000, '{"a": ', "\ud800"):
        note.write_bytes(text.encode("utf-8", "surrogatepass"))
        assert json_or_none(note) is None
    note.write_text('{"a": NaN}')
    assert set(json_or_none(note)) == {"a"}


def test_aliases_that_multiply_are_refused_in_class_tables_and_mappings(tmp_path: Path) -> None:
    (tmp_path / "extra.yaml").write_text("extra:\n" + BOMB + "classes: [*j]\n")
    (tmp_path / "classes.yaml").write_text(BOMB)
    (tmp_path / "target.yaml").write_text("target: extra.yaml\nmap: {0: ignore}\n")
    (tmp_path / "source.yaml").write_text("source:\n" + BOMB + "others: *j\ntarget: vspw124\nmap: {0: ignore}\n")
    for name in ("extra.yaml", "classes.yaml"):
        with pytest.raises(VssError, match="more than 100000 values, aliases followed"):
            load_class_table(str(tmp_path / name))
    for name in ("target.yaml", "source.yaml"):
        with pytest.raises(VssError, match="more than 100000 values, aliases followed"):
            load_mapping(str(tmp_path / name))


def test_aliases_and_merge_keys_that_spare_typing_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(
        "grey: &grey {colour: [9, 9, 9]}\nclasses:\n"
        + "".join(f"  - {{<<: *grey, name: c{number}}}\n" for number in range(200))
        + "  - {<<: [*grey], colour: [1, 2, 3], name: own}\n"
    )
    table = load_class_table(str(path))
    assert table.num_classes == 201
    assert table.colours[0] == (9, 9, 9)
    assert table.colours[200] == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{1: a, 1: b}", "`1`"),
        ("a:\n- !!python/object/apply:os.getcwd []\n", ":2: can't take the tag"),
        ("? [a]\n: 1\n", "a key that is not a word"),
        ("[" * 40 + "]" * 40, "nested too deeply"),
        ("a: &a\n  b: *a\n", "contains itself"),
        ("{<<: 3}", "`<<`"),
        ("x: 1e999", "as a number"),
    ],
)
def test_what_is_no_plain_yaml_is_refused_with_its_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text)
    with pytest.raises(VssError) as caught:
        read_structured(path, "mapping")
    assert caught.value.message.startswith(f"mapping {path}:")
    assert says in caught.value.message


def test_keys_of_a_mapping_are_numbers_where_they_look_like_it() -> None:
    assert parse_yaml("{0: ignore, 7: road, road: 3, '8': x}", "m") == {0: "ignore", 7: "road", "road": 3, "8": "x"}


def test_a_panoptic_json_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    values = {"annotations": [{"file_name": "a.png", "segments_info": [{"id": 7, "category_id": 3}]}]}
    path = tmp_path / "panoptic.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(values).encode())
    ids, categories = load_segments(path).of(tmp_path / "a.png")
    assert (ids.tolist(), categories.tolist()) == ([7], [3])
