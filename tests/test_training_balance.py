"""The terms of the loss on one scale, and comparisons of their gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small import read_journal, small_recipe, train
from torch import Tensor, nn

from vsscli.context import Context
from vsscli.data.samples import Crops
from vsscli.models.checkpoints import load_checkpoint, save_checkpoint
from vsscli.models.network import Network, Normalisation
from vsscli.models.outputs import MapOutputs, MaskOutputs, Outputs, QueryPrediction
from vsscli.models.scores import ScoreKind, Scores
from vsscli.pipeline.pseudo import pseudo
from vsscli.recipes.schema import Recipe
from vsscli.training.balance import gradient_shares, measured_parameters
from vsscli.training.objectives.labels import supervised_loss
from vsscli.training.objectives.table import build_objectives
from vsscli.training.state import other_run

CLASSES = 4


class Small(Network):
    """An encoder of two layers; its head scores pixels, or masks of three layers of a decoder."""

    def __init__(self, masks: bool) -> None:
        super().__init__(CLASSES, 4, 4, Normalisation((127.0,) * 3, (60.0,) * 3))
        self.masks, self.feature_channels = masks, 6
        self.encoder = nn.ModuleList([nn.Conv2d(3, 6, 4, stride=4), nn.Conv2d(6, 6, 1)])
        self.scored = nn.Conv2d(6, CLASSES, 1)
        self.query = nn.Linear(6, CLASSES + 1)

    def forward(self, images: Tensor) -> Scores:
        return self.outputs(images).scores

    def outputs(self, images: Tensor) -> Outputs:
        features = self.encoder[1](self.encoder[0](images).relu())
        if not self.masks:
            return MapOutputs(Scores(self.scored(features), ScoreKind.LOGITS), features)
        masks = self.scored(features)
        classes = self.query(features.mean((2, 3)))[:, None].expand(-1, CLASSES, -1)
        layers = tuple(QueryPrediction(classes * scale, masks * scale) for scale in (0.5, 0.8, 1.0))
        return MaskOutputs(layers, features)

    def place_of(self, name: str) -> tuple[bool, int]:
        return (True, 2 - int(name.split(".")[1])) if name.startswith("encoder") else (False, 0)


def terms_of(network: Small, **unlabelled: Any) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)
    images = torch.randint(256, (4, 3, 16, 16), dtype=torch.uint8)
    labels = torch.randint(CLASSES, (4, 16, 16), dtype=torch.uint8)
    objectives = build_objectives(Recipe.model_validate({"name": "a", "unlabelled": unlabelled}), network)
    crops = [Crops(images[some], labels[some], labels[some] == 255) for some in (slice(2), slice(2, None))]
    losses = objectives(objectives.learner, *crops, 0.0)
    return losses.total, losses.terms


@pytest.mark.parametrize("masks", [False, True])
def test_weights_are_of_one_layer_of_the_supervised_loss(masks: bool) -> None:
    network = Small(masks)
    contrast = {"queue": 16, "keys": 8, "anchors": 4, "negatives": 4, "channels": 6, "weight": 0.5}
    found = {how: terms_of(network, balance=how, contrast=contrast, teacher="ema") for how in ("layers", "none")}
    total, terms = found["layers"]
    plain_total, plain = found["none"]
    layers = 3 if masks else 1
    assert torch.equal(terms["supervised"], plain["supervised"])
    assert torch.equal(terms["unsupervised"], plain["unsupervised"] * layers)
    assert torch.equal(terms["contrast"], plain["contrast"] * layers)
    assert torch.equal(total, terms["supervised"] + terms["unsupervised"] + terms["contrast"])
    assert torch.equal(total, plain_total) == (not masks)


def test_the_supervised_loss_itself_is_the_published_one() -> None:
    network = Small(masks=True)
    images, labels = torch.rand(2, 3, 16, 16) * 255, torch.randint(CLASSES, (2, 16, 16), dtype=torch.uint8)
    torch.manual_seed(2)
    objectives = build_objectives(Recipe(name="a"), network)
    alone = objectives(objectives.learner, Crops(images, labels, labels == 255), None, 0.0)
    torch.manual_seed(2)
    seen = network.normalisation(images).contiguous(memory_format=torch.channels_last)
    assert torch.equal(alone.total, supervised_loss(network.outputs(seen), labels))
    assert list(alone.terms) == ["supervised"]


def test_shares_are_ratios_of_the_gradients_norms_and_leave_nothing_behind() -> None:
    network = Small(masks=False)
    last = measured_parameters(network)
    assert [id(p) for p in last] == [id(p) for p in network.encoder[1].parameters()]
    _, terms = terms_of(network, teacher="ema", weight=0.7)
    shares = gradient_shares({**terms, "constant": torch.ones(())}, last, scale=2.0**10)
    assert all(parameter.grad is None for parameter in network.parameters())
    norms = {}
    for name, term in terms.items():
        network.zero_grad()
        term.backward(retain_graph=True)
        norms[name] = torch.cat([p.grad.flatten() for p in last if p.grad is not None]).norm()
    torch.testing.assert_close(shares["gradient_unsupervised"], norms["unsupervised"] / norms["supervised"])
    assert shares["gradient_constant"] == 0
    nothing = gradient_shares({"supervised": torch.ones(()), "unsupervised": terms["unsupervised"]}, last)
    assert nothing["gradient_unsupervised"].isnan()
    for parameter in network.encoder.parameters():
        parameter.requires_grad_(False)
    assert len(measured_parameters(network)) == 4  # of a frozen encoder, what learns beside it


def test_the_journal_has_the_shares_and_measuring_changes_no_weight(tmp_path: Path) -> None:
    base = train(small_recipe(tmp_path / "data", steps=8, lr=3e-3), tmp_path / "base").last
    store = pseudo([base], context=Context(tmp_path, device="cpu"), percentile=60).store
    contrast = {"queue": 64, "keys": 32, "anchors": 16, "negatives": 8, "channels": 16}
    weights = []
    for log_every, lines in ((1, [1, 10, 12]), (5, [5, 12])):
        values = small_recipe(tmp_path / "data", "semi", steps=12, log_every=log_every).model_dump()
        recipe = Recipe.model_validate({**values, "unlabelled": {"batch_size": 4, "contrast": contrast}})
        last = train(recipe, tmp_path / f"run-{log_every}", init=base, pseudo_labels=store).last
        journal = read_journal(last.with_name("journal.jsonl"))
        measured = [line for line in journal if "gradient_unsupervised" in line]
        assert [line["step"] for line in measured] == lines
        assert all(line["gradient_unsupervised"] > 0 and line["gradient_contrast"] > 0 for line in measured)  # type: ignore[operator]
        weights.append(load_checkpoint(last).weights)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize(("family", "same"), [("light", True), ("mask2former", False)])
def test_a_run_begun_before_terms_were_balanced_is_another_one(tmp_path: Path, family: str, same: bool) -> None:
    last = train(small_recipe(tmp_path / "data", steps=1), tmp_path / "run").last
    checkpoint = load_checkpoint(last)
    values = {**checkpoint.recipe, "unlabelled": {"batch_size": 4}}
    if family == "mask2former":
        values["model"] = {"family": "mask2former", "backbone": "vit_adapter_tiny", "crop": [96, 128]}
    checkpoint.recipe.clear()
    checkpoint.recipe.update(values)
    save_checkpoint(last, checkpoint)
    earlier, recipe = load_checkpoint(last), Recipe.model_validate(values)
    told = other_run(earlier, recipe, earlier.inputs)
    assert told == ("" if same else "unlabelled.balance was 'none' and is 'layers'")
    values["unlabelled"]["balance"] = "none"
    assert (other_run(earlier, Recipe.model_validate(values), earlier.inputs) == "") == (family == "mask2former")
