"""Mask classifiers train as the light networks do, by their own losses, and predict in windows of their crop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from cut_off import require_same_weights
from lightning_fabric import Fabric
from small import SCENE, read_journal, train

from vsscli.context import Context
from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.inference.plans import NONE
from vsscli.models.build import build_network
from vsscli.models.checkpoints import load_checkpoint
from vsscli.models.network import Network
from vsscli.models.outputs import MapOutputs, MaskOutputs, QueryPrediction
from vsscli.models.scores import ScoreKind, Scores
from vsscli.pipeline.masks import predict_input
from vsscli.pipeline.predict import predict_split
from vsscli.pipeline.request import made_by, read_out
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Unlabelled
from vsscli.store.reader import open_store
from vsscli.training.objectives.labels import supervised_loss
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.set_prediction import SetPredictionLoss
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper

SIZES = {"width": 48, "depth": 4, "heads": 3, "hidden": 96}
ADAPTER = {"stem": 8, "heads": 3, "interactions": [[0, 0], [1, 1], [2, 2], [3, 3]]}
HEAD = {"channels": 64, "queries": 12, "encoder_layers": 1, "encoder_width": 64, "decoder_layers": 2}


def cut_down(root: Path, shipped: str, **changes: Any) -> Recipe:
    """A shipped recipe on drawn videos, with a smaller network and fewer steps."""
    values = load_recipe(shipped).model_dump(mode="json")
    values["data"] = {"name": "street", "root": str(root), "classes": "classes.json", "scene": SCENE}
    values["model"] |= {"crop": [64, 64], "sizes": SIZES | {"adapter": ADAPTER}, "head": HEAD, "drop_path": 0.0}
    values["augment"] |= {"crop": [64, 64], "scale": [0.9, 1.2]}
    values["train"] |= {"steps": 8, "lr": 2e-3, "workers": 0, "threads": 1, "warmup": 1, "batch_size": 2}
    for section, given in changes.items():
        values[section] |= given
    return Recipe.model_validate(values)


@pytest.mark.usefixtures("few_points")
@pytest.mark.parametrize(
    ("shipped", "precision"), [("tiny/student", "32"), pytest.param("tiny/teacher", "bf16", marks=pytest.mark.slow)]
)
def test_the_tiny_recipes_cut_down_learn_and_predict(shipped: str, precision: str, tmp_path: Path) -> None:
    recipe = cut_down(tmp_path / "data", shipped, train={"precision": precision})
    result = train(recipe, tmp_path / "run", device="cpu")
    losses = [line["loss"] for line in read_journal(tmp_path / "run" / "journal.jsonl") if "loss" in line]
    assert len(losses) == 8
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])  # type: ignore[arg-type]
    assert result.figures["miou"] is not None
    predicted = predict_split(result.last, "val", context=Context(tmp_path, device="cpu", batch_size=4))
    store = open_store(predicted.store)
    assert store.header.source["window"] == [64, 64]
    assert (store.header.scores, store.header.source["family"]) == ("mask_scores", "mask2former")
    checkpoint = load_checkpoint(result.last)
    how = read_out(recipe.predict, NONE, None, checkpoint.config)
    note = made_by(checkpoint, how)
    assert (store.header.source["missing"], note.pop("missing")) == ("spread", "spread")
    # What earlier versions predicted says nothing of it, and is what is asked for now and then.
    assert made_by(checkpoint, replace(how, missing="normalise")) == note
    again = predict_split(result.last, "val", context=Context(tmp_path, device="cpu", batch_size=4))
    assert (again.predicted, again.cached) == (0, predicted.predicted)
    masks = predict_input(
        result.last,
        next((tmp_path / "data").rglob("origin")),
        tmp_path / "masks",
        context=Context(tmp_path, device="cpu", batch_size=4),
    )
    assert masks == len(list((tmp_path / "masks").rglob("*.png"))) > 0


@pytest.mark.usefixtures("few_points")
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"train": {"steps": 4, "checkpoint_every": 2}, "model": {"drop_path": 0.2}}
    require_same_weights(cut_down(tmp_path / "data", "tiny/student", **changes), tmp_path)


def test_a_crop_that_the_network_can_not_take_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VssError, match=r"augment\.crop: 96x64 does not fit a network made for 64x64"):
        train(cut_down(tmp_path / "data", "tiny/student", augment={"crop": [96, 64]}), tmp_path / "run", device="cpu")
    swin: dict[str, Any] = {"backbone": "swin_tiny", "sizes": None, "crop": None}
    recipe = cut_down(tmp_path / "data", "tiny/student", model=swin, augment={"crop": [48, 64]})
    with pytest.raises(VssError, match=r"augment\.crop: 48x64 .* multiples of 32") as caught:
        train(recipe, tmp_path / "run", device="cpu")
    assert "64x64" in caught.value.hint


def test_another_window_than_the_crop_is_refused(tmp_path: Path) -> None:
    recipe = cut_down(tmp_path / "data", "tiny/student", predict={"window": [64, 96]})
    with pytest.raises(VssError, match="a window of 64x96 does not fit a network made for 64x64"):
        train(recipe, tmp_path / "run", device="cpu")


def test_labels_are_compared_by_masks_where_there_are_masks_and_else_by_pixels() -> None:
    labels = torch.randint(0, 3, (2, 16, 16), dtype=torch.uint8)
    layers = tuple(QueryPrediction(torch.randn(2, 5, 4), torch.randn(2, 5, 4, 4)) for _ in range(2))
    outputs = MaskOutputs(layers, torch.zeros(2, 1, 4, 4))
    torch.manual_seed(3)
    loss = supervised_loss(outputs, labels)
    torch.manual_seed(3)
    assert torch.equal(loss, SetPredictionLoss()(layers, labels).total)
    values = torch.randn(2, 3, 16, 16)
    pixels = supervised_loss(MapOutputs(Scores(values, ScoreKind.LOGITS)), labels)
    torch.testing.assert_close(pixels, torch.nn.functional.cross_entropy(values, labels.long()))


@pytest.mark.parametrize("labelled", [20, 64])
def test_a_training_does_with_void_as_its_recipe_says(labelled: int, tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    labels = torch.randint(0, 3, (2, 64, 64), dtype=torch.uint8)
    labels[:, :, labelled:] = 255
    losses = []
    for void in ("negative", "ignored"):
        recipe = cut_down(tmp_path, "tiny/teacher", train={"void": void})
        network = untrained(recipe)
        state = TrainingState(build_objectives(recipe, network), build_optimiser(network, recipe.train), None)
        stepper = Stepper(Fabric(accelerator="cpu", devices=1), recipe, state)
        losses.append(stepper.step([(Crops(images, labels, labels == 255), None)])[0].total.item())
    assert (losses[0] == losses[1]) is (labelled == 64)


def test_every_group_of_a_mask_classifier_learns_at_the_rate_of_its_depth(tmp_path: Path) -> None:
    recipe = cut_down(tmp_path, "tiny/teacher", train={"layer_decay": 0.5})
    optimiser = build_optimiser(untrained(recipe), recipe.train)
    rates = {round(group["base_lr"] / recipe.train.lr, 6) for group in optimiser.param_groups}
    assert rates == {0.5**depth for depth in range(6)}


@pytest.mark.parametrize("teacher", ["store", "ema"])
def test_unlabelled_crops_are_learned_from_by_their_probabilities_and_features(teacher: str, tmp_path: Path) -> None:
    recipe = cut_down(tmp_path, "tiny/teacher")
    contrast = {"queue": 40, "keys": 20, "anchors": 8, "negatives": 4, "channels": 8, "confidence": 0.0, "low_rank": 1}
    settings = Unlabelled.model_validate({"teacher": teacher, "contrast": contrast if teacher == "ema" else None})
    recipe, network = recipe.model_copy(update={"unlabelled": settings}), untrained(recipe)
    objectives = build_objectives(recipe, network)
    optimiser = build_optimiser(network, recipe.train, objectives.learner.projection)
    stepper = Stepper(Fabric(accelerator="cpu", devices=1), recipe, TrainingState(objectives, optimiser, None))
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    padding = torch.zeros(2, 64, 64, dtype=torch.bool)
    batch = Crops(images, torch.randint(0, 3, (2, 64, 64), dtype=torch.uint8), padding)
    unlabelled = Crops(images, torch.ones(2, 64, 64, dtype=torch.uint8), padding)
    losses = [stepper.step([(batch, unlabelled)])[0].figures for _ in range(5)]
    names = {"loss", "loss_supervised", "loss_unsupervised", "reliable", "gradient_norm"}
    assert set(losses[0]) == (names | {"loss_contrast", "banks"} if teacher == "ema" else names)
    assert all(torch.isfinite(value) for step in losses for value in step.values())
    if teacher == "store":
        assert losses[-1]["loss_unsupervised"] < losses[0]["loss_unsupervised"]
        layers = HEAD["decoder_layers"] + 1  # weights are of one layer of the supervised loss (unlabelled.balance)
        expected = losses[0]["loss_supervised"] + layers * losses[0]["loss_unsupervised"]
        torch.testing.assert_close(losses[0]["loss"], expected)
    else:
        assert losses[-1]["banks"] > 0


def untrained(recipe: Recipe) -> Network:
    torch.manual_seed(0)
    return build_network(recipe.model.model_dump(mode="json"), 3, load_pretrained=False).train()
