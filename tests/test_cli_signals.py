"""Signals and streams as terminals, schedulers and the system send and close them, to real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_process import environment
from small import small_recipe, write_recipe

from vsscli.data.masks import write_mask
from vsscli.models.checkpoints import load_checkpoint

STEPS = 100_000


class Training:
    """``vss train`` with two loader processes, in a process group of its own."""

    def __init__(self, folder: Path, *, nohup: bool = False) -> None:
        recipe = small_recipe(folder / "data", steps=STEPS, workers=2, checkpoint_every=10, threads=1)
        self.out, self.recipe = folder / "run", write_recipe(folder / "recipe.yaml", recipe)
        command = [sys.executable, "-m", "vsscli", "train", "--recipe", str(self.recipe), "--out", str(self.out)]
        self.process = subprocess.Popen(
            [*(["nohup"] if nohup else []), *command],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, steps: int) -> None:
        deadline, journal = time.monotonic() + 120, self.out / "journal.jsonl"
        while not (journal.exists() and len(journal.read_text().splitlines()) >= steps):
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.02)

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in path.read_text().split()]

    def end(self) -> tuple[int, str]:
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err

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
    if training.process.poll() is None:
        training.process.kill()
        training.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_to_all_processes_loses_no_step(training: Training, number: signal.Signals) -> None:
    training.wait_for(3)
    os.killpg(training.process.pid, number)
    code, err = training.end()
    assert code == 128 + number, err
    assert "finishing the step" in err
    assert "interrupted; run the same command with --resume" in err
    assert "Traceback" not in err
    assert training.step == training.trained


def test_a_second_one_is_obeyed_at_once_and_without_a_traceback(training: Training) -> None:
    training.wait_for(12)
    os.kill(training.process.pid, signal.SIGSTOP)  # so that both come within one step
    os.killpg(training.process.pid, signal.SIGINT)
    os.kill(training.process.pid, signal.SIGCONT)
    time.sleep(0.005)
    os.killpg(training.process.pid, signal.SIGINT)
    code, err = training.end()
    assert code == 130, err
    assert "Traceback" not in err
    assert "KeyboardInterrupt" not in err
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


def test_nohup_is_obeyed(tmp_path: Path) -> None:
    training = Training(tmp_path, nohup=True)
    training.wait_for(2)
    os.killpg(training.process.pid, signal.SIGHUP)
    training.wait_for(training.trained + 3)
    os.killpg(training.process.pid, signal.SIGTERM)
    assert training.end()[0] == 143


def test_the_work_goes_on_when_nobody_listens(tmp_path: Path) -> None:
    training = Training(tmp_path)
    training.wait_for(2)
    assert training.process.stderr is not None
    training.process.stderr.close()
    training.wait_for(training.trained + 3)
    os.killpg(training.process.pid, signal.SIGTERM)
    assert training.process.wait(60) == 143
    assert training.step == training.trained


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(tmp_path: Path, closed: str) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tmp_path / "data", steps=2))
    done = subprocess.run(
        f'"{sys.executable}" -m vsscli train --recipe "{recipe}" --out run {closed}',
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert load_checkpoint(tmp_path / "run/last.pt").step == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_remapping_ends_as_it_was_asked_to(tmp_path: Path, number: signal.Signals) -> None:
    noise = np.random.default_rng(1).integers(0, 12, (300, 400), np.uint8)
    for index in range(200):
        write_mask(tmp_path / f"masks/{index}.png", noise)
    arguments = ["remap", "--source", "camvid", "--masks", "masks", "--out", "out", "--workers", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "vsscli", *arguments],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list((tmp_path / "out").glob("*.png")):
        time.sleep(0.01)
        assert process.poll() is None
    os.killpg(process.pid, number)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number, err
    assert "interrupted; run the same command again to continue" in err
    assert "Traceback" not in err
