"""A pipeline with the recipes of its stages, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.config import Data
from vsscli.data.layouts import data_place
from vsscli.names import require_names
from vsscli.recipes.graph import upstream
from vsscli.recipes.load import find_recipe, load_pipeline, stage_recipe
from vsscli.recipes.pipeline import AnyStage, Pipeline, PredictStage, TrainStage
from vsscli.recipes.schema import Recipe
from vsscli.stages.faults import value_faults
from vsscli.stages.kind import Kind
from vsscli.stages.kinds import KINDS


@dataclass(frozen=True)
class Job:
    """Everything known before a run: a pipeline, the recipes of its training stages by name, and where it runs.

    The context's data root overrides that of the data that is predicted.
    """

    pipeline: Pipeline
    recipes: Mapping[str, Recipe]
    context: Context = field(default_factory=Context)

    @property
    def workspace(self) -> Path:
        """Where results go."""
        return self.context.workspace

    @property
    def home(self) -> Path:
        """Folder of the pipeline's results: ``<workspace>/<name>``."""
        return self.workspace / self.pipeline.name

    def stage(self, name: str) -> AnyStage:
        """A stage."""
        return self.pipeline.stages[name]

    @property
    def checked(self) -> Path:
        """File that records which data was found sound."""
        return self.home / "checked.json"

    def kind(self, name: str) -> Kind[Any]:
        """The object of a stage's kind, which answers everything about it."""
        return KINDS[type(self.stage(name))](self, name)

    def folder(self, name: str) -> Path:
        """Folder of a stage's record, and of its result unless that is a store."""
        return self.home / name

    def recipe(self, name: str) -> Recipe:
        """The recipe of a training stage; for other stages, that of the first network upstream."""
        if name in self.recipes:
            return self.recipes[name]
        return self.recipe(self.stage(name).takes()[0])

    def root(self, data: Data) -> Path | None:
        """The folder of a data set, if not the recipe's: the context's, for data that is predicted."""
        root = self.context.data_root
        return root if root is not None and self.predicts(data) else None

    def place(self, data: Data) -> Path:
        """The folder that stages read a data set from, regardless of checkpoints and stores in the workspace."""
        return self.root(data) or data_place(data)

    def predicts(self, data: Data) -> bool:
        """Whether stages predict a data set; true for all if no stage predicts."""
        stages = self.pipeline.stages.items()
        names = {self.recipe(name).data.name for name, stage in stages if isinstance(stage, PredictStage)}
        return not names or data.name in names

    def learners(self, name: str) -> list[str]:
        """The training stages upstream of a stage, including itself."""
        behind = upstream(self.pipeline.stages, name)
        return [other for other in self.pipeline.stages if other in behind and other in self.recipes]


def open_job(source: str | Path, overrides: str | Sequence[str] = (), *, context: Context = Context()) -> Job:
    """Read a pipeline, as `vsscli.recipes.load.load_pipeline` does, and the recipes of its stages.

    Raises
    ------
    VssError
        There is no such pipeline, or it or one of its recipes is wrong.
    """
    pipeline = load_pipeline(source, overrides, value_faults)
    path = find_recipe(source)
    recipes = {
        name: _drawn_in(context.workspace, stage_recipe(path, stage, pipeline.holdout))
        for name, stage in pipeline.stages.items()
        if isinstance(stage, TrainStage)
    }
    return Job(pipeline, recipes, context)


def _drawn_in(workspace: Path, recipe: Recipe) -> Recipe:
    """The recipe with its drawn scenes placed in the workspace, because they are results."""

    def placed(data: Data) -> Data:
        if data.scene is None:
            return data
        name = Path(data.root).name
        require_names([name], f"data.root of recipe {recipe.name}", "name the folder to draw the scene in")
        return data.model_copy(update={"root": str(workspace / name)})

    also = tuple(other.model_copy(update={"data": placed(other.data)}) for other in recipe.also)
    return recipe.model_copy(update={"data": placed(recipe.data), "also": also})
