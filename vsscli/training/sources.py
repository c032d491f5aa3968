"""The labelled data sets of a recipe: the main one, and those listed under `also`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsscli.data.config import Also
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.errors import VssError
from vsscli.recipes.schema import Recipe
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Further:
    """A further data set, opened, in the classes of the main one, with its section of the recipe."""

    section: Also
    dataset: Dataset


@dataclass(frozen=True)
class Sources:
    """The data sets that labelled crops come from.

    The recipe has the folders where they were found, so that a checkpoint that carries it finds them again. Validation
    and unlabelled frames use the main one.
    """

    recipe: Recipe
    main: Dataset
    also: tuple[Further, ...] = ()

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """All of them, the main one first."""
        return (self.main, *(further.dataset for further in self.also))


def open_sources(recipe: Recipe, root: Path | None, talk: Talk = SILENCE) -> Sources:
    """Open the data sets that a recipe trains on; ``root`` overrides the folder of the main one.

    Raises
    ------
    VssError
        A data set is missing, or has other classes than the main one.
    """
    main = open_dataset(recipe.data, root, talk)
    further = tuple(Further(section, open_dataset(section.data, None, talk)) for section in recipe.also)
    for other in further:
        if other.dataset.table.names != main.table.names:
            raise VssError(
                f"{other.dataset.name} has the {other.dataset.table.num_classes} classes of "
                f"{other.dataset.table.name!r}, {main.name} the {main.table.num_classes} of {main.table.name!r}",
                f"read its masks in {main.name}'s classes: set data.remap and data.classes in that part of `also`",
            )
    also = tuple(other.section.model_copy(update={"data": other.dataset.noted}) for other in further)
    return Sources(recipe.model_copy(update={"data": main.noted, "also": also}), main, further)
