"""``kill -9`` at random times of pseudo, ensemble and train as people run them, then the same command again."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli_process import environment, vss
from small import small_recipe, write_recipe
from store_samples import distributions, prediction_header, snapshot, write_predictions

from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.workspace import find_stores
from vsscli.store.reader import open_store
from vsscli.store.verify import verify
from vsscli.training.run import train

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kills")


@dataclass(frozen=True)
class Killing:
    """A verb, what is told to go on, and what it leaves, read from the folder given to ``--out`` or ``--workspace``."""

    arguments: Callable[[Path], list[str]]
    again: tuple[str, ...]
    left: Callable[[Path], object]


def stores_in(folder: Path) -> dict[str, dict[str, bytes]]:
    """Every byte of every store, each of them sound, and nothing beside them."""
    found = find_stores(folder) or list(folder.glob("*.zarr"))
    for path in found:
        assert verify(open_store(path)) == []
    assert not list(folder.rglob("*.work"))
    return {path.name: snapshot(path) for path in found}


def weights_in(folder: Path) -> str:
    return load_checkpoint(folder / "last.pt").fingerprint


def killing(verb: str, folder: Path) -> Killing:
    """A verb with all it needs in a folder."""
    if verb == "ensemble":
        shape = {"size": (40, 60), "num_classes": 12}
        for seed in (1, 2):
            means = {f"v{number}": distributions(seed + number, 70, **shape) for number in range(3)}  # type: ignore[arg-type]
            write_predictions(folder / f"{seed}.zarr", prediction_header(12, weights=f"seed {seed}"), means)
        sources = [str(folder / f"{seed}.zarr") for seed in (1, 2)]
        return Killing(lambda out: [verb, "--stores", *sources, "--out", str(out / "f.zarr")], (), stores_in)
    recipe = small_recipe(folder / "data", steps=8)
    if verb == "train":
        path = write_recipe(folder / "recipe.yaml", recipe)
        train(recipe, folder / "run")  # draws the data
        return Killing(lambda out: [verb, "--recipe", str(path), "--out", str(out)], ("--resume",), weights_in)
    model = str(train(recipe, folder / "run").last)
    rest = ["--tta", "--device", "cpu"]
    return Killing(lambda out: [verb, "--models", model, *rest, "--workspace", str(out)], (), stores_in)


@pytest.mark.parametrize(
    ("verb", "kills"),
    [
        ("ensemble", 1),
        pytest.param("ensemble", 17, marks=pytest.mark.slow),
        pytest.param("pseudo", 17, marks=pytest.mark.slow),
        pytest.param("train", 16, marks=pytest.mark.slow),
    ],
)
def test_killed_at_a_random_time_the_same_command_ends_as_if_undisturbed(tmp_path: Path, verb: str, kills: int) -> None:
    (tmp_path / "made").mkdir()
    how = killing(verb, tmp_path / "made")
    began = time.monotonic()
    done = vss(*how.arguments(tmp_path / "whole"), "--quiet", cwd=tmp_path, OMP_NUM_THREADS="1")
    whole = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    expected = how.left(tmp_path / "whole")
    generator = random.Random(kills)
    killed = 0
    while killed < kills:
        out = tmp_path / "killed"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "vsscli", *how.arguments(out), "--quiet"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment(OMP_NUM_THREADS="1"))
        # The first part of the time goes into imports, where there is nothing to break.
        time.sleep(generator.uniform(0.4, 1.0) * whole)
        process.kill()
        if process.wait() == 0:
            continue  # it was done already
        killed += 1
        again = how.again if (out / "last.pt").exists() else ()
        done = vss(*how.arguments(out), *again, "--quiet", cwd=tmp_path, OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        assert how.left(out) == expected, f"kill {killed}"
