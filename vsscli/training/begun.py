"""What the folder of a run already holds: nothing, the run to continue, a finished one, or another."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.recipes.schema import Recipe
from vsscli.talk import Talk
from vsscli.training.inputs import SCORED, changed_data, lacks_data
from vsscli.training.state import lacks_content, other_run


@dataclass(frozen=True)
class TrainResult:
    """The checkpoints of a run, and its figures on the evaluation split."""

    last: Path
    best: Path
    figures: dict[str, float | None]
    trained_steps: int


def begun_run(out: Path, recipe: Recipe, inputs: dict[str, str]) -> bool | None:
    """Whether the run in a folder is of this recipe and these inputs; None if there is no run."""
    if not (out / "last.pt").exists():
        return None
    return not other_run(load_checkpoint(out / "last.pt", weights=False), recipe, inputs)


def finished_run(out: Path, recipe: Recipe, inputs: dict[str, str]) -> TrainResult | None:
    """The run in a folder, if it has finished with this recipe and these inputs."""
    last = out / "last.pt"
    checkpoint = load_checkpoint(last, weights=False) if last.exists() else None
    if checkpoint is None or other_run(checkpoint, recipe, inputs):
        return None
    if checkpoint.step < recipe.train.steps or (recipe.validated and not checkpoint.figures):  # not scored yet
        return None
    return TrainResult(last, out / "best.pt", checkpoint.figures, checkpoint.step)


def refuse_other(
    out: Path, recipe: Recipe, inputs: dict[str, str], *, finished: bool, resume: bool, talk: Talk
) -> None:
    """Refuse a folder that holds another run, or one on other data, unless it is resumed; warn of what is unknown."""
    last = out / "last.pt"
    checkpoint = load_checkpoint(last, weights=False)
    changed = changed_data(checkpoint.inputs, inputs)
    if changed:
        raise VssError(
            f"{last} was trained on other data: {changed}",
            "--force trains anew and replaces it, --out FOLDER (or another name) puts the new run elsewhere",
        )
    if not finished and not resume:
        raise VssError(
            f"{out} holds a run of {checkpoint.recipe.get('name')!r}, {checkpoint.step} steps long",
            "--resume continues it, --force starts over and replaces it, --out FOLDER puts the new run elsewhere",
        )
    unnoted = [
        *(["the frames and masks it learned from"] if lacks_data(checkpoint.inputs) else []),
        *(["those it was scored on"] if SCORED in inputs and SCORED not in checkpoint.inputs else []),
        *(["its pseudo-labels, only how they were made"] if lacks_content(checkpoint, inputs) else []),
    ]
    if unnoted:
        talk.warn(
            f"{last} is from an earlier version, which did not record {', nor '.join(unnoted)}: "
            "if these have changed since, --force trains anew"
        )
