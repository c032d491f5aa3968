"""Several processes learn what one does with the same global batch, whether each keeps all weights or a share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_process import Running, environment, lines_of
from network_samples import CLASSES, CONFIGS
from small import read_journal, small_recipe, train, write_recipe
from torch import nn

from vsscli.context import Context
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.pseudo import pseudo
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.training.learner import Learner
from vsscli.training.sharding import blocks

SCRIPT = Path(__file__).with_name("shared_training.py")
STEPS = 20
NETWORKS = {
    "light": {"family": "light", "encoder": "test_resnet", "channels": 16, "pretrained": "none", "dropout": 0.0},
    "vit-adapter": {**CONFIGS["vit-adapter"].config, "pretrained": "none"},
}


def shared(recipe: Path, out: Path, devices: int, strategy: str = "auto", **options: Any) -> Path:
    """Train in processes of their own; the folder of the run."""
    given = json.dumps({"devices": devices, "strategy": strategy, **options})
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(recipe), str(out), given],
        env=environment(OMP_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        start_new_session=True,
    )
    assert done.returncode == (-signal.SIGKILL if "kill" in options else 0), done.stderr
    return out


def figures(run: Path, name: str) -> list[float]:
    return [line[name] for line in read_journal(run / "journal.jsonl") if line.get(name) is not None]


def shares_of(run: Path) -> list[str]:
    """The names of the shares of a run's checkpoint."""
    folder = run / "last.pt.shares"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def recipe_of(
    folder: Path, model: dict[str, Any], unlabelled: dict[str, Any] | None = None, steps: int = STEPS, **settings: Any
) -> Path:
    """A recipe without dropout, whose draws differ between processes, as a file."""
    settings = {"clip": 0.5, "ema": 0.9, "validate_every": STEPS // 2, "lr": 1e-4, **settings}
    values = small_recipe(folder / "data", steps=steps, **settings).model_dump()
    crop = list(model.get("crop", (32, 64)))
    changes = {"model": model, "augment": {"crop": crop, "scale": [0.75, 1.5]}, "predict": {"window": crop}}
    recipe = Recipe.model_validate({**values, **changes, "unlabelled": unlabelled})
    return write_recipe(folder / "recipe.yaml", recipe)


def assert_alike(one: Path, other: Path, within: float = 1e-5) -> None:
    """Same losses, norms of gradients, figures, weights, averages and state of the optimiser."""
    for name in [key for key in read_journal(one / "journal.jsonl")[0] if key.startswith("loss")]:
        assert len(figures(one, name)) == STEPS
        assert figures(other, name) == pytest.approx(figures(one, name), abs=within, rel=within), name
    # Rounding changes which points of a mask are the least certain, so later norms differ in the fourth digit.
    mine, theirs = figures(one, "gradient_norm"), figures(other, "gradient_norm")
    assert theirs[0] == pytest.approx(mine[0], rel=1e-5)
    assert theirs == pytest.approx(mine, rel=2e-3)
    assert max(mine) > 0.5  # they were clipped
    assert figures(other, "miou") == pytest.approx(figures(one, "miou"), abs=1e-3)
    assert_same_state(one, other)


def assert_same_state(one: Path, other: Path) -> None:
    mine, theirs = load_checkpoint(one / "last.pt"), load_checkpoint(other / "last.pt")
    assert_close(theirs.weights, mine.weights)
    assert mine.training is not None
    assert theirs.training is not None
    for part in ("optimiser", "raw", "semi"):
        assert_close(theirs.training[part], mine.training[part])


def assert_close(found: Any, expected: Any) -> None:
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name in expected:
            assert_close(found[name], expected[name])
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for mine, theirs in zip(found, expected, strict=True):
            assert_close(mine, theirs)
    elif isinstance(expected, torch.Tensor):
        assert type(found) is torch.Tensor
        assert found.dtype == expected.dtype
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-2)
    else:
        assert found == expected


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_two_processes_learn_what_one_does(tmp_path: Path, network: str) -> None:
    recipe = recipe_of(tmp_path, NETWORKS[network])
    one = shared(recipe, tmp_path / "one", 1)
    for strategy in ("ddp", "sharded"):
        assert_alike(one, shared(recipe, tmp_path / strategy, 2, strategy))


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["store", "ema"])
def test_two_processes_learn_the_same_from_unlabelled_frames(tmp_path: Path, teacher: str) -> None:
    recipe = recipe_of(tmp_path, NETWORKS["light"], validate_every=0)
    begun = train(load_recipe(recipe), tmp_path / "base").last
    given = {"init": str(begun)}
    if teacher == "store":
        given["pseudo_labels"] = str(pseudo([begun], context=Context(tmp_path, device="cpu"), percentile=60).store)
    unlabelled = {"batch_size": 4, "teacher": teacher, "split": "narrowing"}
    recipe = recipe_of(tmp_path, NETWORKS["light"], unlabelled)
    one = shared(recipe, tmp_path / "one", 1, **given)
    for strategy in ("ddp", "sharded"):
        # Rounding decides on which side of a percentile of the teacher's entropies a pixel or two of 16,000 are.
        within = 1e-4 if teacher == "ema" else 1e-5
        assert_alike(one, shared(recipe, tmp_path / strategy, 2, strategy, **given), within)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    """Two that share the weights stop at step 8, one goes on to 14, four to the end: as one would alone."""
    recipe = recipe_of(tmp_path, NETWORKS["light"], validate_every=0)
    one = shared(recipe, tmp_path / "one", 1)
    out = tmp_path / "run"
    shared(recipe, out, 2, "sharded", stop=8)
    # Neither has written more than its share: about half of the tensors, and the first one what is not shared out.
    sizes = {name: (out / "last.pt.shares" / name).stat().st_size for name in shares_of(out)}
    assert sorted(name[:8] for name in sizes) == ["8-0-of-2", "8-1-of-2"]
    whole = (one / "last.pt").stat().st_size
    assert all(0.4 * whole < size < 0.65 * whole for size in sizes.values())
    assert (out / "last.pt").stat().st_size < 0.05 * whole
    shared(recipe, out, 1, resume=True, stop=14)
    assert shares_of(out) == []
    shared(recipe, out, 4, "sharded", resume=True, stop=17)
    assert len(shares_of(out)) == 4
    shared(recipe, out, 4, "sharded", resume=True)
    assert not (out / "last.pt.shares").exists()
    assert figures(out, "loss") == pytest.approx(figures(one, "loss"), abs=1e-5)
    assert_same_state(one, out)


