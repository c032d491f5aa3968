"""``vss run`` from the command line, interrupted and continued."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch
from cli_process import environment
from forked import Forked
from small import CHAIN, small_loop

from vsscli.cli import app
from vsscli.stages.record import read_stage_record

STAGES = ("student", "unlabelled", "pseudo", "again", "first", "second", "fused", "scores", "zip")


def kill_in(stage: str, recipe: Path, workspace: Path) -> bool:
    """Start a run, and kill it as no program can refuse once a stage has begun; tell whether it was in the middle."""
    record = workspace / "chain" / stage
    place = environment(OMP_NUM_THREADS=str(torch.get_num_threads()))
    process = Forked(["run", recipe, "--workspace", workspace, "--quiet"], workspace.parent, place)
    deadline = time.monotonic() + 300
    while (known := read_stage_record(record)) is None and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    known = read_stage_record(record) or known
    return known is not None and known.status == "begun"


def run(*arguments: str | Path) -> None:
    """The command in this process, to its end."""
    assert app.run(["run", *map(str, arguments)]) == 0


def zip_of(workspace: Path) -> bytes:
    return (workspace / "chain" / "zip" / "submission.zip").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_killed_in_each_stage_in_turn_the_same_line_ends_with_the_same_zip(tmp_path: Path) -> None:
    recipe = small_loop(tmp_path, CHAIN, steps=8)
    run(recipe, "--workspace", tmp_path / "whole")
    cut = [stage for stage in STAGES if kill_in(stage, recipe, tmp_path / "runs")]
    assert {"student", "unlabelled", "again", "first", "second"} <= set(cut)
    run(recipe, "--workspace", tmp_path / "runs")
    assert zip_of(tmp_path / "runs") == zip_of(tmp_path / "whole")
    assert not list((tmp_path / "runs").rglob("*.work"))
    assert not list((tmp_path / "runs").rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_a_run_that_is_killed_goes_on_to_the_same_zip_and_is_told_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_loop(tmp_path, CHAIN, steps=4)
    run(recipe, "--workspace", tmp_path / "whole", "--quiet")
    assert kill_in("student", recipe, tmp_path / "runs")
    capsys.readouterr()
    run(recipe, "--workspace", tmp_path / "runs", "--json", "--until", "zip")
    talk = capsys.readouterr()
    assert "student: continues after an interruption" in talk.err
    told = json.loads(talk.out)
    assert [stage["name"] for stage in told["stages"]] == list(STAGES)
    assert Path(told["table"]).read_text().startswith("| method |")
    assert zip_of(tmp_path / "runs") == zip_of(tmp_path / "whole")


def test_the_plan_is_printed_and_nothing_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(small_loop(tmp_path, CHAIN, steps=4), "--workspace", tmp_path / "runs", "--dry-run")
    plan = capsys.readouterr()
    lines = plan.out.splitlines()
    assert lines[0].split()[:4] == ["stage", "status", "why", "work"]
    assert "4 steps x 4 crops of 32x64" in lines[1]
    assert lines[-1].startswith("total")
    assert "--tflops N" in plan.err
    assert not (tmp_path / "runs").exists()


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small_loop(tmp_path, CHAIN.replace("of: fused}", "of: fusde}"))
    assert app.run(["run", str(recipe)]) == 2
    assert f"{recipe}:17: stages.zip.of: there is no stage 'fusde'; did you mean 'fused'?" in capsys.readouterr().err
    assert app.run(["run", str(small_loop(tmp_path, CHAIN)), "zap"]) == 2
    assert "has no stage 'zap'; did you mean 'zip'?" in capsys.readouterr().err
