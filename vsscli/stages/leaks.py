"""Whether a split that is scored was also trained on, by the recipes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vsscli.data.config import Data
from vsscli.recipes.schema import Recipe

if TYPE_CHECKING:
    from vsscli.stages.job import Job


def learned(job: Job, recipe: Recipe, data: Data) -> set[str]:
    """The splits, by their names on disk, of a data set's folder that a recipe trains on."""

    def is_there(one: Data) -> bool:
        return os.path.realpath(job.place(one)) == os.path.realpath(job.place(data))

    trained = (recipe.data, *(other.data for other in recipe.also))
    splits = {split for one in trained if is_there(one) for split in _names(one.train)}
    if recipe.unlabelled is not None and is_there(recipe.data):
        splits |= set(recipe.data.unlabelled)
    return splits


def on_disk(data: Data, split: str) -> set[str]:
    """The names on disk of a split, including those that a recipe's words stand for."""
    train = _names(data.train)
    words = {"train": train, "labelled": train, "val": {data.val}, "unlabelled": set(data.unlabelled)}
    return words.get(split, {split})


def learned_behind(job: Job, name: str) -> Iterator[str]:
    """Splits of a prediction that networks behind it are trained on, in words, one network each."""
    data = job.recipe(name).data
    for learner in job.learners(name):
        both = on_disk(data, job.kind(name).split) & learned(job, job.recipe(learner), data)
        if both:
            yield f"{min(both)!r}, which {learner!r} is trained on"


def _names(splits: str | Sequence[str]) -> set[str]:
    return {splits} if isinstance(splits, str) else set(splits)
