"""The JSON Schema of recipes, with which editors complete and check them."""

from __future__ import annotations

import copy
import json
from typing import Any

from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.schema import Recipe

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PART = "Part"
"""Suffix of definitions for files that extend others: nothing is required, and everything may be null."""


def recipe_schema() -> dict[str, Any]:
    """The schema for recipes of a stage and of a pipeline, and for files that extend either."""
    definitions: dict[str, Any] = {}
    for model in (Recipe, Pipeline):
        schema = model.model_json_schema()
        definitions |= schema.pop("$defs")
        definitions[model.__name__] = schema
    definitions = {name: _plain(definition) for name, definition in definitions.items()}
    parts = {f"{name}{PART}": _part(definition) for name, definition in definitions.items()}
    named = {"type": "string", "minLength": 1}
    extends = {
        "description": "recipes that this one builds on, in order: relative to this file, or shipped with vss",
        "anyOf": [named, {"type": "array", "items": named}],
    }
    for whole in (Recipe.__name__, Pipeline.__name__):
        parts[f"{whole}{PART}"]["properties"]["extends"] = extends
    return {
        "$schema": DIALECT,
        "title": "Recipe of vss",
        "if": {"required": ["extends"]},
        "then": {"anyOf": [_reference(f"Recipe{PART}"), _reference(f"Pipeline{PART}")]},
        "else": {
            "if": {"required": ["stages"]},
            "then": _reference(Pipeline.__name__),
            "else": _reference(Recipe.__name__),
        },
        "$defs": dict(sorted((definitions | parts).items())),
    }


def schema_text() -> str:
    """The content of `recipes/schema.json`."""
    return json.dumps(recipe_schema(), indent=1, ensure_ascii=False) + "\n"


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/$defs/{name}"}


def _plain(schema: Any) -> Any:
    """A schema without pydantic's titles, and with numbers where YAML reads text as one: `precision: 16`."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    changed = {key: _plain(value) for key, value in schema.items() if key != "title" or not isinstance(value, str)}
    words = changed.get("enum", ())
    numbers = [int(word) for word in words if isinstance(word, str) and word.isdecimal()]
    if numbers:
        changed["enum"] = [*words, *numbers]
        changed.pop("type", None)
    return changed


def _part(schema: Any) -> Any:
    """The same for a file that extends another: everything may be left out, and null undoes a value."""
    if isinstance(schema, list):
        return [_part(item) for item in schema]
    if not isinstance(schema, dict):
        return copy.deepcopy(schema)
    part: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "required" and isinstance(value, list):
            continue
        if key == "properties":
            part[key] = {name: _or_null(_part(inner)) for name, inner in value.items()}
        elif key in ("additionalProperties", "patternProperties") and isinstance(value, dict):
            pattern = key == "patternProperties"
            part[key] = {n: _or_null(_part(v)) for n, v in value.items()} if pattern else _or_null(_part(value))
        elif key == "oneOf":
            part["anyOf"] = _part(value)  # without `do` a stage may be of several kinds
        elif key == "discriminator":
            continue
        elif key == "$ref":
            part[key] = f"{value}{PART}"
        else:
            part[key] = _part(value)
    return part


def _or_null(schema: Any) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}
