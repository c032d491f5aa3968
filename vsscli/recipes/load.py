"""Recipes from files, from the ones that ship with vss, and from checkpoints."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.names import several
from vsscli.recipes.compose import lay_over, override, read_recipe
from vsscli.recipes.faults import Further, nothing_further, shown, validated
from vsscli.recipes.find import find_named, find_recipe
from vsscli.recipes.pipeline import Pipeline, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.recipes.text import Document, Key

PLACES_AND_ADVICE = ("root", "root_env", "publisher", "without")
"""Keys of `data` for places and advice to people: they change no result."""


def load_recipe(source: str | Path, overrides: str | Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe.

    Parameters
    ----------
    source
        A YAML file; if there is no such file, a recipe that ships with vss: ``recipes/camvid/student.yaml``,
        ``camvid/student.yaml`` or ``camvid/student``.
    overrides
        ``key.key=value``, or several, the value as YAML: ``train.steps=200``, ``augment.crop=[256, 320]``.

    Returns
    -------
    Recipe
        Complete: keys that the file and those it extends leave out have their defaults.

    Raises
    ------
    VssError
        There is no such recipe, or it has faults. All faults are listed, with file and line.
    """
    path, document = open_document(source, overrides)
    if is_pipeline(document):
        raise VssError(f"{path} is a pipeline of stages, not the recipe of one", f"vss run {path}")
    return validated(document, f"recipe {path}", Recipe)


def as_recipe(recipe: Recipe | str | Path, overrides: str | Sequence[str] = ()) -> Recipe:
    """Return a recipe as given, or load it with `load_recipe`.

    Raises
    ------
    VssError
        As `load_recipe`; or overrides are given for a recipe that is already loaded.
    """
    if not isinstance(recipe, Recipe):
        return load_recipe(recipe, overrides)
    if overrides:
        raise VssError(
            f"recipe {recipe.name!r} is loaded already, so overrides have no effect",
            "pass them to `load_recipe`, or name the recipe's file",
        )
    return recipe


def load_pipeline(
    source: str | Path, overrides: str | Sequence[str] = (), further: Further = nothing_further
) -> Pipeline:
    """Read and validate a pipeline; arguments and errors as for `load_recipe`.

    ``further`` adds checks: see `vsscli.recipes.faults.find_faults`.
    """
    path, document = open_document(source, overrides)
    if not is_pipeline(document):
        raise VssError(f"{path} is the recipe of one stage, not a pipeline", f"vss train --recipe {path}")
    return validated(document, f"recipe {path}", Pipeline, further)


def load_any(source: str | Path, overrides: str | Sequence[str] = ()) -> Recipe | Pipeline:
    """Read and validate a recipe or a pipeline; arguments and errors as for `load_recipe`."""
    path, document = open_document(source, overrides)
    if is_pipeline(document):
        return validated(document, f"recipe {path}", Pipeline)
    return validated(document, f"recipe {path}", Recipe)


def stage_recipe(source: str | Path, stage: TrainStage, holdout: str | None = None) -> Recipe:
    """The recipe of a training stage, with the stage's changes.

    Parameters
    ----------
    source
        The stage's pipeline. The stage's `recipe` is relative to the file that names it, which may be one that the
        pipeline extends; else it is a shipped recipe.
    stage
        The stage. Its `set` has dotted keys, sections, or both, applied in order; sections are merged.
    holdout
        A split to leave out of `data.train`, if that lists several.

    Raises
    ------
    VssError
        There is no such recipe; it has faults, of which those in the stage's `set` are reported with the pipeline's
        line; or nothing is left to train on.
    """
    path, pipeline = open_document(source)
    document, name = stage_document(path, pipeline, stage, holdout)
    return validated(document, f"recipe {name}", Recipe)


def stage_document(
    path: Path, pipeline: Document, stage: TrainStage, holdout: str | None = None
) -> tuple[Document, Path]:
    """A stage's recipe with the stage's changes, before validation, and its file."""
    at = _stage_key(pipeline, stage)
    place = pipeline.places.get((*at, "recipe"), str(path))
    # A place is a file with a line; if `--set` named the recipe, it counts as named in the pipeline's own file.
    said_in = Path(place.rpartition(":")[0])
    try:
        file = find_named(stage.recipe, said_in if said_in.is_file() else path)
    except VssError as cause:
        raise VssError(f"{place}: {'.'.join(map(str, (*at, 'recipe')))}: {cause.message}", cause.hint) from None
    document = read_recipe(file)
    if is_pipeline(document):
        raise VssError(f"{place}: {file} is a pipeline, not the recipe of one stage", "name a recipe without `stages`")
    for name, value in stage.set.items():
        lay_over(document, _setting(pipeline, (*at, "set", name), name, value, str(path)))
    if holdout is not None:
        _hold_out(document, holdout, str(file))
    return document, file


def open_document(source: str | Path, overrides: str | Sequence[str] = ()) -> tuple[Path, Document]:
    """The file of a recipe, and its content merged with what it extends and with overrides."""
    path = find_recipe(source)
    document = read_recipe(path)
    for text in several(overrides):
        override(document, text)
    return path, document


def is_pipeline(document: Document) -> bool:
    """Whether a document is a pipeline, and not the recipe of one stage."""
    return "stages" in document.values


def _stage_key(pipeline: Document, stage: TrainStage) -> Key:
    """The key of a stage in the pipeline: the one with the same recipe and, if there are several, the same `set`."""
    stages = pipeline.values.get("stages")
    named = {
        name: values
        for name, values in (stages.items() if isinstance(stages, dict) else ())
        if isinstance(values, dict) and values.get("recipe") == stage.recipe
    }
    same = [name for name, values in named.items() if (values.get("set") or {}) == stage.set]
    return ("stages", *(same or list(named))[:1])


def _setting(pipeline: Document, at: Key, name: str, value: Any, source: str) -> Document:
    """One entry of a stage's `set` as a document, with its places in the pipeline."""
    inner: Key = tuple(part.strip() for part in name.split("."))
    place = pipeline.places.get(at, source)
    values = copy.deepcopy(value)
    for part in reversed(inner):
        values = {part: values}
    document = Document(values, {inner[:depth]: place for depth in range(1, len(inner) + 1)})
    for theirs, ours in ((pipeline.places, document.places), (pipeline.texts, document.texts)):
        ours |= {(*inner, *key[len(at) :]): known for key, known in theirs.items() if key[: len(at)] == at}
    return document


def _hold_out(document: Document, split: str, source: str) -> None:
    """Remove a split from those that are trained on."""
    data = document.values.get("data")
    train = data.get("train", "train") if isinstance(data, dict) else "train"
    left = [name for name in train if name != split] if isinstance(train, list) else [train]
    if not left or left == [split]:
        place = document.places.get(("data", "train"), source)
        raise VssError(f"{place}: data.train: nothing is left without {split}, which is held out", "train on others")
    if isinstance(data, dict) and isinstance(train, list):
        data["train"] = left


def recipe_from_dict(values: dict[str, Any], source: str) -> Recipe:
    """The recipe that a checkpoint or a header carries.

    Parameters
    ----------
    values
        As made by ``Recipe.model_dump(mode="json")``.
    source
        Name of the place in messages: ``the recipe inside t.pt``.

    Raises
    ------
    VssError
        The values are not a recipe, or one of a version with other keys.
    """
    if not isinstance(values, dict):
        raise VssError(f"{source} is not a recipe but {shown(values)}", "make the file again with this version of vss")
    return validated(Document(values), source, Recipe)
