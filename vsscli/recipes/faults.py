"""Faults of a recipe: all at once, each with its place, worded for people who write YAML."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from vsscli.errors import VssError
from vsscli.recipes import graph
from vsscli.recipes.outline import TAGS, keys_at, kinds_at, split_location
from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.schema import Recipe
from vsscli.recipes.text import Document, Key

Schema = TypeVar("Schema", bound=BaseModel)

Further = Callable[[Pipeline], Sequence[tuple[Key, str]]]
"""Finds further faults of a pipeline: keys from the top of the file, and what is wrong there."""

SECTION = "should be a section with keys"

WORDING = {
    "Input should be": "should be",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "a valid dictionary": "a section with keys",
    "Tuple should have": "should have",
    " after validation": "",
}
"""Pydantic's wording, and ours."""


NAME = ("[key]",)
"""Pydantic's location for a wrong key, as opposed to its value."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    place: str
    """`file:line`, an option, or empty for the whole file."""
    what: str
    """The key, what it should be, and a suggestion."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class _Complaint(NamedTuple):
    """The parts of a fault, so that several about the same value can be merged."""

    should: str
    shown: str = ""
    near: str = ""


def nothing_further(_: Pipeline) -> list[tuple[Key, str]]:
    """A `Further` that finds nothing."""
    return []


def validated(document: Document, source: str, schema: type[Schema], further: Further = nothing_further) -> Schema:
    """Validate a document.

    Parameters
    ----------
    document
        What was read. Values that the schema wants as text are replaced by their spelling in the file.
    source
        Name of the whole in messages.
    schema
        `Recipe` or `Pipeline`.
    further
        As for `find_faults`.

    Raises
    ------
    VssError
        It has faults; names all of them.
    """
    checked, faults = find_faults(document, schema, further)
    if checked is not None:
        return checked
    raise faults_error(faults, source)


def faults_error(faults: Sequence[Fault], source: str) -> VssError:
    """The error that lists all faults."""
    if len(faults) == 1:
        fault = faults[0] if faults[0].place else Fault(source, faults[0].what)
        return VssError(str(fault), "correct it, and run the same command again")
    lines = [f"{source} has {len(faults)} faults", *(f"  {fault}" for fault in faults)]
    return VssError("\n".join(lines), "correct them, and run the same command again")


def fault_at(document: Document, key: Key, what: str) -> Fault:
    """A fault of the value at a key, which may be missing."""
    dotted = ".".join(map(str, key)).removesuffix(f".{NAME[0]}")
    return Fault(document.places.get(_placed(document, key), ""), f"{dotted}: {what}" if dotted else what)


def find_faults(
    document: Document, schema: type[Schema], further: Further = nothing_further
) -> tuple[Schema | None, list[Fault]]:
    """Validate a document: its object, or `None` and all faults in the order of the file.

    ``further`` adds checks of pipelines that belong to rooms above this one.
    """
    while True:
        try:
            checked = _validate(document.values, schema)
        except ValidationError as cause:
            error = cause
        else:
            between = [*graph.faults(checked), *further(checked)] if isinstance(checked, Pipeline) else []
            return (None if between else checked), [fault_at(document, key, what) for key, what in between]
        # `precision: 16` is a number to YAML and text to the schema: if text is wanted, take the spelling in the file.
        if not (_reread(document, error, schema) or _reset(document, error, schema)):
            return None, list(dict.fromkeys(_faults(document, error, schema)))


def shown(value: object) -> str:
    """A value as YAML would show it, shortened to fit a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _validate(values: Any, schema: type[Schema]) -> Schema:
    # Strict, so that `steps: "800"` or `flip: 1` is not silently converted; as JSON, whose lists may become tuples.
    return schema.model_validate_json(json.dumps(values), strict=True)


def _reread(document: Document, error: ValidationError, schema: type[BaseModel]) -> bool:
    """Restore the written text of values that the schema wants as text; returns whether there were any."""
    changed = False
    for fault in error.errors():
        key, _ = split_location(schema, document.values, fault["loc"])
        text = document.texts.get(key)
        allowed = fault["type"] == "string_type" or (
            fault["type"] == "literal_error" and f"'{text}'" in fault["ctx"]["expected"]
        )
        parent = _parent(document.values, key)
        if text is None or not allowed or fault["input"] is None or parent[key[-1]] == text:
            continue
        parent[key[-1]] = text
        changed = True
    return changed


def _reset(document: Document, error: ValidationError, schema: type[BaseModel]) -> bool:
    """Remove nulls that undo a base's values and are not allowed as values; returns whether there were any."""
    changed = False
    for fault in error.errors():
        key, _ = split_location(schema, document.values, fault["loc"])
        if key in document.resets and fault["input"] is None:
            document.forget({key})
            del _parent(document.values, key)[key[-1]]
            changed = True
    return changed


