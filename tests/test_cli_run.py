"""``vss run`` as people type it, cut off in the middle, and gone on with."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_process import environment, vss
from small import CHAIN, small_loop

from vsscli.pipeline.record import read_record

STAGES = ("student", "unlabelled", "pseudo", "again", "first", "second", "fused", "scores", "zip")


def kill_in(stage: str, recipe: Path, workspace: Path) -> bool:
    """Start a run, and kill it as no program can refuse once a stage has begun; tell whether it was in the middle."""
    record = workspace / "chain" / stage
    process = subprocess.Popen(
        [sys.executable, "-m", "vsscli", "run", str(recipe), "--workspace", str(workspace), "--quiet"],
        env=environment(OMP_NUM_THREADS="1"),
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while (known := read_record(record)) is None and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    known = read_record(record) or known
    return known is not None and known.status == "begun"


def finish(recipe: Path, workspace: Path) -> bytes:
    done = vss("run", recipe, "--workspace", workspace, cwd=recipe.parent, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    return (workspace / "chain" / "zip" / "submission.zip").read_bytes()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_killed_in_each_stage_in_turn_the_same_line_ends_with_the_same_zip(tmp_path: Path) -> None:
    recipe = small_loop(tmp_path, CHAIN, steps=8)
    undisturbed = finish(recipe, tmp_path / "whole")
    cut = [stage for stage in STAGES if kill_in(stage, recipe, tmp_path / "runs")]
    assert {"student", "unlabelled", "again", "first", "second"} <= set(cut)
    assert finish(recipe, tmp_path / "runs") == undisturbed
    assert not list((tmp_path / "runs").rglob("*.work"))
    assert not list((tmp_path / "runs").rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="kills")
def test_a_run_is_planned_killed_finished_and_told_as_json(tmp_path: Path) -> None:
    recipe = small_loop(tmp_path, CHAIN, steps=4)
    runs = tmp_path / "runs"
    line = ("run", recipe, "--workspace", runs)
    plan = vss(*line, "--dry-run", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert plan.returncode == 0, plan.stderr
    assert plan.stdout.splitlines()[0].split()[:4] == ["stage", "status", "why", "work"]
    assert "4 steps x 4 crops of 48x64" in plan.stdout
    assert "give --tflops N" in plan.stderr
    assert not runs.exists()
    assert kill_in("student", recipe, runs)
    kept = tmp_path / "kept"
    shutil.copytree(runs, kept)
    done = vss(*line, "--json", "--until", "zip", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    assert "student: was interrupted and goes on" in done.stderr
    told = json.loads(done.stdout)
    assert told["command"].startswith("vss run ")
    assert [stage["name"] for stage in told["stages"]] == list(STAGES)
    assert Path(told["table"]).read_text().startswith("| method |")
    other = vss("run", recipe, "zip", "--workspace", kept, "--quiet", cwd=tmp_path, OMP_NUM_THREADS="1")
    assert other.returncode == 0, other.stderr
    zips = [(place / "chain/zip/submission.zip").read_bytes() for place in (runs, kept)]
    assert zips[0] == zips[1]


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path) -> None:
    recipe = small_loop(tmp_path, CHAIN.replace("of: fused}", "of: fusde}"))
    done = vss("run", recipe, cwd=tmp_path)
    assert done.returncode == 2
    assert f"{recipe}:17: stages.zip.of: there is no stage 'fusde'; did you mean 'fused'?" in done.stderr
    unknown = vss("run", small_loop(tmp_path, CHAIN), "zap", cwd=tmp_path)
    assert unknown.returncode == 2
    assert "has no stage 'zap'; did you mean 'zip'?" in unknown.stderr
