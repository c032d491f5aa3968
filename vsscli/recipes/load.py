"""Recipes from files, from the ones that ship with vss, and from checkpoints."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import types
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vsscli.errors import VssError
from vsscli.recipes.graph import faults as graph_faults
from vsscli.recipes.pipeline import Pipeline, TrainStage
from vsscli.recipes.schema import Recipe, family_of
from vsscli.recipes.text import Document, Key, parse_yaml, read_text

PLACES_AND_ADVICE = ("root", "root_env", "publisher", "without")
"""Keys of `data` that say where it is and what to tell people: they change no result."""

SHIPPED = Path(__file__).parent / "shipped"
"""The folder `recipes` of the repository, as the wheel carries it."""

Schema = TypeVar("Schema", bound=BaseModel)

SECTION = "should be a section with keys of its own"

WORDING = {
    "Input should be": "should be",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "a valid tuple": "a list",
    "a valid array": "a list",
    "Tuple should have": "should have",
    " after validation": "",
}
"""Pydantic's words, and those of people who write YAML."""


def load_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    source
        A YAML file; if there is none of that name, a recipe that ships with vss: ``recipes/camvid/student.yaml``,
        ``camvid/student.yaml`` or ``camvid/student``.
    overrides
        ``key.key=value`` each, the value as YAML: ``train.steps=200``, ``augment.crop=[256, 320]``.

    Returns
    -------
    Recipe
        Complete: what the file leaves out has its default.

    Raises
    ------
    VssError
        There is no such recipe, or it is wrong. All that is wrong is named at once, with file and line.
    """
    path, document = _read(source, overrides)
    if "stages" in document.values:
        raise VssError(f"{path} is a pipeline of stages, not the recipe of one", f"vss run {path}")
    return _check(document, f"recipe {path}", Recipe)


def load_pipeline(source: str | Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Read and check a recipe of a whole pipeline; arguments and errors as for `load_recipe`."""
    path, document = _read(source, overrides)
    if "stages" not in document.values:
        raise VssError(f"{path} is the recipe of one stage, not a pipeline", f"vss train --recipe {path}")
    pipeline = _check(document, f"recipe {path}", Pipeline)
    found = [(_placed(document, key), f"{'.'.join(map(str, key))}: {what}") for key, what in graph_faults(pipeline)]
    if found:
        raise _complaint([(document.places.get(place, ""), what) for place, what in found], f"recipe {path}")
    return pipeline


def stage_recipe(source: Path, stage: TrainStage, holdout: str | None = None) -> Recipe:
    """The recipe of a training stage: a file beside the pipeline's, or a shipped one, changed as the stage says.

    Parameters
    ----------
    source
        File of the pipeline.
    stage
        One of its stages.
    holdout
        A split that is taken out of what the stage trains on.
    """
    beside = source.parent / stage.recipe
    path, document = _read(beside if beside.is_file() else stage.recipe, ())
    for key, value in stage.set.items():
        _override(document, f"{key}={json.dumps(value)}")
    return _check(document, f"recipe {path}", Recipe)


def recipe_from_dict(values: dict[str, Any], source: str) -> Recipe:
    """The recipe that a checkpoint or a header carries.

    Parameters
    ----------
    values
        As ``Recipe.model_dump(mode="json")`` made them.
    source
        What to call the place in messages: ``the recipe inside t.pt``.

    Raises
    ------
    VssError
        The values are no recipe, or one of a version that knew other keys.
    """
    if not isinstance(values, dict):
        raise VssError(f"{source} is not a recipe but {_shown(values)}", "make the file again with this version of vss")
    return _check(Document(values), source, Recipe)


