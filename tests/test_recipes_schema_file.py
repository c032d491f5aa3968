"""The committed JSON Schema matches the code, and every shipped recipe matches both."""

from __future__ import annotations

import json

import pytest

from vsscli.recipes.find import shipped_folder, shipped_recipes
from vsscli.recipes.jsonschema import recipe_schema, schema_text
from vsscli.recipes.load import load_any
from vsscli.recipes.text import parse_recipe
from vsscli.recipes.validate import validate_recipe

RECIPES = shipped_recipes()


def test_the_committed_schema_is_the_codes() -> None:
    committed = (shipped_folder() / "schema.json").read_text()
    assert committed == schema_text(), "renew it: vss recipe schema > recipes/schema.json"


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_is_valid(name: str) -> None:
    load_any(RECIPES[name])
    assert validate_recipe(RECIPES[name], files=False) == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_tells_editors_where_the_schema_is(name: str) -> None:
    path = RECIPES[name]
    lines = [line for line in path.read_text().splitlines() if line.startswith("# yaml-language-server: $schema=")]
    assert len(lines) == 1
    assert (path.parent / lines[0].partition("=")[2]).resolve() == (shipped_folder() / "schema.json").resolve()


def judge(text: str) -> bool:
    jsonschema = pytest.importorskip("jsonschema")
    return bool(jsonschema.Draft202012Validator(recipe_schema()).is_valid(parse_recipe(text, "a.yaml").values))


@pytest.mark.parametrize("name", RECIPES)
def test_every_shipped_recipe_keeps_to_the_schema(name: str) -> None:
    assert judge(RECIPES[name].read_text())


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("name: a\n", True),
        ("seed: 1\n", False),
        ("name: a\nsed: 1\n", False),
        ("name: a\ntrain: {precision: 16}\n", True),
        ("name: a\nmodel: {family: mmseg, config: a}\n", False),
        ("extends: b.yaml\nmodel: {family: mmseg, config: a}\n", True),
        ("extends: [a.yaml, b.yaml]\ntrain: {lr: null}\n", True),
        ("extends: b.yaml\nstages: {t: {set: {seed: 1}}, s: null}\n", True),
        ("extends: b.yaml\ntrain: {stesp: 1}\n", False),
        ("name: a\nstages: {t: {do: train, recipe: x}}\n", True),
        ("name: a\nstages: {t: {do: train}}\n", False),
        ("name: a\nstages: {t: {do: psuedo, of: x}}\n", False),
    ],
)
def test_the_schema_tells_right_from_wrong(text: str, valid: bool) -> None:
    assert judge(text) is valid


def test_the_schema_is_json_without_dangling_references() -> None:
    schema = json.loads(schema_text())
    names = {f"#/$defs/{name}" for name in schema["$defs"]}
    assert set(_references(schema)) <= names


def _references(part: object) -> list[str]:
    if isinstance(part, list):
        return [one for item in part for one in _references(item)]
    if isinstance(part, dict):
        own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
        return own + [one for item in part.values() for one in _references(item)]
    return []
