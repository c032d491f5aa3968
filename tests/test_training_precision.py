"""Half precision in training: the scaler skips steps that overflow."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from small import small_recipe, train

from vsscli.data.classes import ClassTable
from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.recipes.schema import Recipe
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.state import TrainingState, load_state, save_state
from vsscli.training.step import Stepper

START = 2.0**100
"""A scale with which every gradient overflows."""


def begun(recipe: Recipe) -> TrainingState:
    network = build_network(recipe.model.model_dump(mode="json"), 3, load_pretrained=False).train()
    return TrainingState(build_objectives(recipe, network), build_optimiser(network, recipe.train), None)


def test_a_step_whose_gradients_overflow_is_left_out_also_where_they_are_clipped(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, clip=1.0, precision="16")
    state = begun(recipe)
    scaler = torch.amp.GradScaler("cpu", init_scale=START)
    fabric = Fabric(accelerator="cpu", devices=1, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    stepper = Stepper(fabric, recipe, state)
    before = [parameter.detach().clone() for parameter in state.learner.parameters()]
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    labels = torch.zeros(2, 32, 32, dtype=torch.uint8)
    losses, _ = stepper.step([(Crops(images, labels, labels == 255), None)])
    assert losses.total.isfinite()
    assert all(torch.equal(old, new) for old, new in zip(before, state.learner.parameters(), strict=True))
    assert scaler.get_scale() == pytest.approx(START / 2)


def test_a_precision_that_the_device_lacks_is_refused_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(VssError, match=r"train\.precision: precision 16 needs a GPU") as caught:
        train(small_recipe(tmp_path / "data", precision="16"), tmp_path / "run", device="cpu")
    assert "--set train.precision=32" in caught.value.hint
    assert not (tmp_path / "run").exists()


def test_the_scale_of_the_loss_goes_on_where_it_was(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path, precision="16")
    table = ClassTable.from_dict({"name": "three", "classes": [{"name": name} for name in "abc"]})
    state = begun(recipe)
    state.precision = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=8.0))
    fabric = Fabric(accelerator="cpu", devices=1)
    save_state(tmp_path / "last.pt", state, recipe, table, fabric, resumable=True)
    other, scaler = begun(recipe), torch.amp.GradScaler("cpu")
    other.precision = MixedPrecision("16-mixed", "cpu", scaler)
    load_state(tmp_path / "last.pt", other, recipe)
    assert scaler.get_scale() == 8.0