def recipe_digest(recipe: Recipe, parts: Sequence[str] | None = None) -> str:
    """A name for what a recipe asks for.

    Parameters
    ----------
    recipe
        The recipe.
    parts
        Top-level keys that count; none: all of them. The folder of the data and advice to people never count.

    Returns
    -------
    str
        SHA-256 of the canonical JSON, 64 hexadecimal digits.
    """
    values = recipe.model_dump(mode="json")
    for key in PLACES_AND_ADVICE:
        values["data"].pop(key)
    chosen = values if parts is None else {part: values[part] for part in parts}
    text = json.dumps(chosen, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with vss by name, ``camvid/student``: from the wheel, or from a checkout of the sources."""
    checkout = Path(__file__).parents[2]
    folder = SHIPPED
    if not folder.is_dir() and (checkout / "pyproject.toml").is_file():
        folder = checkout / "recipes"
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def find_recipe(source: str | Path) -> Path:
    """The file of a recipe; see `load_recipe`."""
    path = Path(os.path.expanduser(source))  # unlike Path.expanduser, leaves ~nobody alone
    if path.is_file():
        return path
    shipped = shipped_recipes()
    if not path.is_absolute():
        name = path.with_suffix("") if path.suffix in (".yaml", ".yml") else path
        name = name.relative_to("recipes") if name.parts[:1] == ("recipes",) else name
        if name.as_posix() in shipped:
            return shipped[name.as_posix()]
    if path.is_dir():
        inside = sorted(str(file) for file in path.glob("*.yaml"))
        raise VssError(f"recipe {path} is a folder", f"name one of {', '.join(inside)}" if inside else "name a file")
    # The name alone is compared as well: `student-camvid.yaml` is near `camvid/student` to a person, not to difflib.
    near = difflib.get_close_matches(path.with_suffix("").as_posix(), [*shipped, *(f"recipes/{n}" for n in shipped)])
    names = [f"recipes/{name.removeprefix('recipes/')}.yaml" for name in near or shipped]
    listed = ", ".join(dict.fromkeys(names))
    raise VssError(f"no recipe {path}", f"did you mean {listed}?" if near else f"give a YAML file, or one of {listed}")


def _read(source: str | Path, overrides: Sequence[str]) -> tuple[Path, Document]:
    """The file of a recipe and what it says, changed as asked."""
    path = find_recipe(source)
    document = parse_yaml(read_text(path), str(path))
    if document.values is None:
        raise VssError(f"recipe {path} is empty", "start from a shipped one, such as recipes/student.yaml")
    if not isinstance(document.values, dict):
        raise VssError(f"recipe {path} holds no `key: value` lines at its top level", "is it a recipe?")
    for override in overrides:
        _override(document, override)
    return path, document


def _override(document: Document, text: str) -> None:
    """Set one value of a document, ``key.key=value``."""
    dotted, equals, value = text.partition("=")
    key: Key = tuple(part.strip() for part in dotted.split("."))
    option = f"--set {text}"
    if not equals or not all(key):
        raise VssError(f"{option}: not of the form KEY=VALUE", "for example --set train.steps=200")
    parsed = parse_yaml(value, option, key, lines=False)
    section = document.values
    for depth, part in enumerate(key[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise VssError(
                f"{option}: {'.'.join(map(str, key[:depth]))} holds a value, not keys",
                f"give all of it: --set {'.'.join(map(str, key[:depth]))}={{…}}",
            )
        document.places.setdefault(key[:depth], option)
    section[key[-1]] = parsed.values
    for known in (document.places, document.texts):
        for old in [place for place in known if place[: len(key)] == key]:
            del known[old]
    document.places |= {key: option} | parsed.places
    document.texts |= parsed.texts


def _check(document: Document, source: str, schema: type[Schema]) -> Schema:
    try:
        return _validate(document.values, schema)
    except ValidationError as cause:
        error = cause
    # `precision: 16` is a number to YAML and a word to the schema: where a word is wanted, take what was written.
    if _reread(document, error):
        try:
            return _validate(document.values, schema)
        except ValidationError as cause:
            error = cause
    raise _complaint(list(dict.fromkeys(_faults(document, error, schema))), source)


def _complaint(faults: Sequence[tuple[str, str]], source: str) -> VssError:
    """The error that names all faults, each with its place."""
    remedy = "and run the same command again"
    if len(faults) == 1:
        place, what = faults[0]
        return VssError(f"{place or source}: {what}", f"correct it, {remedy}")
    lines = [f"  {place}: {what}" if place else f"  {what}" for place, what in faults]
    return VssError("\n".join([f"{source} has {len(faults)} faults", *lines]), f"correct them, {remedy}")


def _validate(values: Any, schema: type[Schema]) -> Schema:
    # Strict, so that `steps: "800"` or `flip: 1` is not silently bent; as JSON, whose lists may stand for tuples.
    return schema.model_validate_json(json.dumps(values), strict=True)


def _reread(document: Document, error: ValidationError) -> bool:
    """Put what was written where the schema wants words and YAML read something else; tell whether any was."""
    changed = False
    for fault in error.errors():
        key, _ = _split_location(document.values, fault["loc"])
        text = document.texts.get(key)
        allowed = fault["type"] == "string_type" or (
            fault["type"] == "literal_error" and f"'{text}'" in fault["ctx"]["expected"]
        )
        if text is None or not allowed or fault["input"] is None:
            continue
        parent = document.values
        for part in key[:-1]:
            parent = parent[part]
        parent[key[-1]] = text
        changed = True
    return changed


def _faults(document: Document, error: ValidationError, schema: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Place and description of everything that is wrong, in the order of the file."""
    gathered: dict[Key, list[str]] = {}
    for fault in error.errors():
        key, rest = _split_location(document.values, fault["loc"])
        if fault["type"] in ("missing", "extra_forbidden"):
            key = (*key, *rest[-1:]) if rest else key
        if fault["type"] == "union_tag_invalid":
            key = (*key, "family")
        gathered.setdefault(key, []).append(_what(document, key, fault, schema))
    order = {key: number for number, key in enumerate(document.places)}
    for key in sorted(gathered, key=lambda key: order.get(_placed(document, key), 0)):
        if any(len(other) > len(key) and other[: len(key)] == key for other in gathered):
            continue  # another alternative of a choice got further: it is the one that was meant
        # A word where a section is possible too fails as both; what it says of the words is enough.
        whats = [what for what in dict.fromkeys(gathered[key]) if len(gathered[key]) == 1 or SECTION not in what]
        dotted = ".".join(map(str, key))
        what = " or ".join(whats)
        yield document.places.get(_placed(document, key), ""), f"{dotted}: {what}" if dotted else what


def _placed(document: Document, key: Key) -> Key:
    """The key itself, or the innermost one around it that stands in the document."""
    return next((key[:n] for n in range(len(key), 0, -1) if key[:n] in document.places), ())


def _split_location(values: Any, location: Sequence[str | int]) -> tuple[Key, Key]:
    """The part of pydantic's location that is in the values, and the rest.

    Within a choice of types pydantic puts the type's name between the keys; it is no key and is passed over.
    """
    key: list[str | int] = []
    rest: list[str | int] = []
    for part in location:
        inside = (isinstance(values, dict) and part in values) or (
            isinstance(values, list) and isinstance(part, int) and part < len(values)
        )
        if inside:
            values = values[part]
            key.append(part)
            rest = []
        else:
            rest.append(part)
    return tuple(key), tuple(rest)


def _what(document: Document, key: Key, fault: Any, schema: type[BaseModel]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key{_nearest(key, document.values, schema)}"
    if fault["type"] == "union_tag_invalid":
        *others, last = fault["ctx"]["expected_tags"].split(", ")
        return f"should be {', '.join(others)} or {last}, not {_shown(fault['input'].get('family'))}"
    if fault["type"] == "missing":
        return "is missing"
    if fault["type"] in ("model_type", "model_attributes_type", "dict_type"):
        return f"{SECTION}, not {_shown(fault['input'])}"
    message = str(fault["msg"]).removeprefix("Value error, ")
    for theirs, ours in WORDING.items():
        message = message.replace(theirs, ours)
    if fault["type"] == "string_pattern_mismatch":
        message = "should be letters, digits, dots, dashes and underscores, a letter or digit first"
    if fault["type"] in ("value_error", "too_long", "too_short"):
        return message
    return f"{message}, not {_shown(fault['input'])}"


def _shown(value: object) -> str:
    """A value as YAML would show it, cut to what a line can hold."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _nearest(key: Key, values: Any, schema: type[BaseModel]) -> str:
    """A suggestion for a key that is unknown: a sibling of similar name, or the section that has it."""
    siblings = _keys(schema, key[:-1], values)
    name = str(key[-1])
    elsewhere = [section for section in _keys(schema, (), values) if name in _keys(schema, (section,), values)]
    if elsewhere:
        return f"; it belongs under {' or '.join(f'`{section}`' for section in elsewhere)}"
    near = difflib.get_close_matches(name, siblings, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f" (there are {', '.join(siblings)})" if siblings else ""


def _keys(model: type[BaseModel], path: Key, values: Any) -> list[str]:
    """The keys that the schema has at a path; among the families of a section, those of the one that is written."""
    for part in path:
        field = model.model_fields.get(str(part))
        sections = [] if field is None else list(_models(field.annotation))
        if not sections:
            return []
        values = values.get(part) if isinstance(values, dict) else None
        model = next((section for section in sections if _is_family(section, values)), sections[0])
    return list(model.model_fields)


def _is_family(section: type[BaseModel], values: Any) -> bool:
    family = section.model_fields.get("family")
    return family is not None and family_of(values) in typing.get_args(family.annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a type, which may be a choice between some."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, tuple):
        for argument in typing.get_args(annotation):
            yield from _models(argument)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
