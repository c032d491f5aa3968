"""``vss recipe``: list, show, copy, validate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vsscli.cli.app import run
from vsscli.recipes.find import shipped_folder, shipped_recipes
from vsscli.recipes.load import load_pipeline, load_recipe


def test_ls_names_every_shipped_recipe_and_says_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "ls", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == list(shipped_recipes())
    assert all(row["about"] and not row["about"].startswith("vss ") for row in rows)


def test_show_prints_what_reads_back_to_the_same_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", "show", "camvid/student", "--set", "train.precision=16"]) == 0
    (tmp_path / "a.yaml").write_text(capsys.readouterr().out)
    assert load_recipe(tmp_path / "a.yaml") == load_recipe("camvid/student", ["train.precision=16"])


def test_a_copy_works_from_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "own" / "mine.yaml"
    assert run(["recipe", "cp", "demo/student", str(copy)]) == 0
    assert load_recipe(copy) == load_recipe("demo/student")
    assert run(["recipe", "cp", "demo/student", str(copy)]) == 2
    assert "already exists" in capsys.readouterr().err
    assert run(["recipe", "cp", "demo/student", str(copy), "--force"]) == 0


def test_a_copied_pipeline_finds_its_base_and_its_stages(tmp_path: Path) -> None:
    copy = tmp_path / "own" / "mine.yaml"
    assert run(["recipe", "cp", "tiny/pvuw2024", str(copy)]) == 0
    assert load_pipeline(copy) == load_pipeline("tiny/pvuw2024")
    assert run(["recipe", "validate", str(copy)]) == 0


def test_a_copy_takes_along_what_it_is_made_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    (shelf / "below").mkdir(parents=True)
    (shelf / "base.yaml").write_text("name: p\nstages:\n  t: {do: train, recipe: below/t.yaml}\n")
    student = shipped_folder() / "demo" / "student.yaml"
    (shelf / "below" / "t.yaml").write_text(f"extends: {student}\nname: t\n")
    (shelf / "main.yaml").write_text("extends: base.yaml\nname: q\n")
    assert run(["recipe", "cp", str(shelf / "main.yaml"), str(tmp_path / "new")]) == 0
    new = tmp_path / "new"
    made = sorted(str(path.relative_to(new)) for path in new.rglob("*.yaml"))
    assert made == ["base.yaml", "below/t.yaml", "main.yaml"]
    assert "extends: recipes/demo/student.yaml\n" in (new / "below" / "t.yaml").read_text()
    assert run(["recipe", "validate", str(new / "main.yaml")]) == 0


def test_a_copy_is_not_called_as_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "base.yaml").write_text("name: base\n")
    (tmp_path / "main.yaml").write_text("extends: base.yaml\nname: main\n")
    assert run(["recipe", "cp", str(tmp_path / "main.yaml"), str(tmp_path / "new" / "base.yaml")]) == 2
    assert "which needs" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_validate_names_all_that_is_wrong_and_exits_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe, stage = tmp_path / "pipe.yaml", tmp_path / "t.yaml"
    stage.write_text(f"name: t\ndata: {{root: {tmp_path}}}\nmodel:\n  pretrained: far.pth\ntrain:\n  init: far.pt\n")
    pipe.write_text(
        "name: p\nstages:\n  t:\n    do: train\n    recipe: t.yaml\n    set:\n      seed: no\n"
        "  u: {do: train, recipe: t.yaml}\n  v: {do: train, recipe: gone.yaml}\n"
    )
    assert run(["recipe", "validate", str(pipe)]) == 2
    captured = capsys.readouterr()
    lines = captured.out.replace(f"{tmp_path}/", "").splitlines()
    assert lines[:3] == [
        "pipe.yaml:7: seed: should be a whole number, not false",
        "t.yaml:4: model.pretrained: no such file or folder: far.pth",
        "t.yaml:6: train.init: no such file or folder: far.pt",
    ]
    assert lines[3].startswith("pipe.yaml:9: stages.v.recipe: no recipe gone.yaml")
    assert "4 faults in 1 of 1 recipes" in captured.err


def test_validate_without_files_asks_for_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("name: t\ndata: {root: gone}\ntrain: {init: far.pt}\n")
    assert run(["recipe", "validate", str(path), "--no-files"]) == 0
    assert run(["recipe", "validate", str(path), "--json"]) == 2
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [fault["place"].rpartition(":")[2] for fault in told["faults"]] == ["3", "2"]
    assert told["valid"] is False


def test_files_under_a_data_sets_root_are_looked_for_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "classes.json").write_text("{}")
    path = tmp_path / "t.yaml"
    path.write_text(f"name: t\ndata:\n  root: {tmp_path}\n  classes: classes.json\n  labelled: few.txt\n")
    assert run(["recipe", "validate", str(path)]) == 2
    assert capsys.readouterr().out == f"{path}:5: data.labelled: no such file or folder: {tmp_path}/few.txt\n"


@pytest.mark.parametrize("arguments", [["show"], ["cp", "a"], ["ls", "a"], ["schema", "a"], ["ls", "--set", "a=1"]])
def test_the_wrong_number_of_names_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["recipe", *arguments]) == 2
    assert "vss recipe" in capsys.readouterr().err
