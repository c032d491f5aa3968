"""A recipe that trains in seconds, and ways to run ``vss`` as a user does."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.models.build import build_network
from vsscli.models.checkpoints import Checkpoint, save_checkpoint
from vsscli.recipes.readout import Predict
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Unlabelled
from vsscli.talk import SILENCE, Talk
from vsscli.training import run
from vsscli.training.begun import TrainResult
from vsscli.training.objectives import labels, pseudo_labels
from vsscli.training.set_prediction import SetPredictionSettings

SCENE = {"videos": 2, "unlabelled_videos": 2, "val_videos": 1, "frames": 6, "size": [48, 64]}


def small_recipe(root: Path, name: str = "small", **train: object) -> Recipe:
    """A recipe on drawn videos under ``root``; ``train`` overrides its training section."""
    return Recipe.model_validate(
        {
            "name": name,
            "data": {
                "name": "street",
                "root": str(root),
                "classes": "classes.json",
                "unlabelled": ["unlabelled"],
                "scene": SCENE,
            },
            "model": {"encoder": "test_resnet", "channels": 16, "pretrained": "none", "dropout": 0.1},
            "augment": {"crop": [32, 64], "scale": [0.75, 1.5]},
            "train": {
                "steps": 6,
                "batch_size": 4,
                "lr": 1e-3,
                "workers": 0,
                "threads": 1,
                "log_every": 1,
                "checkpoint_every": 2,
                **train,
            },
        }
    )


def with_scene(recipe: Recipe, **changes: object) -> Recipe:
    """The recipe with other drawn videos."""
    scene = recipe.data.scene
    assert scene is not None
    data = recipe.data.model_copy(update={"scene": scene.model_copy(update=changes)})
    return recipe.model_copy(update={"data": data})


def write_network(path: Path, recipe: Recipe, seed: int = 0) -> Path:
    """The checkpoint of a small network that was never trained; draws the recipe's videos."""
    torch.manual_seed(seed)
    config = {"family": "light", "encoder": "test_efficientnet", "channels": 16, "pretrained": "none"}
    table = open_dataset(recipe.data).table
    network = build_network(config, table.num_classes, load_pretrained=False)
    facts = (table, network.normalisation, recipe.model_dump(mode="json"), {}, 0)
    save_checkpoint(path, Checkpoint(config, dict(network.state_dict()), *facts))
    return path


def train(
    recipe: Recipe,
    out: Path,
    *,
    data_root: Path | None = None,
    device: str = "auto",
    talk: Talk = SILENCE,
    **options: Any,
) -> TrainResult:
    """Train a recipe into a folder, whose parent is the workspace."""
    return run.train(recipe, out, context=Context(out.parent, data_root, device, talk=talk), **options)


def compare_few_points(patch: pytest.MonkeyPatch) -> None:
    """Let training compare masks at half as many points as a crop has pixels here; usual are six times as many, on
    which mask classifiers this small would spend most of their time."""
    for module in (labels, pseudo_labels):
        patch.setattr(module, "SetPredictionSettings", partial(SetPredictionSettings, points=1000))


def read_journal(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's journal."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """A recipe as a file for the command line."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    return path


LOOP = """
name: small
stages:
  teacher: {do: train, recipe: teacher.yaml}
  student: {do: train, recipe: student.yaml}
  teacher-unlabelled: {do: predict, model: teacher, split: unlabelled}
  student-unlabelled: {do: predict, model: student, split: unlabelled}
  fused: {do: ensemble, of: [teacher-unlabelled, student-unlabelled]}
  pseudo: {do: pseudo, of: fused, percentile: 80}
  retrained: {do: train, recipe: again.yaml, init: student, pseudo: pseudo}
  student-plain: {do: predict, model: student, tta: false}
  student-val: {do: predict, model: student}
  retrained-val: {do: predict, model: retrained}
  teacher-val: {do: predict, model: teacher}
  ensemble: {do: ensemble, of: [retrained-val, teacher-val]}
  scores:
    do: eval
    rows:
      - {name: student, of: student-plain}
      - {name: student + TTA, of: student-val}
      - {name: retrained + TTA, of: retrained-val}
      - {name: teacher + TTA, of: teacher-val}
      - {name: ensemble, of: ensemble}
  pictures: {do: show, of: ensemble}
"""
"""The stages of the demo."""

CHAIN = """
name: chain
stages:
  student: {do: train, recipe: student.yaml}
  unlabelled: {do: predict, model: student, split: unlabelled}
  pseudo: {do: pseudo, of: unlabelled, percentile: 80}
  again: {do: train, recipe: again.yaml, init: student, pseudo: pseudo}
  first: {do: predict, model: student}
  second: {do: predict, model: again}
  fused: {do: ensemble, of: [first, second]}
  scores:
    do: eval
    metrics: [miou, vc8]
    rows:
      - {name: student, of: first, paper: {miou: 61.5, VC8: 92.1}, note: "server"}
      - {name: fused, of: fused}
  zip: {do: submit, of: fused}
  more: {do: show, of: fused, optional: true}
  page: {do: report, of: [first, fused], optional: true}
"""
"""One stage of each kind."""


def small_loop(folder: Path, stages: str = LOOP, **train: object) -> Path:
    """A pipeline, and the recipes of its stages, in a folder."""
    for seed, name in enumerate(("teacher", "student", "again")):
        recipe = small_recipe(folder / "data", name, **train).model_copy(
            update={"predict": Predict(tta="flip"), "seed": seed}
        )
        if name == "again":
            recipe = recipe.model_copy(update={"unlabelled": Unlabelled(batch_size=2)})
        write_recipe(folder / f"{name}.yaml", recipe)
    path = folder / "loop.yaml"
    path.write_text(stages)
    return path
