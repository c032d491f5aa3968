"""All faults of recipe files, including missing files that they name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.recipes.faults import Fault, Further, fault_at, find_faults, nothing_further
from vsscli.recipes.load import is_pipeline, open_document, stage_document
from vsscli.recipes.pipeline import Pipeline, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.recipes.text import Document, Key

TABLES = (".json", ".yaml", ".yml")
"""Suffixes of class tables and mappings that are files; others ship with vss."""


def validate_recipe(
    source: str | Path,
    overrides: Sequence[str] = (),
    *,
    files: bool = True,
    further: Further = nothing_further,
) -> list[Fault]:
    """All faults of a recipe, or of a pipeline and the recipes of its training stages.

    Parameters
    ----------
    source, overrides
        As for `vsscli.recipes.load.load_recipe`.
    files
        Whether missing files count as faults.
    further
        Adds checks of pipelines: see `vsscli.recipes.faults.find_faults`.
    """
    try:
        path, document = open_document(source, overrides)
    except VssError as cause:
        return [_fault(cause)]
    if not is_pipeline(document):
        recipe, faults = find_faults(document, Recipe)
        return faults if recipe is None else list(_recipe_faults(recipe, document, files))
    pipeline, faults = find_faults(document, Pipeline, further)
    if pipeline is None:
        return faults
    found: list[Fault] = []
    for stage in pipeline.stages.values():
        if isinstance(stage, TrainStage):
            found += _stage_faults(path, document, stage, pipeline.holdout, files)
    return list(dict.fromkeys(found))  # stages with the same recipe share its faults


def _stage_faults(path: Path, pipeline: Document, stage: TrainStage, holdout: str | None, files: bool) -> list[Fault]:
    try:
        document, file = stage_document(path, pipeline, stage, holdout)
    except VssError as cause:
        return [_fault(cause)]
    recipe, faults = find_faults(document, Recipe)
    if recipe is None:
        return [fault if fault.place else Fault(str(file), fault.what) for fault in faults]
    return list(_recipe_faults(recipe, document, files, stage))


def _recipe_faults(recipe: Recipe, document: Document, files: bool, stage: TrainStage | None = None) -> Iterator[Fault]:
    """Unknown networks, and missing files and folders that a recipe names.

    What the recipe's stage gets from other stages need not exist.
    """
    try:
        recipe.model.require_known()
    except VssError as error:
        yield fault_at(document, ("model", recipe.model.named_by), f"{error.message}; {error.hint}")
    if not files:
        return
    values = recipe.model_dump(mode="json")
    from_others = stage is not None and stage.init is not None
    for key, name in _named(recipe):
        starts = key[0] == "model" or key == ("train", "init")
        labels = key == ("unlabelled", "pseudo_labels") and stage is not None and stage.pseudo is not None
        if not (starts and from_others) and not labels and "://" not in name and not _there(Path(name)):
            yield _missing(document, key, name)
    yield from _data_faults(values["data"], document, ("data",))
    for index, other in enumerate(values.get("also") or ()):
        yield from _data_faults(other["data"], document, ("also", index, "data"))


def _named(recipe: Recipe) -> Iterator[tuple[Key, str]]:
    """Files that a recipe names relative to the working directory."""
    if recipe.model.weights is not None:
        key, name = recipe.model.weights
        yield ("model", key), name
    if recipe.train.init:
        yield ("train", "init"), recipe.train.init
    if recipe.unlabelled is not None and recipe.unlabelled.pseudo_labels:
        yield ("unlabelled", "pseudo_labels"), recipe.unlabelled.pseudo_labels


def _data_faults(data: dict[str, Any], document: Document, key: Key) -> Iterator[Fault]:
    """A missing data folder, or missing files in it. A drawn data set needs nothing."""
    variable = data["root_env"]
    given = os.environ.get(variable) if variable else None
    root = Path(os.path.expanduser(given or data["root"]))
    if not root.is_dir():
        if data["scene"] is None:
            yield _missing(document, (*key, "root"), str(root), f"; set {variable}" if variable else "")
        return
    for name in ("classes", "remap", "labelled"):
        file = data[name]
        if not file or (name != "labelled" and Path(file).suffix not in TABLES):
            continue
        places = [root / file] if name == "labelled" else [root / file, Path(os.path.expanduser(file))]
        if not any(place.exists() for place in places):
            yield _missing(document, (*key, name), str(places[0]))


def _missing(document: Document, key: Key, name: str, remedy: str = "") -> Fault:
    return fault_at(document, key, f"no such file or folder: {name}{remedy}")


def _there(path: Path) -> bool:
    return Path(os.path.expanduser(path)).exists()


def _fault(cause: VssError) -> Fault:
    hint = f" ({cause.hint})" if cause.hint else ""
    return Fault("", f"{cause.message}{hint}")
