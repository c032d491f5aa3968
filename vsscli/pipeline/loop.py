"""The whole loop: train a teacher and a student, predict, fuse, threshold, retrain, fuse again, score."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from vsscli.files import write_text
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.pictures import draw_pictures
from vsscli.pipeline.predict import Hardware, predict_split
from vsscli.pipeline.pseudo import pseudo_label
from vsscli.pipeline.workspace import run_folder
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.report.table import ScoreRow, markdown_table, score_table
from vsscli.talk import SILENCE, Talk
from vsscli.training.run import begun_run, train, training_inputs

METRICS = ("miou", "wiou", "vc8", "vc16")


@dataclass(frozen=True)
class LoopRecipes:
    """What the three networks of the loop are trained by."""

    name: str
    teacher: Recipe
    student: Recipe
    retrain: Recipe


@dataclass(frozen=True)
class LoopResult:
    """What the loop came to."""

    rows: tuple[ScoreRow, ...]
    stores: dict[str, Path]
    reliable: float
    pictures: Path
    table: Path
    seconds: float

    def to_json(self) -> dict[str, object]:
        """Plain values for one JSON object."""
        return {
            "rows": [{"name": row.name, "store": str(self.stores[row.name]), **row.scores} for row in self.rows],
            "reliable": self.reliable,
            "pictures": str(self.pictures),
            "table": str(self.table),
            "seconds": round(self.seconds, 1),
        }


def load_loop(folder: str) -> LoopRecipes:
    """The recipes ``teacher.yaml``, ``student.yaml`` and ``retrain.yaml`` of a folder, or of a shipped one."""
    teacher, student, retrain = (load_recipe(f"{folder}/{name}.yaml") for name in ("teacher", "student", "retrain"))
    return LoopRecipes(Path(folder).name, teacher, student, retrain)


def run_loop(
    recipes: LoopRecipes,
    *,
    workspace: Path,
    data_root: Path | None = None,
    percentile: float = 80.0,
    device: str = "auto",
    talk: Talk = SILENCE,
) -> LoopResult:
    """Run every stage that is not done yet, and score what the stages made on the evaluation split.

    Parameters
    ----------
    recipes
        The teacher's, the student's, and that of retraining the student on pseudo-labels.
    workspace
        Where checkpoints and stores go, and where finished ones are found again.
    data_root
        Overrides the root of the recipes' data.
    percentile
        Share of the unlabelled pixels, in percent, that is taken as reliable.
    device
        Where networks run.

    Returns
    -------
    LoopResult
        A table like Table 3 of the paper: student, student with test-time augmentation, retrained student, teacher,
        and the fusion of the last two.
    """
    since = time.perf_counter()
    if data_root is None and recipes.teacher.data.scene is not None:
        data_root = workspace / "demo-data"  # what is drawn belongs to the results
    hardware = Hardware(device=device)

    def trained(recipe: Recipe, init: Path | None = None, pseudo: Path | None = None) -> Path:
        folder = run_folder(workspace, recipe.name)
        begun = begun_run(folder, recipe, training_inputs(recipe, init, pseudo))
        if begun is False:
            talk.say(f"{folder} was trained from something else: training again")
        run = train(
            recipe,
            folder,
            data_root=data_root,
            init=init,
            pseudo_labels=pseudo,
            resume=begun is True,
            force=begun is False,
            device=device,
            talk=talk,
        )
        return run.last

    def predicted(checkpoint: Path, *, tta: bool = True) -> Path:
        return predict_split(
            checkpoint, "val", workspace=workspace, data_root=data_root, tta=tta, hardware=hardware, talk=talk
        ).store

    teacher = trained(recipes.teacher)
    student = trained(recipes.student)
    pseudo = pseudo_label(
        [teacher, student],
        workspace=workspace,
        data_root=data_root,
        tta=True,
        percentile=percentile,
        hardware=hardware,
        talk=talk,
    )
    retrained = trained(recipes.retrain, init=student, pseudo=pseudo.store)
    stores = {
        "student": predicted(student, tta=False),
        "student + TTA": predicted(student),
        "retrained + TTA": predicted(retrained),
        "teacher + TTA": predicted(teacher),
    }
    fused = ensemble([stores["retrained + TTA"], stores["teacher + TTA"]], workspace=workspace, talk=talk)
    stores["ensemble"] = fused
    rows = tuple(ScoreRow(name, _scores(store, workspace, data_root)) for name, store in stores.items())
    home = workspace / f"{recipes.name}-loop"
    pictures = home / "pictures"
    draw_pictures(fused, pictures, data_root=data_root, videos=2, frames=2, talk=talk)
    result = LoopResult(rows, stores, pseudo.report.share, pictures, home / "table.md", time.perf_counter() - since)
    write_text(result.table, markdown_table(*score_table(rows, METRICS)) + "\n")
    write_text(home / "table.json", json.dumps(result.to_json(), indent=1) + "\n")
    return result


def _scores(store: Path, workspace: Path, data_root: Path | None) -> dict[str, float]:
    figures = evaluate(
        workspace=workspace, prediction=store, data_root=data_root, metrics=METRICS, protocol="vspw"
    ).figures
    return {metric: figures.value(metric) for metric in METRICS}
