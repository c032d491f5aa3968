"""What is wrong with a recipe: all of it at once, each with its place, in the words of people who write YAML."""

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
"""Finds what is wrong with a pipeline: keys from the top of the file, and what is wrong there."""

SECTION = "should be a section with keys of its own"

WORDING = {
    "Input should be": "should be",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "a valid dictionary": "a section with keys of its own",
    "Tuple should have": "should have",
    " after validation": "",
}
"""Pydantic's words, and ours."""


NAME = ("[key]",)
"""Where pydantic finds that not a value but its key is wrong."""


class Fault(NamedTuple):
    """One thing that is wrong."""

    place: str
    """`file:line`, an option, or nothing where it is about the whole."""
    what: str
    """The key, what it should be, and what is near."""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" if self.place else self.what


class _Complaint(NamedTuple):
    """A fault in pieces, so that several about one value can be told as one."""

    should: str
    shown: str = ""
    near: str = ""


def nothing_further(_: Pipeline) -> list[tuple[Key, str]]:
    """The `Further` that finds nothing."""
    return []


def validated(document: Document, source: str, schema: type[Schema], further: Further = nothing_further) -> Schema:
    """A document as the schema's object.

    Parameters
    ----------
    document
        What was read. Values that the schema takes for words are replaced by what was written.
    source
        What to call the whole in messages.
    schema
        `Recipe` or `Pipeline`.
    further
        As for `find_faults`.

    Raises
    ------
    VssError
        It is wrong; names every fault.
    """
    checked, faults = find_faults(document, schema, further)
    if checked is not None:
        return checked
    raise faults_error(faults, source)


def faults_error(faults: Sequence[Fault], source: str) -> VssError:
    """The error that names all that is wrong."""
    if len(faults) == 1:
        fault = faults[0] if faults[0].place else Fault(source, faults[0].what)
        return VssError(str(fault), "correct it, and run the same command again")
    lines = [f"{source} has {len(faults)} faults", *(f"  {fault}" for fault in faults)]
    return VssError("\n".join(lines), "correct them, and run the same command again")


def fault_at(document: Document, key: Key, what: str) -> Fault:
    """A fault of the value at a key, or of the lack of one."""
    dotted = ".".join(map(str, key)).removesuffix(f".{NAME[0]}")
    return Fault(document.places.get(_placed(document, key), ""), f"{dotted}: {what}" if dotted else what)


def find_faults(
    document: Document, schema: type[Schema], further: Further = nothing_further
) -> tuple[Schema | None, list[Fault]]:
    """A document as the schema's object, or what is wrong with it, in the order of the file.

    ``further`` finds in a pipeline of the schema what rooms above this one know.
    """
    while True:
        try:
            checked = _validate(document.values, schema)
        except ValidationError as cause:
            error = cause
        else:
            between = [*graph.faults(checked), *further(checked)] if isinstance(checked, Pipeline) else []
            return (None if between else checked), [fault_at(document, key, what) for key, what in between]
        # `precision: 16` is a number to YAML and a word to the schema: where a word is wanted, take what was written.
        if not (_reread(document, error, schema) or _reset(document, error, schema)):
            return None, list(dict.fromkeys(_faults(document, error, schema)))


def shown(value: object) -> str:
    """A value as YAML would show it, cut to what a line can hold."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _validate(values: Any, schema: type[Schema]) -> Schema:
    # Strict, so that `steps: "800"` or `flip: 1` is not silently bent; as JSON, whose lists may stand for tuples.
    return schema.model_validate_json(json.dumps(values), strict=True)


def _reread(document: Document, error: ValidationError, schema: type[BaseModel]) -> bool:
    """Put what was written where the schema wants words and YAML read something else; tell whether any was."""
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
    """Leave out the nulls that take back what a base says, where there can be no null; tell whether any was."""
    changed = False
    for fault in error.errors():
        key, _ = split_location(schema, document.values, fault["loc"])
        if key in document.resets and fault["input"] is None:
            document.forget(key)
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
            continue  # another alternative of a choice got further: it is the one that was meant
        faults.append(fault_at(document, key, _told(gathered[key])))
    return faults


def _told(complaints: Sequence[_Complaint]) -> str:
    """What alternatives of a choice want, as one sentence."""
    told = list(dict.fromkeys(complaints))
    # A word where a section is possible too fails as both; what it says of the words is enough.
    told = [one for one in told if one.should != SECTION] or told
    first, *others = dict.fromkeys(one.should for one in told)
    wanted = " or ".join([first, *(should.removeprefix("should be ") for should in others)])
    given = next((f", not {one.shown}" for one in told if one.shown), "")
    return wanted + given + next((one.near for one in told if one.near), "")


def _placed(document: Document, key: Key) -> Key:
    """The key itself, or the innermost one around it that stands in the document."""
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
        return _Complaint(f"is missing (there are {', '.join(kinds_at(schema, key[:-1], document.values))})")
    if kind == "missing":
        return _Complaint("is missing")
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return _Complaint(SECTION, shown(given))
    message = str(fault["msg"]).removeprefix("Value error, ")
    for theirs, ours in WORDING.items():
        message = message.replace(theirs, ours)
    if kind == "string_pattern_mismatch":
        message = "should be letters, digits, dots, dashes and underscores, a letter or digit first"
    if kind in ("value_error", "too_long", "too_short"):
        return _Complaint(message)
    return _Complaint(message, shown(given))


def _listed(expected: str) -> str:
    """`'a', 'b' or 'c'`, from pydantic's two ways to write it."""
    if " or " in expected or ", " not in expected:
        return expected
    *others, last = expected.split(", ")
    return f"{', '.join(others)} or {last}"


def _nearest_word(value: object, expected: str) -> str:
    """A suggestion for a word that is none of those that are possible."""
    near = difflib.get_close_matches(str(value).lower(), re.findall(r"'([^']*)'", expected), n=1)
    return f"; did you mean `{near[0]}`?" if near and isinstance(value, str) else ""


def _nearest_key(key: Key, values: Any, schema: type[BaseModel]) -> str:
    """A suggestion for a key that is unknown: the section that has it, or a sibling of similar name."""
    siblings = keys_at(schema, key[:-1], values)
    name = str(key[-1])
    if schema is Pipeline and len(key) == 3 and "set" in siblings and name in Recipe.model_fields:
        return "; what changes the stage's recipe belongs under `set`"
    # One letter off in the right section is nearer than the same word in another one: `train.step` means `steps`.
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
    return f" (there are {', '.join(siblings)})" if siblings else ""
