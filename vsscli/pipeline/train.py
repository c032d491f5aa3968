"""From a recipe to a training run in the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vsscli.context import Context
from vsscli.pipeline.workspace import run_folder
from vsscli.recipes.load import as_recipe
from vsscli.recipes.schema import Recipe
from vsscli.training import run
from vsscli.training.begun import TrainResult


def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    overrides: str | Sequence[str] = (),
    context: Context = Context(),
    pseudo_labels: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    check: bool = True,
    checked: Path | None = None,
) -> TrainResult:
    """Train a network from a recipe, as ``vss train`` does.

    Parameters
    ----------
    recipe, overrides
        A recipe, or as for `load_recipe`.
    out
        Folder of the run; `None`: its place in the workspace.
    context
        Where to work, on what data and which device.
    pseudo_labels, init
        Override the recipe's pseudo-label store and initial checkpoint.
    resume, force
        Continue the run in that folder, or start again in its place.
    check
        Check every file that the run will read before the first step.
    checked
        File that records which data was found sound; `None`: one in the folder of the run.

    Returns
    -------
    TrainResult
        ``last`` and ``best``, paths of checkpoints; ``figures`` on the split that the recipe evaluates on.

    Raises
    ------
    VssError
        The recipe or its data is wrong, or the folder holds another run.
    """
    chosen = as_recipe(recipe, overrides)
    return run.train(
        chosen,
        run_folder(context.workspace, chosen.name) if out is None else Path(out),
        context=context,
        pseudo_labels=None if pseudo_labels is None else Path(pseudo_labels),
        init=None if init is None else Path(init),
        resume=resume,
        force=force,
        check=check,
        checked=checked,
    )
