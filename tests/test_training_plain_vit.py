"""Plain ViTs with queries learn, go on where they were cut off, and learn from unlabelled frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cut_off import require_same_weights
from network_samples import VIT
from small import read_journal, small_recipe, train

from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.plain_vit.network import PlainVit
from vsscli.recipes.schema import Recipe

pytestmark = pytest.mark.usefixtures("few_points")

SMALL = {**VIT, "crop": [32, 64], "sizes": {"width": 48, "depth": 4, "heads": 3, "hidden": 96}}
EOMT = {"schedule": "poly_after", "warmup": 1, "encoder_warmup": 1, "layer_decay": 0.8, "clip": 1.0, "batch_size": 2}


def recipe_of(root: Path, model: dict[str, Any], unlabelled: dict[str, Any] | None = None, **settings: Any) -> Recipe:
    values = small_recipe(root, **settings).model_dump(mode="json")
    return Recipe.model_validate({**values, "model": {**SMALL, **model}, "unlabelled": unlabelled})


def losses(run: Path, name: str = "loss_supervised") -> list[float]:
    return [float(line[name]) for line in read_journal(run / "journal.jsonl") if name in line]


def test_it_learns_while_masks_are_annealed(tmp_path: Path) -> None:
    result = train(recipe_of(tmp_path / "data", {}, **EOMT, steps=30, lr=2e-3), tmp_path / "run", device="cpu")
    values = losses(tmp_path / "run")
    assert len(values) == 30
    assert sum(values[-6:]) < 0.9 * sum(values[:6])
    network = restore_network(load_checkpoint(result.last))
    assert isinstance(network, PlainVit)
    assert network.masked_attention.probabilities.tolist() == [1.0, 1.0, 1.0]  # nothing of it is kept


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(tmp_path: Path) -> None:
    annealed = {"annealing": [[0.0, 0.5], [0.25, 0.75], [0.5, 1.0]]}
    require_same_weights(recipe_of(tmp_path / "data", annealed, **EOMT, steps=4, checkpoint_every=2), tmp_path)


def test_it_learns_from_unlabelled_frames_over_a_frozen_trunk(tmp_path: Path) -> None:
    model = {"queries": "decoder", "blocks": 2}
    first = train(recipe_of(tmp_path / "data", model, steps=2, batch_size=2), tmp_path / "first", device="cpu").last
    contrast = {"queue": 64, "channels": 16, "anchors": 8, "negatives": 4}
    unlabelled = {"teacher": "ema", "batch_size": 2, "mixing": "cutmix", "contrast": contrast}
    recipe = recipe_of(tmp_path / "data", model, unlabelled, steps=3, batch_size=2)
    train(recipe, tmp_path / "run", device="cpu", init=first)
    for name in ("loss_supervised", "loss_unsupervised", "loss_contrast"):
        assert len(losses(tmp_path / "run", name)) == 3
    kept = load_checkpoint(tmp_path / "run" / "last.pt")
    assert kept.training is not None
    teacher = kept.training["semi"]["teacher"]
    assert not [name for name in teacher if name.startswith("network.trunk.")]
    before = load_checkpoint(first).weights
    moved = {name for name, tensor in kept.weights.items() if not tensor.equal(before[name])}
    assert moved
    assert not [name for name in moved if name.startswith("trunk.")]
