"""Recipes are found, read and checked; all faults are reported at once, with their lines."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from vsscli.data.trees import TREES
from vsscli.errors import VssError
from vsscli.models.catalogue import FAMILIES, name_of
from vsscli.models.light.config import LightModel
from vsscli.models.mmseg.config import MmsegModel
from vsscli.recipes.find import find_recipe, shipped_recipes
from vsscli.recipes.load import (
    load_any,
    load_recipe,
    recipe_from_dict,
)


def one_of(names: Iterable[str]) -> str:
    """The names as an error lists them."""
    *others, last = (f"'{name}'" for name in names)
    return f"{', '.join(others)} or {last}"


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\ntrain:\n  steps: 5\n  lr: 1e-4\n  precision: 16\naugment:\n  crop: [64, 96]\n")
    return path


def faults_of(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    """The lines of a recipe's error, without the folder."""
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(VssError) as caught:
        load_recipe(path, overrides)
    return [line.strip() for line in caught.value.message.replace(f"{tmp_path}/", "").splitlines()]


def test_a_recipe_is_read_and_completed(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file)
    assert recipe.train.steps == 5
    assert recipe.train.lr == 1e-4
    assert recipe.train.precision == "16"  # YAML reads a number where a word is meant
    assert recipe.augment.crop == (64, 96)
    assert recipe.train.betas == (0.9, 0.999)


def test_overrides_replace_single_values(recipe_file: Path) -> None:
    recipe = load_recipe(
        recipe_file,
        ["train.steps=9", "augment.crop=[32, 32]", "predict.tta={scales: [1, 2]}", "unlabelled.weight=0.5", "seed=3"],
    )
    assert (recipe.train.steps, recipe.seed, recipe.augment.crop) == (9, 3, (32, 32))
    assert recipe.unlabelled is not None
    assert recipe.unlabelled.weight == 0.5
    assert not isinstance(recipe.predict.tta, str)
    assert recipe.predict.tta.scales == (1.0, 2.0)
    assert recipe.train.lr == 1e-4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ntrain:\n  stesp: 5\n", "a.yaml:3: train.stesp: unknown key; did you mean `steps`?"),
        ("name: a\nsteps: 5\n", "a.yaml:2: steps: unknown key; it belongs under `train`"),
        ("name: a\nsed: 5\n", "a.yaml:2: sed: unknown key; did you mean `seed`?"),
        ("name: a\nstore:\n  xyzzy: 5\n", "a.yaml:3: store.xyzzy: unknown key (known: grid, kept, keep, drop)"),
        ("seed: 1\n", "recipe a.yaml: name: is missing"),
        ("name: a\ntrain:\n  steps: many\n", 'a.yaml:3: train.steps: should be a whole number, not "many"'),
        ("name: a\ntrain:\n  steps: '5'\n", 'a.yaml:3: train.steps: should be a whole number, not "5"'),
        ("name: a\ntrain:\n  steps: yes\n", "a.yaml:3: train.steps: should be a whole number, not true"),
        ("name: a\ntrain:\n  steps: 5.5\n", "a.yaml:3: train.steps: should be a whole number, not 5.5"),
        ("name: a\ntrain:\n  lr: -1\n", "a.yaml:3: train.lr: should be greater than 0, not -1"),
        ("name: a\ntrain: 3\n", "a.yaml:2: train: should be a section with keys, not 3"),
        ("name: a\nmodel:\n  frozen_norm: 1\n", "a.yaml:3: model.frozen_norm: should be true or false, not 1"),
        (
            "name: a\nmodel:\n  family: heavy\n",
            f'a.yaml:3: model.family: should be {one_of(map(name_of, FAMILIES))}, not "heavy"',
        ),
        ("name: a\nmodel:\n  family: mmseg\n  config: a.py\n", "a.yaml:2: model.checkpoint: is missing"),
        (
            "name: a\nmodel:\n  family: mmseg\n  config: a.py\n  checkpoint: a.pth\n  chekpoint: b.pth\n",
            "a.yaml:6: model.chekpoint: unknown key; did you mean `checkpoint`?",
        ),
        (
            "name: a\nmodel:\n  config: a.py\n",
            "a.yaml:3: model.config: unknown key (known: family, licence, encoder, channels, dropout, drop_path, "
            "pretrained, frozen_norm)",
        ),
        ("name: a\naugment:\n  crop: 480\n", "a.yaml:3: augment.crop: should be a list, not 480"),
        ("name: a\naugment:\n  crop: [1, 2, 3]\n", "a.yaml:3: augment.crop: should have at most 2 items, not 3"),
        ("name: a\naugment:\n  crop: [1, x]\n", 'a.yaml:3: augment.crop.1: should be a whole number, not "x"'),
        (
            "name: a\ndata:\n  layout: vsp\n",
            f'a.yaml:3: data.layout: should be {one_of([*TREES, "images"])}, not "vsp"; did you mean `vspw`?',
        ),
        (
            "name: a\naugment:\n  scale: [-1, 0.5]\n",
            "a.yaml:3: augment.scale.0: should be greater than 0, not -1",
        ),
        (
            "name: a\naugment:\n  scale: [2.0, 0.5]\n",
            "a.yaml:2: augment: scale should be a range with the lower end first, not [2.0, 0.5]",
        ),
        ("name: a\ntrain:\n  betas: [1.0, 0.999]\n", "a.yaml:3: train.betas.0: should be less than 1, not 1.0"),
        (
            "name: a\nunlabelled:\n  teacher: ema\n  pseudo_labels: p.zarr\n",
            "a.yaml:2: unlabelled: with teacher ema, pseudo_labels p.zarr would not be used; leave it "
            "out, or set teacher to store",
        ),
        ("name: a\nstore:\n  grid: 3\n", "a.yaml:3: store.grid: should be 1, 2 or 4, not 3"),
        (
            "name: a\npredict:\n  tta: often\n",
            "a.yaml:3: predict.tta: should be 'paper', 'flip' or 'none', not \"often\"",
        ),
        (
            "name: a\npredict:\n  tta:\n    flp: true\n",
            "a.yaml:4: predict.tta.flp: unknown key; did you mean `flip`?",
        ),
        (
            "name: a\npredict:\n  tta:\n    scales: [0]\n",
            "a.yaml:4: predict.tta.scales.0: should be greater than 0, not 0",
        ),
        (
            "name: a/b\n",
            "a.yaml:1: name: should consist of letters, digits, dots, dashes and underscores, and begin with a "
            'letter or digit, not "a/b"',
        ),
        (
            "name: a\ntrain:\n  steps: 5\n  warmup: 5\n",
            "recipe a.yaml: train.warmup (5) must be less than train.steps (5)",
        ),
    ],
)
def test_a_fault_is_named_with_its_line_and_what_would_be_right(tmp_path: Path, text: str, expected: str) -> None:
    assert faults_of(tmp_path, text)[0] in (expected, expected.replace("recipe a.yaml:", "a.yaml:1:"))


