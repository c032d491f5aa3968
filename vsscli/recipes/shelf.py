"""The recipes that ship with vss: listing them, and making copies that work elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.recipes.compose import named_bases, read_recipe
from vsscli.recipes.find import find_named, find_recipe, shipped_folder, shipped_recipes
from vsscli.recipes.text import parse_recipe, read_recipe_text

EDITOR_LINE = "# yaml-language-server:"


class ShippedRecipe(NamedTuple):
    """A line of `vss recipe ls`."""

    name: str
    kind: Literal["stage", "pipeline"]
    about: str


def list_recipes() -> list[ShippedRecipe]:
    """The recipes that ship with vss, by name."""
    rows = []
    for name, path in shipped_recipes().items():
        values = read_recipe(path).values
        about = str(values.get("about") or "") or _first_sentence(read_recipe_text(path))
        rows.append(ShippedRecipe(name, "pipeline" if "stages" in values else "stage", about))
    return rows


def _first_sentence(text: str) -> str:
    """The first sentence of the comment at a recipe's top, after the command."""
    words: list[str] = []
    for line in text.splitlines():
        said = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        if said and not said.startswith("vss ") and not line.startswith(EDITOR_LINE):
            words.append(said)
    return re.split(r"(?<=[.:]) ", " ".join(words), maxsplit=1)[0].rstrip(":.")


def copy_recipe(name: str, destination: Path, *, force: bool = False) -> list[Path]:
    """Copy a recipe, and recipes beside or below it that it needs, so that the copy works in its new place.

    Parameters
    ----------
    name
        A shipped recipe, or a file.
    destination
        The new file, or a folder, in which it keeps its name.
    force
        Replace existing files.

    Returns
    -------
    list of Path
        The new files. Recipes from elsewhere are not copied; the copy names the shipped ones.

    Raises
    ------
    VssError
        There is no such recipe, one of the new files exists, or the copy is called as a recipe that it needs.
    """
    source = find_recipe(name)
    target = destination if destination.suffix in (".yaml", ".yml") else destination / source.name
    texts: dict[Path, str] = {}
    waiting = [source]
    while waiting:
        file = waiting.pop()
        new = target if file == source else target.parent / file.relative_to(source.parent)
        if new == target and file != source:
            raise VssError(
                f"{target} can't be the copy of {source}, which needs {file}: that is copied to the same place",
                "give the copy another name",
            )
        if new in texts:
            continue
        lines = read_recipe_text(file).splitlines()
        for named, number in _references(file):
            other = find_named(named, file)
            if other == source and target.name != source.name:
                lines[number - 1] = lines[number - 1].replace(named, target.name)
            elif other.is_relative_to(source.parent):
                waiting.append(other)
            elif other.is_relative_to(shipped_folder()):
                shipped = f"recipes/{other.relative_to(shipped_folder()).as_posix()}"
                lines[number - 1] = lines[number - 1].replace(named, shipped)
            else:
                lines[number - 1] = lines[number - 1].replace(named, str(other.resolve()))
        texts[new] = "".join(f"{line}\n" for line in lines if not line.startswith(EDITOR_LINE))
    there = [path for path in texts if path.exists()]
    if there and not force:
        raise VssError(f"{', '.join(map(str, there))} already exists", "give another place, or --force to replace it")
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return list(texts)


def _references(file: Path) -> Iterator[tuple[str, int]]:
    """The recipes that a file names, each with its line number."""
    document = parse_recipe(read_recipe_text(file), str(file))
    for name, place in named_bases(document):
        yield name, int(place.rpartition(":")[2])
    stages: dict[str, Any] = document.values.get("stages") or {}
    for stage, values in stages.items():
        if isinstance(values, dict) and isinstance(values.get("recipe"), str):
            place = document.places["stages", stage, "recipe"]
            yield values["recipe"], int(place.rpartition(":")[2])
