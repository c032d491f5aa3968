"""One recipe extends another: merged key by key, every value with its position in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from vsscli.errors import VssError
from vsscli.models.light.config import LightModel
from vsscli.models.mmseg.config import MmsegModel
from vsscli.recipes.compose import MAX_DEPTH, read_recipe
from vsscli.recipes.load import load_pipeline, load_recipe

BASE = "name: base\ntrain:\n  steps: 5\n  lr: 0.1\naugment:\n  crop: [64, 96]\nmodel:\n  encoder: a\n  channels: 32\n"


def write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{next(reversed(texts))}.yaml"


def message_of(path: Path) -> str:
    with pytest.raises(VssError) as caught:
        load_recipe(path)
    return caught.value.message.replace(f"{path.parent}/", "")


def test_sections_are_merged_and_lists_and_values_replaced(tmp_path: Path) -> None:
    own = write(tmp_path, base=BASE, own="extends: base.yaml\nname: own\ntrain: {lr: 0.2}\naugment: {crop: [32, 32]}\n")
    recipe = load_recipe(own)
    assert (recipe.name, recipe.train.steps, recipe.train.lr, recipe.augment.crop) == ("own", 5, 0.2, (32, 32))
    assert "extends" not in read_recipe(own).values


def test_of_several_the_later_wins_and_the_file_itself_most(tmp_path: Path) -> None:
    own = write(
        tmp_path,
        one="name: one\nseed: 1\ntrain: {steps: 1, warmup: 0}\n",
        two="name: two\nseed: 2\ntrain: {steps: 2}\n",
        own="extends: [one.yaml, two.yaml]\nseed: 3\n",
    )
    recipe = load_recipe(own)
    assert (recipe.name, recipe.seed, recipe.train.steps) == ("two", 3, 2)


def test_what_is_said_counts_and_not_in_how_many_files(tmp_path: Path) -> None:
    own = write(tmp_path, base=BASE, own="extends: base.yaml\nseed: 4\n")
    assert load_recipe(own) == load_recipe(write(tmp_path, whole=f"{BASE}seed: 4\n"))


def test_null_takes_back_a_section_or_a_value(tmp_path: Path) -> None:
    own = write(tmp_path, base=BASE, own="extends: base.yaml\nmodel: null\ntrain: {lr: null}\n")
    recipe = load_recipe(own)
    assert (recipe.model, recipe.train.lr, recipe.train.steps) == (LightModel(), 1e-4, 5)


def test_null_is_a_value_where_there_can_be_none(tmp_path: Path) -> None:
    base = "name: base\nunlabelled: {contrast: {keys: 9}}\n"
    own = write(tmp_path, base=base, own="extends: base.yaml\nunlabelled: {contrast: {keys: null}}\n")
    recipe = load_recipe(own)
    assert recipe.unlabelled is not None
    assert recipe.unlabelled.contrast is not None
    assert recipe.unlabelled.contrast.keys is None  # all, and not the default of 512


def test_another_family_keeps_nothing_of_the_bases_network(tmp_path: Path) -> None:
    other = "extends: base.yaml\nmodel: {family: mmseg, config: a.json, checkpoint: a.pth}\n"
    own = write(tmp_path, base=BASE, own=other)
    assert load_recipe(own).model == MmsegModel(family="mmseg", config="a.json", checkpoint="a.pth")
    same = write(tmp_path, same="extends: base.yaml\nmodel: {family: light, channels: 8}\n")
    assert load_recipe(same).model == LightModel(encoder="a", channels=8)


def test_faults_name_the_file_in_which_the_value_stands(tmp_path: Path) -> None:
    own = write(tmp_path, base=BASE.replace("steps: 5", "stesp: 5"), own="extends: base.yaml\naugment:\n  crop: 3\n")
    assert [line.strip() for line in message_of(own).splitlines()[1:]] == [
        "base.yaml:3: train.stesp: unknown key; did you mean `steps`?",
        "own.yaml:3: augment.crop: should be a list, not 3",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: bse.yaml\n", "own.yaml:1: extends: no recipe bse.yaml"),
        ("name: a\nextends: own.yaml\n", "own.yaml:2: extends: in a circle, own.yaml extends own.yaml"),
        ("extends: 5\n", "own.yaml:1: extends: should be a recipe or a list of recipes"),
        ("extends:\n- base.yaml\n- {a: 1}\n", "own.yaml:3: extends: should be a recipe or a list of recipes"),
    ],
)
def test_what_can_not_be_extended_is_refused_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert message_of(write(tmp_path, base=BASE, own=text)) == expected


def test_a_circle_of_several_files_is_refused(tmp_path: Path) -> None:
    own = write(tmp_path, a="extends: b.yaml\n", b="extends: c.yaml\n", c="extends: a.yaml\n")
    assert message_of(own) == "b.yaml:1: extends: in a circle, c.yaml extends a.yaml extends b.yaml extends c.yaml"


def test_a_tower_or_a_flood_of_files_is_refused(tmp_path: Path) -> None:
    tower = {f"a{n}": f"extends: a{n - 1}.yaml\n" for n in range(1, MAX_DEPTH + 2)}
    assert "recipes in a row" in message_of(write(tmp_path, a0=BASE, **tower))
    flood = {f"b{n}": f"extends: [{', '.join([f'b{n - 1}.yaml'] * 5)}]\n" for n in range(1, 5)}
    assert "32 in all" in message_of(write(tmp_path, b0=BASE, **flood))


def test_a_shipped_recipe_can_be_extended_by_name(tmp_path: Path) -> None:
    own = write(tmp_path, own="extends: demo/student\nname: mine\ntrain: {steps: 20}\n")
    assert load_recipe(own).data.name == "street"


def test_stages_are_merged_by_name_and_dropped_by_null(tmp_path: Path) -> None:
    base = (
        "name: p\nstages:\n  t: {do: train, recipe: a, set: {seed: 1}}\n  p: {do: predict, model: t, tta: false}\n"
        "  q: {do: predict, model: t}\n  s: {do: show, of: q}\n"
    )
    own = write(
        tmp_path,
        base=base,
        own="extends: base.yaml\nstages:\n  t: {set: {train.steps: 2}}\n  s: null\n  p: {do: pseudo, of: q}\n",
    )
    stages = load_pipeline(own).model_dump(exclude_defaults=True)["stages"]
    assert stages == {
        "t": {"do": "train", "recipe": "a", "set": {"seed": 1, "train.steps": 2}},
        "p": {"do": "pseudo", "of": "q"},
        "q": {"do": "predict", "model": "t"},
    }


def test_a_root_of_one_dot_is_the_folder_of_the_file_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ours", "theirs/deep"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "theirs/data.yaml").write_text("name: data\ndata: {root: .}\n")
    (tmp_path / "theirs/deep/student.yaml").write_text("extends: ../data.yaml\nname: student\n")
    monkeypatch.chdir(tmp_path / "ours")
    assert Path(load_recipe("../theirs/deep/student.yaml").data.root).samefile(tmp_path / "theirs")
    assert load_recipe("../theirs/data.yaml", ["data.root=."]).data.root == "."
    assert load_recipe("start/cpu").data.root == "."  # there is no data beside a shipped one
    monkeypatch.chdir(tmp_path / "theirs")
    assert load_recipe("deep/student.yaml").data.root == load_recipe("data.yaml").data.root == "."
