"""The schema at a place in a recipe: its keys, and the alternative of a choice that is meant."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel

from vsscli.recipes.schema import family_of
from vsscli.recipes.text import Key

TAGS = ("family", "do")
"""Keys that name the kind of a section, and so decide its other keys."""


def keys_at(schema: type[BaseModel], key: Key, values: Any) -> list[str]:
    """The schema's keys of the section at a place; in a choice of kinds, those of the kind written there.

    Parameters
    ----------
    schema
        Schema of the whole.
    key
        Path of the section; () is the top level.
    values
        The whole document's values.
    """
    shapes, values = _walk(schema, key, values)
    written = values if isinstance(values, dict) else {}  # a missing section counts as empty
    sections = [shape for shape in _meant(shapes, written) if _is_section(shape)]
    return list(dict.fromkeys(name for section in sections for name in section.model_fields))


def kinds_at(schema: type[BaseModel], key: Key, values: Any) -> list[str]:
    """The kinds of the section at a place: possible values of its `family` or `do`."""
    shapes, _ = _walk(schema, key, values)
    return [kind for shape in shapes if _tag(shape) is not None for kind in _kinds(shape)]


def split_location(schema: type[BaseModel], values: Any, location: Sequence[str | int]) -> tuple[Key, Key]:
    """The part of pydantic's location that is in the values, and the rest.

    Within a choice of types pydantic puts the name of the type or kind between the keys; it is skipped.
    """
    shapes: list[Any] = [schema]
    key: list[str | int] = []
    rest: list[str | int] = []
    kind_follows = False
    for part in location:
        inside = (isinstance(values, dict) and part in values) or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        )
        if kind_follows or not inside:
            kind_follows = False
            rest.append(part)
            continue
        shapes, kind_follows = _step(_meant(shapes, values), part)
        values = values[part]
        key.append(part)
        rest = []
    return tuple(key), tuple(rest)


def _walk(schema: type[BaseModel], key: Key, values: Any) -> tuple[list[Any], Any]:
    """The types that the value at a place may have, and the value."""
    shapes: list[Any] = [schema]
    for part in key:
        shapes, _ = _step(_meant(shapes, values), part)
        values = _inner(values, part)
    return shapes, values


def _step(shapes: Sequence[Any], part: str | int) -> tuple[list[Any], bool]:
    """The types that the value at a key may have, and whether they are kinds of one section."""
    found: list[Any] = []
    for shape in shapes:
        arguments = typing.get_args(shape)
        if _is_section(shape):
            field = shape.model_fields.get(str(part))
            found += [] if field is None else _shapes(field.annotation)
        elif typing.get_origin(shape) is dict:
            found += _shapes(arguments[1])
        elif isinstance(part, int) and arguments:
            found += _shapes(arguments[0 if arguments[-1] is Ellipsis else min(part, len(arguments) - 1)])
    return found, sum(_tag(shape) is not None for shape in found) > 1


def _shapes(annotation: Any) -> Iterator[Any]:
    """The sections, mappings and lists in a type, which may be a union."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        for argument in typing.get_args(annotation):
            yield from _shapes(argument)
    elif origin is typing.Annotated:
        yield from _shapes(typing.get_args(annotation)[0])
    elif origin in (tuple, dict) or _is_section(annotation):
        yield annotation


def _meant(shapes: Sequence[Any], values: Any) -> list[Any]:
    """The types that a value may be meant for."""
    if not isinstance(values, dict):
        return [shape for shape in shapes if typing.get_origin(shape) is tuple]
    kept = [shape for shape in shapes if typing.get_origin(shape) is not tuple]
    kinds = [shape for shape in kept if _tag(shape) is not None]
    if len(kinds) < 2:
        return kept
    return [shape for shape in kept if shape not in kinds or _is_kind(shape, values)]


def _is_kind(section: type[BaseModel], values: dict[str, Any]) -> bool:
    written = family_of(values) if _tag(section) == "family" else values.get("do")
    return written in _kinds(section)


def _kinds(section: type[BaseModel]) -> tuple[str, ...]:
    return typing.get_args(section.model_fields[str(_tag(section))].annotation)


def _tag(shape: Any) -> str | None:
    return next((tag for tag in TAGS if tag in shape.model_fields), None) if _is_section(shape) else None


def _is_section(shape: Any) -> bool:
    return isinstance(shape, type) and issubclass(shape, BaseModel)


def _inner(values: Any, part: str | int) -> Any:
    if isinstance(values, dict):
        return values.get(part)
    return values[part] if isinstance(values, list) and isinstance(part, int) and part < len(values) else None
