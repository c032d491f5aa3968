"""Merging recipes: the files that `extends` names, then the file itself, then `--set`.

Mappings are merged key by key, lists and single values replaced. `null` undoes what the base says: a section or stage
is removed, a value returns to its default, or to null if that is allowed. If `model.family` or a stage's `do` changes,
nothing of the base's section is kept. Every value keeps the place where it was written.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.recipes.find import find_named, shipped_folder
from vsscli.recipes.schema import family_of
from vsscli.recipes.text import Document, Key, is_within, parse_recipe, read_recipe_text

MAX_DEPTH = 8
"""Longest chain of recipes that extend each other."""

MAX_FILES = 32
"""Most files that a recipe may consist of; a file that is extended twice counts twice."""


def read_recipe(path: Path) -> Document:
    """Read a recipe together with the recipes that it extends.

    Returns
    -------
    Document
        Without `extends`.

    Raises
    ------
    VssError
        A file is missing, is not YAML or not a mapping, or extends itself, or there are too many; names file and line.
    """
    return _Composer().read(path)


class _Composer:
    """Reads files, and keeps track of those that are being read."""

    def __init__(self) -> None:
        self._open: list[Path] = []
        self._count = 0

    def read(self, path: Path) -> Document:
        document = parse_recipe(read_recipe_text(path), str(path))
        if document.values is None:
            raise VssError(f"recipe {path} is empty", "start from a shipped one, such as recipes/student.yaml")
        if not isinstance(document.values, dict):
            raise VssError(f"recipe {path} has no `key: value` lines at its top level", "is it a recipe?")
        _settle_root(document, path)
        if "extends" not in document.values:
            return document
        self._open.append(path)
        base = Document({})
        for source, place in named_bases(document):
            lay_over(base, self._extended(source, place, path))
        self._open.pop()
        del document.values["extends"]
        document.forget({("extends",)})
        lay_over(base, document)
        return base

    def _extended(self, source: str, place: str, file: Path) -> Document:
        try:
            path = find_named(source, file)
        except VssError as cause:
            raise VssError(f"{place}: extends: {cause.message}", cause.hint) from None
        if any(path.samefile(one) for one in self._open):
            circle = " extends ".join(str(one) for one in (*self._open, path))
            raise VssError(f"{place}: extends: in a circle, {circle}", "remove one of them")
        self._count += 1
        if len(self._open) >= MAX_DEPTH or self._count >= MAX_FILES:
            what = f"more than {MAX_DEPTH} recipes in a row or {MAX_FILES} in all"
            raise VssError(f"{place}: extends: {what}", "write some of their values out")
        return self.read(path)


def _settle_root(document: Document, file: Path) -> None:
    """Let ``data.root: .`` be the folder of the file that says so, wherever vss is called: another project's recipe
    would be read over this one's data. Beside a shipped recipe there is no data; there it is the working directory."""
    data = document.values.get("data")
    if not isinstance(data, dict) or data.get("root") != "." or file.parent.samefile("."):
        return
    if not file.resolve().is_relative_to(shipped_folder().resolve()):
        data["root"] = str(file.parent)


def named_bases(document: Document) -> list[tuple[str, str]]:
    """The recipes that a document extends, each with its place."""
    if "extends" not in document.values:
        return []
    named = document.values["extends"]
    listed: dict[Key, Any] = {("extends",): named}
    if isinstance(named, list):
        listed = {("extends", index): one for index, one in enumerate(named)}
    for key, one in listed.items():
        if not isinstance(one, str) or not one:
            raise VssError(
                f"{document.places[key]}: extends: should be a recipe or a list of recipes",
                "for example `extends: teacher.yaml`",
            )
    return [(str(one), document.places[key]) for key, one in listed.items()]


def lay_over(base: Document, over: Document) -> None:
    """Merge a document into another one, which it overrides."""
    changed = _Changed()
    _merge(base.values, over.values, (), changed)
    base.forget(changed.replaced | changed.removed)
    base.places |= {key: place for key, place in over.places.items() if key in changed.merged}
    base.places |= {key: place for key, place in over.places.items() if is_within(key, changed.replaced)}
    base.texts |= {key: text for key, text in over.texts.items() if is_within(key, changed.replaced)}
    base.resets |= changed.undone | {key for key in over.resets if is_within(key, changed.replaced)}


@dataclass
class _Changed:
    """Keys of sections that were merged and removed, of other values that were set, and of those set to null which had
    another value."""

    merged: set[Key] = field(default_factory=set)
    removed: set[Key] = field(default_factory=set)
    replaced: set[Key] = field(default_factory=set)
    undone: set[Key] = field(default_factory=set)


def _merge(below: dict[str, Any], above: dict[str, Any], key: Key, changed: _Changed) -> None:
    changed.merged.add(key)
    for name, value in above.items():
        inner = (*key, name)
        old = below.get(name)
        if isinstance(old, dict) and isinstance(value, dict) and not _switches(inner, old, value):
            _merge(old, value, inner, changed)
        elif isinstance(old, dict) and value is None:
            changed.removed.add(inner)
            del below[name]
        else:
            changed.replaced.add(inner)
            if value is None and name in below:
                changed.undone.add(inner)
            below[name] = value


def _switches(key: Key, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Whether a section becomes one with other keys: another family of networks, or another kind of stage."""
    if key == ("model",) or (key[:1] == ("stages",) and key[2:] == ("set", "model")):
        return "family" in new and family_of(new) != family_of(old)
    return key[:1] == ("stages",) and len(key) == 2 and "do" in new and new["do"] != old.get("do")


def override(document: Document, text: str) -> None:
    """Set one value of a document, ``key.key=value``; an existing section is replaced as a whole."""
    dotted, equals, value = text.partition("=")
    key: Key = tuple(part.strip() for part in dotted.split("."))
    option = f"--set {text}"
    if not equals or not all(key):
        raise VssError(f"{option}: not of the form KEY=VALUE", "for example --set train.steps=200")
    parsed = parse_recipe(value, option, key, lines=False)
    section = document.values
    for depth, part in enumerate(key[:-1], start=1):
        if section.get(part) is None:
            section[part] = {}
        section = section[part]
        if not isinstance(section, dict):
            raise VssError(
                f"{option}: {'.'.join(map(str, key[:depth]))} is a value, not a section",
                f"set the whole of it: --set {'.'.join(map(str, key[:depth]))}={{…}}",
            )
        document.places.setdefault(key[:depth], option)
    section[key[-1]] = parsed.values
    document.forget({key})
    document.places |= {key: option} | parsed.places
    document.texts |= parsed.texts
