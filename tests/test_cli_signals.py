"""Signals and streams as terminals, schedulers and the system send and close them, to real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from cli_process import Running, lines_of, shell, vss
from small import small_recipe, train, write_recipe
from store_samples import distributions, prediction_header, write_predictions

from vsscli.cli.app import run
from vsscli.data.masks import write_mask
from vsscli.drawn.config import Scene
from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.workspace import find_stores
from vsscli.store.reader import open_store
from vsscli.store.verify import verify

STEPS = 100_000


class Training(Running):
    """``vss train`` with two loader processes."""

    def __init__(self, folder: Path, before: Sequence[str] = ()) -> None:
        recipe = small_recipe(folder / "data", steps=STEPS, workers=2, checkpoint_every=10, threads=1)
        self.out, path = folder / "run", write_recipe(folder / "recipe.yaml", recipe)
        super().__init__("train", "--recipe", path, "--out", self.out, cwd=folder, before=before)

    def wait_for(self, steps: int) -> None:
        self.wait_until(lambda: lines_of(self.out / "journal.jsonl") >= steps)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()]

    @property
    def step(self) -> int:
        return load_checkpoint(self.out / "last.pt", weights=False).step

    @property
    def trained(self) -> int:
        return int(json.loads((self.out / "journal.jsonl").read_text().splitlines()[-1])["step"])


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Training]:
    training = Training(tmp_path)
    yield training
    training.kill()


def interrupt_twice(work: Running) -> None:
    """Press Ctrl-C twice within one step: the second is obeyed at once and without a traceback."""
    os.kill(work.process.pid, signal.SIGSTOP)
    work.signal(signal.SIGINT)
    os.kill(work.process.pid, signal.SIGCONT)
    time.sleep(0.005)
    work.signal(signal.SIGINT)
    code, err = work.end()
    assert code == 130, err
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_loses_no_step(training: Training, number: signal.Signals) -> None:
    training.wait_for(3)
    training.signal(number)
    code, err = training.end()
    assert code == 128 + number, err
    assert "finishing the step" in err
    assert "interrupted; run the same command with --resume" in err
    assert "Traceback" not in err
    assert training.step == training.trained


def test_a_second_one_is_obeyed_at_once_and_without_a_traceback(training: Training) -> None:
    training.wait_for(12)
    interrupt_twice(training)
    assert training.step >= 10


def test_a_loader_that_is_killed_for_memory_is_one_clear_error(training: Training) -> None:
    training.wait_for(12)
    loaders = [
        child for child in training.children() if "resource_tracker" not in Path(f"/proc/{child}/cmdline").read_text()
    ]
    os.kill(loaders[-1], signal.SIGKILL)
    code, err = training.end()
    assert code == 2, err
    assert "a loader process died" in err
    assert "train.workers=0" in err
    assert "last.pt is of step" in err
    assert "--resume" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_under_nohup_the_work_goes_on_when_the_terminal_has_gone(tmp_path: Path) -> None:
    training = Training(tmp_path, before=["nohup"])
    training.wait_for(2)
    training.signal(signal.SIGHUP)
    training.wait_for(training.trained + 3)
    # Nobody listens any more.
    assert isinstance(training.process, subprocess.Popen)
    assert training.process.stderr is not None
    training.process.stderr.close()
    training.wait_for(training.trained + 3)
    training.signal(signal.SIGTERM)
    assert training.process.wait(60) == 143
    assert training.step == training.trained


@pytest.mark.slow
def test_streams_may_be_closed(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tmp_path / "data", steps=2))
    done = shell(f'vss train --recipe "{recipe}" --out run <&- >&- 2>&-', tmp_path)
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "run/last.pt").step == 2


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_each_stream_may_be_closed(tmp_path: Path, closed: str) -> None:
    write_mask(tmp_path / "masks/0.png", np.arange(12, dtype=np.uint8).reshape(3, 4))
    done = shell(f"vss remap --source camvid --masks masks --out out {closed}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/0.png").is_file()
    assert "Traceback" not in done.stderr


PRINTS = {
    "cache ls": ["cache", "ls"],
    "recipe schema": ["recipe", "schema"],
    "recipe ls": ["recipe", "ls", "--json"],
    "model ls": ["model", "ls"],
    "doctor": ["doctor"],
    "doctor, with faults": ["doctor", "--data", "nowhere"],
    "eval": ["eval", "--data", "data", "--pred", "pred", "--metric", "miou", "--json", "--per-class"],
}


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of one mask, a prediction of it, and a store."""
    label = np.array([[0, 1], [1, 0]], np.uint8)
    write_mask(tmp_path / "data/data/v/mask/0.png", label + 1)
    write_mask(tmp_path / "pred/v/0.png", label)
    write_predictions(tmp_path / "runs/stores/d/val/a.zarr", prediction_header(), {"v": distributions(1, 1)})
    (tmp_path / "data/val.txt").write_text("v\n")
    (tmp_path / "data/classes.json").write_text('["one", "two"]')
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", PRINTS)
@pytest.mark.parametrize("where", ["a reader that has gone", "a full disk"])
def test_what_nobody_takes_is_let_go_without_a_traceback(
    command: str, where: str, scored: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    read, write = os.pipe() if where != "a full disk" else (os.open(os.devnull, 0), os.open("/dev/full", os.O_WRONLY))
    os.close(read)
    stream = os.fdopen(write, "w")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        code = run([*PRINTS[command], "--quiet"])
    stream.flush()  # as Python does when it ends, which would speak of what is left
    stream.close()
    err = capfd.readouterr().err
    if where == "a full disk":
        assert (code, err.count("error: "), "Traceback" in err) == (2, 1, False), err
    else:
        assert (code, err) == (141, "")


def test_the_first_lines_are_enough(tmp_path: Path) -> None:
    done = shell('vss recipe schema | head -n 2; echo "${PIPESTATUS[0]}"', tmp_path)
    assert done.stderr == ""
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[-1] in ("0", "141")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_remapping_ends_as_it_was_asked_to(tmp_path: Path, number: signal.Signals) -> None:
    noise = np.random.default_rng(1).integers(0, 12, (300, 400), np.uint8)
    for index in range(200):
        write_mask(tmp_path / f"masks/{index}.png", noise)
    arguments = ["remap", "--source", "camvid", "--masks", "masks", "--out", "out", "--workers", "2"]
    remapping = Running(*arguments, cwd=tmp_path)
    remapping.wait_until(lambda: list((tmp_path / "out").glob("*.png")))
    remapping.signal(number)
    code, err = remapping.end()
    assert code == 128 + number, err
    assert "interrupted; run the same command again to continue" in err
    assert "Traceback" not in err


LONG = {"videos": 1, "unlabelled_videos": 1, "val_videos": 1, "frames": 150, "size": [48, 64]}


class Begun(Running):
    """A command that has work for a while."""

    def __init__(self, command: str, folder: Path) -> None:
        self.folder, last = folder, folder / "runs/small/last.pt"
        self.command = {
            "predict": ["predict", "--model", str(last), "--split", "val", "--tta"],
            "pseudo": ["pseudo", "--models", str(last), "--tta"],
            "run": ["run", "loop.yaml", "--until", "teacher"],
        }[command]
        super().__init__(*self.command, cwd=folder)
        sign = "small/teacher/last.pt" if command == "run" else "stores/*/*/.*.work"
        self.wait_until(lambda: list((folder / "runs").glob(sign)))


@pytest.fixture
def begun(command: str, tmp_path: Path) -> Iterator[Begun]:
    recipe = small_recipe(tmp_path / "data", steps=1)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"scene": Scene.model_validate(LONG)})})
    train(recipe, tmp_path / "runs/small", check=False)
    steps = STEPS if command == "run" else 1
    write_recipe(tmp_path / "teacher.yaml", small_recipe(tmp_path / "other", "teacher", steps=steps))
    (tmp_path / "loop.yaml").write_text("name: small\nstages: {teacher: {do: train, recipe: teacher.yaml}}\n")
    begun = Begun(command, tmp_path)
    yield begun
    if begun.process.poll() is None:
        begun.signal(signal.SIGKILL)
        begun.process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "pseudo", "run"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_ended_says_how_it_goes_on(begun: Begun, command: str, number: signal.Signals) -> None:
    begun.signal(number)
    code, err = begun.end()
    assert code == 128 + number, err
    assert "interrupted; run the same command again to continue" in err
    assert "Traceback" not in err
    if command == "run":
        return  # it has a hundred thousand steps to go
    done = vss(*begun.command, "--json", cwd=begun.folder)
    assert done.returncode == 0, done.stderr
    assert not list((begun.folder / "runs").rglob(".*.work"))
    for path in find_stores(begun.folder / "runs"):
        assert verify(open_store(path)) == []


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "pseudo", "run"])
def test_a_second_ctrl_c_is_obeyed_without_a_traceback(begun: Begun, command: str) -> None:
    interrupt_twice(begun)
