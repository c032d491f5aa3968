"""The training runs of a workspace, listed, shown and compared; and the time that a pipeline still takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluation_samples import refusal
from small import small_recipe, train

from vsscli.cli.app import run
from vsscli.pipeline.runs import differing, find_run, find_runs
from vsscli.stages.cost import time_left
from vsscli.stages.record import Record


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a few steps, one below a pipeline, and one that was killed before its first checkpoint."""
    home = tmp_path_factory.mktemp("home")
    train(small_recipe(home / "data", "student", steps=2), home / "runs" / "student")
    train(small_recipe(home / "data", "slow", steps=3, lr=5e-4), home / "runs" / "loop" / "slow")
    (home / "runs" / "dead").mkdir()
    (home / "runs" / "dead" / "journal.jsonl").write_text('{"step": 1, "loss": 4.0}\n{"step": 2, "lo')
    return home / "runs"


def test_runs_are_found_with_their_last_figures(workspace: Path) -> None:
    runs = {one.name: one for one in find_runs(workspace)}
    assert set(runs) == {"student", "loop/slow", "dead"}
    student = runs["student"]
    assert (student.status, student.step, student.steps) == ("done", 2, 2)
    lines = [json.loads(line) for line in (student.path / "journal.jsonl").read_text().splitlines()]
    assert student.figures["miou"] == [line["miou"] for line in lines if "miou" in line][-1]
    assert student.curves["loss"] == [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert (runs["dead"].status, runs["dead"].step, runs["dead"].steps) == ("unfinished", 1, None)
    assert runs["dead"].figures == {"loss": 4.0}


def test_runs_are_named_by_folder_or_its_last_part(workspace: Path) -> None:
    assert find_run(workspace, "slow").name == "loop/slow"
    assert find_run(workspace, str(workspace / "dead")).name == "dead"
    assert "student" in refusal(lambda: find_run(workspace, "teacher")).hint


def test_settings_that_differ_are_those_of_the_recipes(workspace: Path) -> None:
    found = dict(differing([find_run(workspace, "student"), find_run(workspace, "slow")]))
    assert found == {"train.steps": [2, 3], "train.lr": [1e-3, 5e-4]}


def test_what_a_recipe_lacks_is_compared_key_by_key(workspace: Path) -> None:
    slow = find_run(workspace, "slow")
    sections: list[dict[str, object]] = [
        {"unlabelled": {"weight": 2.0, "contrast": {"banks": [0, 4]}, "mixing": None}},
        {"unlabelled": None},
        {"name": "other"},
    ]
    found = differing([replace(slow, recipe=recipe) for recipe in sections])
    assert found == [("unlabelled.weight", [2.0, None, None]), ("unlabelled.contrast.banks", [[0, 4], None, None])]


def test_a_name_in_place_of_a_section_is_shown_beside_it(workspace: Path) -> None:
    slow, scales = find_run(workspace, "slow"), {"scales": [1.0, 1.5], "flip": True}
    plans: list[object] = ["paper", scales, None]
    found = differing([replace(slow, recipe={"predict": {"tta": plan}}) for plan in plans])
    assert found == [("predict.tta", plans)]


def test_the_command_lists_shows_and_compares(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--workspace", str(workspace), "--quiet"]
    assert run(["runs", "ls", *place]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["run", "status", "steps", "mIoU", "VC8", "loss", "changed"]
    assert "loop/slow  done" in out
    assert run(["runs", "ls", *place, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["runs"]) == 3
    assert run(["runs", "show", "student", *place]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[0] == "2"
    assert run(["runs", "compare", "student", "slow", *place]) == 0
    out = capsys.readouterr().out
    assert "train.lr" in out
    assert "loss supervised" in out
    assert not any(line.split()[:1] in (["lr"], ["GRADIENT_SUPERVISED"]) for line in out.splitlines())
    assert run(["runs", "compare", "student", *place]) == 2
    assert run(["runs", "ls", "--workspace", str(workspace / "none"), "--quiet"]) == 2


def test_the_time_left_follows_from_finished_stages() -> None:
    records = [Record("done", {}, seconds=10.0, flops=1e9), Record("done", {}, seconds=None, flops=1e12)]
    assert time_left([3e9, 3e9], records) == "about 1 min 00 s left for all"
    assert time_left([3e9, None], records) == "at least 30 s left for all"
    assert time_left([3e9], []) == ""
    assert time_left([0.0], records) == ""