def _parent(values: Any, key: Key) -> Any:
    for part in key[:-1]:
        values = values[part]
    return values


def _faults(document: Document, error: ValidationError, schema: type[BaseModel]) -> list[Fault]:
    gathered: dict[Key, list[_Complaint]] = {}
    for fault in error.errors():
        key, rest = split_location(schema, document.values, fault["loc"])
        if fault["type"] in ("missing", "extra_forbidden") or rest == NAME:
            key = (*key, *rest[-1:])
        if fault["type"] in ("union_tag_invalid", "union_tag_not_found"):
            key = (*key, next(tag for tag in TAGS if tag in fault["ctx"]["discriminator"]))
        gathered.setdefault(key, []).append(_complaint(document, key, fault, schema))
    around = {key[:depth] for key in gathered for depth in range(len(key))}
    order = {key: number for number, key in enumerate(document.places)}
    faults = []
    for key in sorted(gathered, key=lambda key: order.get(_placed(document, key), 0)):
        if key in around:
            continue  # another alternative of a choice got further, so that one was meant
        faults.append(fault_at(document, key, _merged(gathered[key])))
    return faults


def _merged(complaints: Sequence[_Complaint]) -> str:
    """The complaints of all alternatives of a choice, as one sentence."""
    kept = list(dict.fromkeys(complaints))
    # A text where a section is possible too fails as both; the complaint about the text is enough.
    kept = [one for one in kept if one.should != SECTION] or kept
    first, *others = dict.fromkeys(one.should for one in kept)
    wanted = " or ".join([first, *(should.removeprefix("should be ") for should in others)])
    given = next((f", not {one.shown}" for one in kept if one.shown), "")
    return wanted + given + next((one.near for one in kept if one.near), "")


def _placed(document: Document, key: Key) -> Key:
    """The key itself, or the innermost key around it that is in the document."""
    return next((key[:n] for n in range(len(key), 0, -1) if key[:n] in document.places), ())


def _complaint(document: Document, key: Key, fault: Any, schema: type[BaseModel]) -> _Complaint:
    kind, given = fault["type"], fault["input"]
    if kind == "extra_forbidden":
        return _Complaint("unknown key", near=_nearest_key(key, document.values, schema))
    if kind in ("union_tag_invalid", "literal_error"):
        expected = str(fault["ctx"]["expected" if kind == "literal_error" else "expected_tags"])
        value = given if kind == "literal_error" else given.get(key[-1])
        return _Complaint(f"should be {_listed(expected)}", shown(value), _nearest_word(value, expected))
    if kind == "union_tag_not_found":
        return _Complaint(f"is missing (one of {', '.join(kinds_at(schema, key[:-1], document.values))})")
    if kind == "missing":
        return _Complaint("is missing")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return _Complaint(SECTION, shown(given))
    message = str(fault["msg"]).removeprefix("Value error, ")
    for theirs, ours in WORDING.items():
        message = message.replace(theirs, ours)
    if kind == "string_pattern_mismatch":
        message = "should consist of letters, digits, dots, dashes and underscores, and begin with a letter or digit"
    if kind in ("value_error", "too_long", "too_short"):
        return _Complaint(message)
    return _Complaint(message, shown(given))


def _listed(expected: str) -> str:
    """`'a', 'b' or 'c'`, from either of pydantic's spellings."""
    if " or " in expected or ", " not in expected:
        return expected
    *others, last = expected.split(", ")
    return f"{', '.join(others)} or {last}"


def _nearest_word(value: object, expected: str) -> str:
    """A suggestion for a word that is not one of the choices."""
    near = difflib.get_close_matches(str(value).lower(), re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean `{near[0]}`?" if near and isinstance(value, str) else ""


def _nearest_key(key: Key, values: Any, schema: type[BaseModel]) -> str:
    """A suggestion for an unknown key: the section that has it, or a similar key of this section."""
    siblings = keys_at(schema, key[:-1], values)
    name = str(key[-1])
    if schema is Pipeline and len(key) == 3 and "set" in siblings and name in Recipe.model_fields:
        return "; changes of the stage's recipe belong under `set`"
    # A typo in the right section is more likely than the same word in another one: `train.step` means `steps`.
    alike = difflib.get_close_matches(name, siblings, n=1, cutoff=0.8)
    if alike:
        return f"; did you mean `{alike[0]}`?"
    top = keys_at(schema, (), values)
    elsewhere = [section for section in top if name in keys_at(schema, (section,), values)]
    if elsewhere:
        return f"; it belongs under {' or '.join(f'`{section}`' for section in elsewhere)}"
    near = difflib.get_close_matches(name, siblings, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f" (known: {', '.join(siblings)})" if siblings else ""
