"""The recipe of a pipeline's stage: found, changed by the stage, and blamed on the right line."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsscli.errors import VssError
from vsscli.models.light.config import LightModel
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.recipes.compose import read_recipe
from vsscli.recipes.load import load_pipeline, stage_document, stage_recipe
from vsscli.recipes.pipeline import TrainStage
from vsscli.recipes.schema import Recipe

OWN = "name: own\ntrain:\n  steps: 5\n  lr: 0.1\nmodel:\n  channels: 32\npredict:\n  window: [64, 64]\n"


def recipe_of(tmp_path: Path, stage: str, recipe: str = OWN, holdout: str | None = None) -> Recipe:
    (tmp_path / "own.yaml").write_text(recipe)
    path = tmp_path / "pipe.yaml"
    path.write_text(f"name: pipe\nstages:\n  one:\n    do: train\n    recipe: own.yaml\n{stage}")
    one = load_pipeline(path).stages["one"]
    assert isinstance(one, TrainStage)
    return stage_recipe(path, one, holdout)


def message_of(tmp_path: Path, stage: str, recipe: str = OWN, holdout: str | None = None) -> str:
    with pytest.raises(VssError) as caught:
        recipe_of(tmp_path, stage, recipe, holdout)
    return caught.value.message.replace(f"{tmp_path}/", "")


def test_what_a_stage_sets_may_be_dotted_or_nested_and_merges(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "    set:\n      train.steps: 7\n      train:\n        precision: 16\n")
    assert (recipe.train.steps, recipe.train.lr, recipe.train.precision) == (7, 0.1, "16")
    assert recipe.model == LightModel(channels=32)


def test_the_later_entry_wins(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "    set:\n      train.steps: 7\n      train: {steps: 9}\n")
    assert recipe.train.steps == 9


def test_null_takes_back_what_the_recipe_says(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "    set: {train.lr: null, predict.window: null, model: null}\n")
    assert (recipe.train.lr, recipe.train.steps, recipe.predict.window) == (1e-4, 5, None)
    assert recipe.model == LightModel()


def test_another_family_keeps_nothing_of_the_first(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "    set:\n      model: {family: mask2former, backbone: swin_l}\n")
    assert recipe.model == Mask2FormerModel(family="mask2former", backbone="swin_l")


def test_faults_name_the_line_where_the_value_stands(tmp_path: Path) -> None:
    lines = message_of(tmp_path, "    set:\n      train.lr: no\n", OWN + "augment:\n  corp: [1, 2]\n").splitlines()
    assert lines[1:] == [
        "  own.yaml:10: augment.corp: unknown key; did you mean `crop`?",
        "  pipe.yaml:7: train.lr: should be a number, not false",
    ]


def test_a_recipe_that_is_not_there_is_named_with_the_pipelines_line(tmp_path: Path) -> None:
    path = tmp_path / "pipe.yaml"
    path.write_text("name: pipe\nstages:\n  one: {do: train, recipe: techer.yaml}\n")
    stage = load_pipeline(path).stages["one"]
    assert isinstance(stage, TrainStage)
    with pytest.raises(VssError, match=r"pipe\.yaml:3: stages\.one\.recipe: no recipe techer\.yaml") as caught:
        stage_recipe(path, stage)
    assert "recipes/teacher.yaml" in caught.value.hint


def test_a_pipeline_is_no_stages_recipe(tmp_path: Path) -> None:
    assert message_of(tmp_path, "", "stages: {}\n").startswith("pipe.yaml:5: own.yaml is a pipeline")


def test_a_base_pipelines_recipe_lies_beside_the_base(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "own.yaml").write_text(OWN)
    (tmp_path / "base" / "pipe.yaml").write_text("name: pipe\nstages:\n  one: {do: train, recipe: own.yaml}\n")
    path = tmp_path / "variant.yaml"
    path.write_text("extends: base/pipe.yaml\nstages:\n  one:\n    set: {train.steps: 3}\n")
    stage = load_pipeline(path).stages["one"]
    assert isinstance(stage, TrainStage)
    assert stage_recipe(path, stage).train.steps == 3


def test_a_stage_that_was_changed_on_the_command_line_is_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN)
    path = tmp_path / "pipe.yaml"
    path.write_text("name: pipe\nstages:\n  one: {do: train, recipe: own.yaml}\n")
    stage = load_pipeline(path, ["stages.one.set.train.steps=2"]).stages["one"]
    assert isinstance(stage, TrainStage)
    assert stage_recipe(path, stage).train.steps == 2


def test_nothing_is_left_without_the_split_that_is_held_out(tmp_path: Path) -> None:
    recipe_of(tmp_path, "", OWN + "data:\n  train: train\n", "val")
    message = message_of(tmp_path, "", OWN + "data:\n  train: val\n", "val")
    assert message == "own.yaml:10: data.train: nothing is left without val, which is held out"


def test_the_split_that_is_held_out_is_taken_from_several(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\ndata:\n  train: [train, val]\n")
    path = tmp_path / "pipe.yaml"
    path.write_text("name: pipe\nstages:\n  one: {do: train, recipe: own.yaml}\n")
    stage = TrainStage(do="train", recipe="own.yaml")
    document, _ = stage_document(path, read_recipe(path), stage, "val")
    assert document.values["data"]["train"] == ["train"]