@pytest.mark.slow
def test_processes_killed_while_they_write_their_shares_leave_a_checkpoint(tmp_path: Path) -> None:
    """All at once: when one has written its share, when both have, and when the shares of the step before are left."""
    recipe = recipe_of(tmp_path, NETWORKS["light"], validate_every=0)
    one, out = shared(recipe, tmp_path / "one", 1), tmp_path / "run"
    for step, moment, kept in ((6, "writing", 4), (10, "naming", 8), (14, "removing", 14)):
        shared(recipe, out, 2, "sharded", resume=True, kill=(step, moment))
        assert load_checkpoint(out / "last.pt").step == kept
        assert len(shares_of(out)) > 2
    shared(recipe, out, 2, "sharded", resume=True)
    assert not (out / "last.pt.shares").exists()
    assert figures(out, "loss") == pytest.approx(figures(one, "loss"), abs=1e-5)
    assert_same_state(one, out)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "sharded"])
@pytest.mark.parametrize("first", [True, False])
def test_a_killed_process_ends_the_others_with_a_message(tmp_path: Path, strategy: str, first: bool) -> None:
    recipe = write_recipe(tmp_path / "recipe.yaml", small_recipe(tmp_path / "data", steps=100_000))
    options = ["--out", str(tmp_path / "run"), "--device", "cpu", "--devices", "2", "--strategy", strategy]
    run = Running("train", str(recipe), *options, "--quiet", cwd=tmp_path)
    run.wait_until(lambda: lines_of(tmp_path / "run/journal.jsonl") >= 3)
    found = subprocess.run(["pgrep", "-P", str(run.process.pid)], capture_output=True, text=True, check=True)
    (other,) = map(int, found.stdout.split())
    before = time.monotonic()
    os.kill(run.process.pid if first else other, signal.SIGKILL)
    # First the other one: what it says when its starter is dead comes after the command's own end.
    while Path(f"/proc/{other}/stat").exists() and " Z " not in Path(f"/proc/{other}/stat").read_text():
        assert time.monotonic() - before < 60
        time.sleep(0.1)
    code, told = run.end()
    assert time.monotonic() - before < 60
    assert "another process of this command ended" in told or "was killed by SIGKILL" in told
    assert code == (-signal.SIGKILL if first else 2)


def test_blocks_are_what_repeats_and_is_called_as_a_whole() -> None:
    found = {
        name: [
            place for place, _ in blocks(Learner(build_network(CONFIGS[name].config, CLASSES, load_pretrained=False)))
        ]
        for name in ("vit-adapter", "swin", "eomt", "light-convnext")
    }
    # An interaction only holds its parts, as a stage of a Swin does.
    assert {f"network.backbone.blocks.{number}" for number in range(4)} <= set(found["vit-adapter"])
    assert "network.backbone.interactions.0.injector" in found["vit-adapter"]
    assert "network.backbone.layers.2.blocks.1" in found["swin"]
    assert "network.backbone.layers.0.downsample" in found["swin"]
    assert [name for name in found["eomt"] if ".blocks." in name] == [f"network.trunk.blocks.{n}" for n in range(4)]
    assert "network.encoder.features.stages_1.blocks.1" in found["light-convnext"]
    # Layers of a perceptron are no blocks.
    assert list(blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))) == []
