"""From a recipe to a training run in the workspace."""

from __future__ import annotations

from pathlib import Path

from vsscli.context import Context
from vsscli.pipeline.workspace import run_folder
from vsscli.recipes.schema import Recipe
from vsscli.training.begun import TrainResult
from vsscli.training.run import train


def train_recipe(
    recipe: Recipe,
    out: Path | None = None,
    *,
    context: Context = Context(),
    pseudo_labels: Path | None = None,
    init: Path | None = None,
    resume: bool = False,
    force: bool = False,
    check: bool = True,
    checked: Path | None = None,
) -> TrainResult:
    """Train a recipe's network into ``out``, or its place in the workspace; see :func:`vsscli.training.run.train`."""
    return train(
        recipe,
        out or run_folder(context.workspace, recipe.name),
        data_root=context.data_root,
        pseudo_labels=pseudo_labels,
        init=init,
        resume=resume,
        force=force,
        device=context.device,
        devices=context.devices,
        check=check,
        checked=checked,
        workspace=context.workspace,
        talk=context.talk,
    )
