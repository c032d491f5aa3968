"""``kill -9`` at random times of pseudo, ensemble and train, each in its own process, then the same command again.

Kills at chosen steps, which are quicker, are in `test_store_commit`, `test_training_loop` and `test_cli_run`.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cli_process import environment
from small import SCENE, small_recipe, train, write_recipe
from store_samples import distributions, prediction_header, snapshot, write_predictions

from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.workspace import find_stores
from vsscli.recipes.schema import Recipe
from vsscli.store.reader import open_store
from vsscli.store.verify import verify

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")]

KILLS = 50

START = """
import gc, json, os, sys
import vsscli.fusion.fit, vsscli.pipeline.ensemble, vsscli.pipeline.pseudo, vsscli.recipes.load, vsscli.training.run
from vsscli.cli.app import run
gc.freeze()
for line in sys.stdin:
    process = os.fork()
    if process == 0:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        os._exit(run(json.loads(line)))
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""
"""Starts ``vss`` on request, in new processes that have everything imported and exit at once.

Importing and clearing up take seconds, in which there is nothing to break.
"""


class Starter:
    """Runs ``vss`` in processes of their own, one at a time."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "stderr.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", START],
                cwd=folder,
                env=environment(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
            )

    def run(self, arguments: list[str], seconds: float | None = None) -> int:
        """Run a command, and kill it after so many seconds. Returns its exit code, negative for a signal.

        Processes that a killed one leaves end by themselves, and are waited for: a command that is really started takes
        longer than they do, but this one's successor begins within milliseconds.
        """
        assert self.process.stdin is not None
        print(json.dumps([*arguments, "--quiet"]), file=self.process.stdin, flush=True)
        process = self._answer()
        assert self.process.stdout is not None
        if seconds is not None and not select.select([self.process.stdout], [], [], seconds)[0]:
            with suppress(ProcessLookupError):  # it has ended just now
                os.kill(process, signal.SIGKILL)
        code = self._answer()
        began = time.monotonic()
        while in_session(process):
            assert time.monotonic() - began < 20, "processes live on after their command"
            time.sleep(0.001)
        return code

    def _answer(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())


def in_session(leader: int) -> bool:
    """Whether a process of a session runs, as far as the system says so."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, _, _, session = place.read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                return True
    return False


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    started = Starter(tmp_path_factory.mktemp("starter"))
    yield started
    assert started.process.stdin is not None
    started.process.stdin.close()
    started.process.wait(60)


@dataclass(frozen=True)
class Killing:
    """A command for a folder of results, and a reader of its results."""

    arguments: Callable[[Path], list[str]]
    left: Callable[[Path], object]


def stores_in(folder: Path) -> dict[str, dict[str, bytes]]:
    """Every byte of every store; checks that each is sound, with nothing beside them."""
    found = find_stores(folder) or list(folder.glob("*.zarr"))
    for path in found:
        assert verify(open_store(path)) == []
    assert not list(folder.rglob("*.work"))
    return {path.name: snapshot(path) for path in found}


def run_in(folder: Path) -> dict[str, object]:
    """Weights and everything else of a finished run; checks that there are no partial files."""
    checkpoints = [load_checkpoint(folder / name) for name in ("last.pt", "best.pt")]
    assert sorted(path.name for path in folder.iterdir()) == ["best.pt", "checked.json", "journal.jsonl", "last.pt"]
    weights = {
        f"{number} {name}": tensor.numpy().tobytes()
        for number, checkpoint in enumerate(checkpoints)
        for name, tensor in checkpoint.weights.items()
    }
    training = checkpoints[0].training
    assert training is not None
    return {**weights, "training": list(_tensors(training)), "step": checkpoints[0].step}


def _tensors(values: object) -> Iterator[bytes]:
    if isinstance(values, torch.Tensor):
        yield values.contiguous().numpy().tobytes()
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors(value)


def killing(command: str, folder: Path) -> Killing:
    """A command with everything it needs in a folder."""
    if command == "ensemble":
        shape = {"size": (24, 32), "num_classes": 6}
        for seed in (1, 2):
            means = {f"v{number}": distributions(seed + number, 66, **shape) for number in range(2)}  # type: ignore[arg-type]
            write_predictions(folder / f"{seed}.zarr", prediction_header(6, weights=f"seed {seed}"), means)
        sources = [str(folder / f"{seed}.zarr") for seed in (1, 2)]
        return Killing(lambda out: [command, "--stores", *sources, "--out", str(out / "f.zarr")], stores_in)
    values = small_recipe(folder / "data", steps=8).model_dump()
    values["data"]["scene"] = {**SCENE, "unlabelled_videos": 5, "frames": 4}
    recipe = Recipe.model_validate(values)
    last = train(recipe, folder / "run").last  # draws the data, too
    if command == "train":
        path = write_recipe(folder / "recipe.yaml", recipe)
        return Killing(lambda out: [command, "--recipe", str(path), "--out", str(out), "--resume"], run_in)
    rest = ["--device", "cpu"]
    return Killing(lambda out: [command, "--models", str(last), *rest, "--workspace", str(out)], stores_in)


@pytest.mark.parametrize("command", ["ensemble", "pseudo", "train"])
def test_killed_at_random_times_a_command_ends_as_if_undisturbed(
    starter: Starter, tmp_path: Path, command: str
) -> None:
    (tmp_path / "made").mkdir()
    how = killing(command, tmp_path / "made")
    began = time.monotonic()
    assert starter.run(how.arguments(tmp_path / "whole")) == 0, starter.said.read_text()
    whole = time.monotonic() - began
    expected = how.left(tmp_path / "whole")
    generator = random.Random(KILLS)
    killed = 0
    out = tmp_path / "killed"
    while killed < KILLS:
        began = time.monotonic()
        if starter.run(how.arguments(out), generator.uniform(0, whole)) == -signal.SIGKILL:
            killed += 1
            if killed < KILLS and generator.random() < 0.5:
                continue  # what goes on is killed as well
        else:
            whole = min(whole, time.monotonic() - began)  # the first time is the slowest
        assert starter.run(how.arguments(out)) == 0, starter.said.read_text()
        assert how.left(out) == expected, f"kill {killed}"
        shutil.rmtree(out)