def test_the_family_decides_what_a_model_may_say(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("name: a\nmodel: {family: mmseg, config: a.py, checkpoint: a.pth}\n")
    assert load_recipe(path).model == MmsegModel(family="mmseg", config="a.py", checkpoint="a.pth")
    path.write_text("name: a\nmodel: {channels: 64}\n")
    assert load_recipe(path).model == LightModel(channels=64)


def test_all_faults_are_named_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    lines = faults_of(tmp_path, "name: a\nsed: 1\ntrain:\n  lr: no\n  steps: 0\nstore: []\ndata:\n  void_ids: [x]\n")
    assert lines[0] == "recipe a.yaml has 5 faults"
    assert [line.split(": ")[1] for line in lines[1:]] == ["sed", "train.lr", "train.steps", "store", "data.void_ids.0"]
    assert [line.split(": ")[0] for line in lines[1:]] == [f"a.yaml:{number}" for number in (2, 4, 5, 6, 8)]


def test_a_fault_in_an_override_is_named_by_the_override(tmp_path: Path) -> None:
    assert faults_of(tmp_path, "name: a\n", "train.stesp=4") == [
        "--set train.stesp=4: train.stesp: unknown key; did you mean `steps`?"
    ]


@pytest.mark.parametrize("override", ["train.steps", "=3", "train..steps=3", "train.steps=[1", "name.first=x"])
def test_an_override_of_the_wrong_form_is_refused(tmp_path: Path, override: str) -> None:
    assert faults_of(tmp_path, "name: a\n", override)[0].startswith(f"--set {override}: ")


@pytest.mark.parametrize(("text", "word"), [("", "empty"), ("# nothing\n", "empty"), ("- a\n", "key: value")])
def test_what_holds_no_keys_is_refused(tmp_path: Path, text: str, word: str) -> None:
    assert word in faults_of(tmp_path, text)[0]


def test_shipped_recipes_are_valid_and_found_by_name_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = shipped_recipes()
    assert {"teacher", "student"} <= set(names)
    for name, path in names.items():
        load_any(path)
        for spelling in (name, f"{name}.yaml", f"recipes/{name}.yaml", Path("recipes") / f"{name}.yaml"):
            assert find_recipe(spelling) == path


def test_a_file_of_ones_own_goes_before_a_shipped_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "teacher.yaml").write_text("name: mine\n")
    assert load_recipe("recipes/teacher.yaml").name == "mine"


def test_a_missing_recipe_names_the_nearest() -> None:
    with pytest.raises(VssError, match=r"no recipe recipes/techer\.yaml") as caught:
        load_recipe("recipes/techer.yaml")
    assert "recipes/teacher.yaml" in caught.value.hint


def test_a_path_from_the_root_never_means_a_shipped_recipe(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="no recipe"):
        load_recipe(tmp_path / "teacher")


def test_a_folder_is_no_recipe_but_names_those_in_it(recipe_file: Path) -> None:
    with pytest.raises(VssError, match="is a folder") as caught:
        load_recipe(recipe_file.parent)
    assert str(recipe_file) in caught.value.hint


def test_a_recipe_survives_the_way_into_a_checkpoint(recipe_file: Path) -> None:
    recipe = load_recipe(recipe_file, ["predict.tta={scales: [0.5, 1], flip: true}"])
    text = json.dumps(recipe.model_dump(mode="json"))
    assert recipe_from_dict(json.loads(text), "the recipe inside t.pt") == recipe


def test_a_recipe_in_a_checkpoint_of_another_version_is_refused() -> None:
    with pytest.raises(VssError) as caught:
        recipe_from_dict({"name": "a", "train": {"stepps": 3}}, "the recipe inside t.pt")
    assert caught.value.message == "the recipe inside t.pt: train.stepps: unknown key; did you mean `steps`?"
    with pytest.raises(VssError, match=r"the recipe inside t\.pt is not a recipe"):
        recipe_from_dict([], "the recipe inside t.pt")  # type: ignore[arg-type]
