"""YAML in recipes: positions are known, and unused features are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsscli.errors import VssError
from vsscli.recipes.text import LIMITS, dump_yaml, parse_recipe, read_recipe_text


def refused(text: str) -> VssError:
    with pytest.raises(VssError) as caught:
        parse_recipe(text, "a.yaml")
    return caught.value


def test_values_and_the_lines_they_stand_on() -> None:
    document = parse_recipe("name: a\ntrain:\n  # how long\n  steps: 5\n  betas: [0.9, 1e-3]\n", "a.yaml")
    assert document.values == {"name": "a", "train": {"steps": 5, "betas": [0.9, 0.001]}}
    assert document.places["train", "steps"] == "a.yaml:4"
    assert document.places["train", "betas", 1] == "a.yaml:5"
    assert document.texts["train", "betas", 1] == "1e-3"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("-2E+3", -2000.0),
        (".5e1", 5.0),
        ("1e", "1e"),
        ("7", 7),
        ("0.5", 0.5),
        ("~", None),
        ("true", True),
        ("1_000.5", 1000.5),
        ("0x1F", 31),
        # What YAML 1.1 and 1.2 read differently is text: 8 or 10, 119 or none, 5 or none.
        ("010", "010"),
        ("1:59", "1:59"),
        ("1:59.5", "1:59.5"),
        ("0b101", "0b101"),
        ("2024-01-31", "2024-01-31"),
        (r'"\ud83d\ude00"', "\U0001f600"),
        ("'16'", "16"),
    ],
)
def test_single_values_are_what_they_look_like(text: str, value: object) -> None:
    read = parse_recipe(text, "a.yaml").values
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "place", "word"),
    [
        ("a:\n\tb: 1\n", "a.yaml:2:1", "tab"),
        ("a: 1\n b: 2\n", "a.yaml:2:3", "mapping values"),
        ("a: [1, 2\n", "a.yaml:2:1", "flow sequence"),
        ("a: {b: 1", "a.yaml:1:9", "flow mapping"),
        ("a: 'open\n", "a.yaml:2:1", "quoted scalar"),
        ("a: *nothing\n", "a.yaml:1:4", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1", "document"),
        ("a: 1\nb: 2\na: 3\n", "a.yaml:3", "a.yaml:1"),
        ("t:\n  a: 1\n  a: 2\n", "a.yaml:3", "`a`"),
        ("a: !!python/object/apply:os.system ['true']\n", "a.yaml:1", "tag"),
        ("a: !thing {b: 1}\n", "a.yaml:1", "tag !thing"),
        ("a: !!binary aGk=\n", "a.yaml:1", "tag"),
        ("a: !!int ten\n", "a.yaml:1", "'ten'"),
        ("a: !!bool perhaps\n", "a.yaml:1", "'perhaps'"),
        ("a: " + "9" * 5000 + "\n", "a.yaml:1", "999"),
        ("a: !!int ''\n", "a.yaml:1", "''"),
        ("a: !!int 1:59\n", "a.yaml:1", "'1:59'"),
        ("a: !!int 0b" + "1" * 5000 + "\n", "a.yaml:1", "'0b1"),
        ("a: !!float x\n", "a.yaml:1", "'x'"),
        ("a: 1e400\n", "a.yaml:1", "'1e400'"),
        ('a: "\\ud800"\n', "a.yaml:1", "half of a character"),
        ('a: "\\UFFFFFFFF"\n', "a.yaml", "an escape"),
        ("a: .inf\n", "a.yaml:1", "'.inf'"),
        ("a: .nan\n", "a.yaml:1", "'.nan'"),
        ("? [a, b]\n: 1\n", "a.yaml:1", "a key that is not a word"),
        ("a: &a {b: 1}\nc: {<<: *a}\n", "a.yaml:2", "merge key"),
        ("a: &a [*a]\n", "a.yaml:1", "contains itself"),
        ("a: 1\x00\n", "a.yaml:1", "a character"),
    ],
)
def test_what_is_no_yaml_or_no_recipe_is_refused_with_its_place(text: str, place: str, word: str) -> None:
    error = refused(text)
    assert error.message.startswith(f"{place}: ")
    assert word in error.message
    assert error.hint


def test_a_tab_gets_the_advice_that_helps() -> None:
    assert "never with tabs" in refused("a:\n\tb: 1\n").hint


def test_a_bomb_of_aliases_is_refused_before_it_goes_off() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 9)]
    error = refused("\n".join(lines))
    assert "more than 20000 values, aliases followed" in error.message


def test_a_few_aliases_are_fine() -> None:
    assert parse_recipe("a: &size [1, 2]\nb: *size\n", "a.yaml").values == {"a": [1, 2], "b": [1, 2]}


def test_brackets_without_end_are_refused() -> None:
    assert "nested too deeply" in refused("[" * 5000 + "]" * 5000).message


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"name: a\nseed: \xff\xfe\n")
    with pytest.raises(VssError, match=r"a\.yaml:2: not UTF-8"):
        read_recipe_text(path)


def test_a_file_that_is_far_too_large_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"#" * (LIMITS.bytes + 1))
    with pytest.raises(VssError, match="larger than 1 MB"):
        read_recipe_text(path)


def test_a_byte_order_mark_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert parse_recipe(read_recipe_text(path), "a.yaml").values == {"name": "a"}


@pytest.mark.parametrize(
    "text", ["1e5", "1:59", "010", "0b1", "yes", "5", "a: b", "", "~", "1_0", "\U0001f600", "\x1b"]
)
def test_text_that_looks_like_something_else_is_written_so_that_it_stays_text(text: str) -> None:
    assert parse_recipe(dump_yaml({"a": text}), "a.yaml").values == {"a": text}
