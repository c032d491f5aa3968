"""Whether what is scored was learned from, as far as recipes say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vsscli.data.config import Data
from vsscli.recipes.schema import Recipe

if TYPE_CHECKING:
    from vsscli.stages.job import Job


def learned(recipe: Recipe, root: str) -> set[str]:
    """The splits of the data set at a root, as they are called on disk, that training by a recipe learns from."""
    data = (recipe.data, *(other.data for other in recipe.also))
    splits = {split for one in data if one.root == root for split in _names(one.train)}
    if recipe.unlabelled is not None and recipe.data.root == root:
        splits |= set(recipe.data.unlabelled)
    return splits


def on_disk(data: Data, split: str) -> set[str]:
    """What a split is called on disk; those that the words of recipes stand for."""
    train = _names(data.train)
    words = {"train": train, "labelled": train, "val": {data.val}, "unlabelled": set(data.unlabelled)}
    return words.get(split, {split})


def learned_behind(job: Job, name: str) -> Iterator[str]:
    """What a prediction is of that networks behind it learn from, in words, a network each."""
    data = job.recipe(name).data
    for learner in job.learners(name):
        both = on_disk(data, job.kind(name).split) & learned(job.recipe(learner), data.root)
        if both:
            yield f"{min(both)!r}, which {learner!r} learns from"


def _names(splits: str | Sequence[str]) -> set[str]:
    return {splits} if isinstance(splits, str) else set(splits)
