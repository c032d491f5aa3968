"""Suggestions: names of other programs, misspelled keys, paths of recipes, missing options."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vsscli.cli.app import run


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(list(arguments)) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["cache", "list"], "did you mean 'ls'?"),
        (["recipe", "list"], "did you mean 'ls'?"),
        (["model", "list"], "did you mean 'ls'?"),
        (["recipe", "copy"], "did you mean 'cp'?"),
        (["recipe", "check"], "did you mean 'validate'?"),
        (["cache", "check"], "did you mean 'verify'?"),
        (["cache", "reapir"], "did you mean 'repair'?"),
        (["cache", "clean"], "did you mean 'gc'?"),
        (["trian"], "Did you mean 'train'?"),
        (["predict", "--precision", "b16"], "did you mean 'bf16'?"),
        (["train", "student", "--set", "train.step=5"], "did you mean `steps`?"),
        (["train", "student", "--set", "trian.steps=5"], "did you mean `train`?"),
        (["train", "student", "--set", "train.crop=5"], "it belongs under `model` or `augment`"),
        (["train", "student", "--set", "predict.steps=5"], "did you mean `step`?"),
    ],
)
def test_what_was_meant_is_said(capsys: pytest.CaptureFixture[str], arguments: list[str], meant: str) -> None:
    assert meant in refused(capsys, *arguments)


def test_nothing_is_suggested_where_nothing_is_near(capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean" not in refused(capsys, "cache", "xyzzy")


def test_recipes_of_ones_own_are_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for name in ("my-streets.yaml", "mine/rivers.yml"):
        (tmp_path / name).touch()
    assert "did you mean my-streets.yaml?" in refused(capsys, "train", "my-street.yaml")
    assert "did you mean my-streets.yaml?" in refused(capsys, "train", "mine/my-streets.yaml")
    assert "did you mean mine/rivers.yml?" in refused(capsys, "train", "mine/river.yaml")
    assert "yours are my-streets.yaml; give a YAML file" in refused(capsys, "train", "zzz.yaml")
    assert "did you mean recipes/student.yaml" in refused(capsys, "train", "studnt.yaml")


def test_a_recipe_needs_no_option_and_is_named_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []

    def load(source: str, overrides: list[str]) -> None:
        loaded.append((source, list(overrides)))
        raise KeyboardInterrupt

    monkeypatch.setattr("vsscli.recipes.load.load_recipe", load)
    for arguments in (
        ["a.yaml"],
        ["--recipe", "a.yaml"],
        ["a.yaml", "--set", "b=1", "c=2"],
        ["--set", "b=1", "c=2", "a.yaml"],
        ["--set", "b=1", "--resume", "a.yaml"],
    ):
        assert run(["train", *arguments]) == 130
    capsys.readouterr()
    assert [source for source, _ in loaded] == ["a.yaml"] * 5
    assert [overrides for _, overrides in loaded] == [[], [], ["b=1", "c=2"], ["b=1", "c=2"], ["b=1"]]
    assert "two recipes" in refused(capsys, "train", "a.yaml", "--recipe", "b.yaml")
    assert "no recipe" in refused(capsys, "train")
    assert "not of the form KEY=VALUE" in refused_without_loading(capsys, monkeypatch)


def refused_without_loading(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.undo()
    return refused(capsys, "train", "student", "--set", "train.steps")
