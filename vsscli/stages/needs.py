"""What is asked before anything runs: is all there that stages need, and is nothing scored that was learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from vsscli.data.config import Data
from vsscli.data.sound import check_once
from vsscli.errors import VssError
from vsscli.recipes.pipeline import EvalStage, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.stages.job import Job, further_data
from vsscli.stages.key import Frames, splits_of, weight_files
from vsscli.talk import SILENCE, Talk


def missing(job: Job, names: Sequence[str], frames: Frames, *, drawing: bool = True) -> list[str]:
    """Data, class tables and files of weights that some stages need and that are not there, with where to get them.

    Without ``drawing``, synthetic videos that are not there are neither drawn nor missed.
    """
    found: dict[str, list[str]] = {}
    hints: dict[str, str] = {}
    for name in names:
        recipe = job.recipe(name)
        for _, data, split, _ in splits_of(job, name):
            if data.scene is not None and not drawing:
                continue
            try:
                frames.videos(data, split)
            except VssError as error:
                # Recipes of one data set may say different things of what runs without it; one of them is enough.
                found.setdefault(error.message, []).append(name)
                hints.setdefault(error.message, f": {error.hint}" if error.hint else "")
        if isinstance(job.stage(name), TrainStage):
            for path in weight_files(recipe):
                if not path.is_file():
                    found.setdefault(f"file {path} is not there{_published(recipe)}", []).append(name)
    return [f"{what}{hints.get(what, '')} (for {', '.join(dict.fromkeys(names))})" for what, names in found.items()]


def refuse_missing(job: Job, names: Sequence[str], frames: Frames) -> None:
    """Raise an error that names all that is `missing`."""
    found = missing(job, names, frames)
    if found:
        lines = [f"pipeline {job.pipeline.name} lacks what it needs, nothing was run", *(f"  {line}" for line in found)]
        raise VssError("\n".join(lines), "put it there, and run the same command again")


def require_sound(job: Job, names: Sequence[str], frames: Frames, talk: Talk = SILENCE) -> None:
    """Look at every file of the data that some stages read, before the first of them runs.

    What is found sound is remembered in `checked_record`, where training looks as well.

    Raises
    ------
    VssError
        Files are damaged or missing, or masks that are learned from or scored have no labels.
    """
    wanted: dict[tuple[str, str], tuple[Data, str, bool]] = {}
    for name in names:
        for _, data, split, masks in splits_of(job, name):
            key = (data.model_dump_json(), split)
            wanted[key] = (data, split, masks or (key in wanted and wanted[key][2]))
    for data, split, masks in wanted.values():
        check_once(
            frames.videos(data, split),
            frames.dataset(data, split).meaning,
            masks=masks,
            sparse=masks and split != "labelled",
            record=checked_record(job),
            what=f"split {split!r} of {data.name}",
            digests=frames.files,
            talk=talk,
        )
    frames.files.save()


def checked_record(job: Job) -> Path:
    """Where a pipeline remembers what data was found sound."""
    return job.home / "checked.json"


def refuse_leaks(job: Job, names: Sequence[str]) -> None:
    """Raise an error where a split is scored that a network behind the prediction has learned from.

    Raises
    ------
    VssError
        Such a split; or the pipeline's `holdout`, if a stage learns from it.
    """
    found = list(dict.fromkeys(_leaks(job, names)))
    if found:
        lines = [f"pipeline {job.pipeline.name} would score what it learned from", *(f"  {line}" for line in found)]
        raise VssError("\n".join(lines), "set `holdout` to the split, or score another one")


def learned(recipe: Recipe, root: str) -> set[str]:
    """The splits of the data set at a root, as they are called on disk, that training by a recipe learns from."""
    splits = {
        split for data in (recipe.data, *further_data(recipe)) if data.root == root for split in _names(data.train)
    }
    if recipe.unlabelled is not None and recipe.data.root == root:
        splits |= set(recipe.data.unlabelled)
    return splits


def _leaks(job: Job, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        stage = job.stage(name)
        if isinstance(stage, TrainStage) and job.pipeline.holdout is not None:
            data = job.recipe(name).data
            if job.predicts(data) and _on_disk(data, job.pipeline.holdout) & learned(job.recipe(name), data.root):
                yield f"stages.{name}: learns from {job.pipeline.holdout!r}, which the pipeline holds out"
        for number, row in enumerate(stage.rows if isinstance(stage, EvalStage) else ()):
            scored = job.recipe(row.of).data
            for learner in job.learners(row.of):
                both = _on_disk(scored, job.split(row.of)) & learned(job.recipe(learner), scored.root)
                if both:
                    yield f"stages.{name}.rows.{number}: scores {min(both)!r}, which {learner!r} learns from"


def _on_disk(data: Data, split: str) -> set[str]:
    """What a split is called on disk; those that the words of recipes stand for."""
    train = _names(data.train)
    words = {"train": train, "labelled": train, "val": {data.val}, "unlabelled": set(data.unlabelled)}
    return words.get(split, {split})


def _names(splits: str | Sequence[str]) -> set[str]:
    return {splits} if isinstance(splits, str) else set(splits)


def _published(recipe: Recipe) -> str:
    """Where the owners of a network's pre-training publish it, if that is known."""
    return f": {recipe.model.published}" if recipe.model.published else ""
