"""UniMatch V2: every formula against plain arithmetic, and training as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from cut_off import require_same_weights
from network_samples import CONFIGS
from pydantic import ValidationError
from small import read_journal, small_recipe, train
from test_training_plain_vit import SMALL
from torch.nn import functional

from vsscli.data.samples import Crops
from vsscli.data.strong import strong_colours, strong_views
from vsscli.errors import VssError
from vsscli.models.build import build_network
from vsscli.models.dropout import ChannelDropout, channel_factors
from vsscli.models.outputs import MapOutputs
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Unlabelled
from vsscli.training.averaging import AveragedWeights, as_mean
from vsscli.training.consistency import Said, box_or_none, mixed_views
from vsscli.training.evidence import sure_labels
from vsscli.training.mixing import stay_outside
from vsscli.training.objectives import objective
from vsscli.training.objectives.unimatch import ConsistencyLoss
from vsscli.training.view import StepView

UNIMATCH = {"method": "unimatch", "teacher": "ema", "batch_size": 2, "momentum": 0.996, "confidence": 0.2}


def recipe_of(data: Path, unlabelled: dict[str, Any], model: dict[str, Any] | None = None, **settings: Any) -> Recipe:
    values = small_recipe(data, **settings).model_dump(mode="json")
    return Recipe.model_validate({**values, "unlabelled": unlabelled, **({"model": model} if model else {})})


def test_one_view_of_a_pair_keeps_the_channels_that_the_other_loses() -> None:
    torch.manual_seed(1)
    first, second = channel_factors(5, 64, torch.device("cpu")).chunk(2)
    assert torch.equal(first + second, torch.full((5, 64), 2.0))
    untouched = (first == 1).all(dim=1)
    assert untouched.sum() == 2  # half of 5, rounded down
    assert set(first[~untouched].unique().tolist()) == {0.0, 2.0}
    assert 0.3 < (first[~untouched] / 2).mean() < 0.7
    between, tokens, map_ = ChannelDropout(), torch.ones(6, 3, 8), torch.ones(6, 8, 2, 2)
    assert between(tokens) is tokens
    with between.of_pairs(2):
        dropped = between(tokens, dim=-1)
        assert torch.equal(dropped[:2], tokens[:2])  # labelled images
        assert torch.equal(dropped[2:4] + dropped[4:], torch.full((2, 3, 8), 2.0))
        assert torch.equal(between(map_)[..., 0, 0], dropped[:, 0])  # the same channels wherever there are as many
    with pytest.raises(VssError, match="no place between encoder and head"), between.of_pairs(2):
        pass


@pytest.mark.parametrize("name", ["light-resnet", "swin", "eomt", "pmt"])
def test_every_family_drops_channels_between_encoder_and_head(name: str) -> None:
    case = CONFIGS[name]
    network = build_network(case.config, 7, load_pretrained=False).eval()
    images = torch.randn(1, 3, *case.size(64, 96), generator=torch.Generator().manual_seed(1)).expand(3, -1, -1, -1)
    with torch.no_grad(), network.between.of_pairs(1):
        values = network.outputs(images).scores.values
    with torch.no_grad():
        plain = network.outputs(images[:1]).scores.values
    torch.testing.assert_close(values[:1], plain, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(values[1:2], plain, atol=1e-3)
    assert not torch.allclose(values[1:2], values[2:], atol=1e-3)


def test_a_teacher_labels_the_pixels_that_it_is_sure_of() -> None:
    logits = torch.tensor([0.0, 3.0, 0.0]).log_softmax(0).view(1, 3, 1, 1) + torch.zeros(1, 3, 2, 2)
    padding = torch.tensor([[[False, False], [False, True]]])
    probability = float(logits[0, 1, 0, 0].exp())
    labels, sure = sure_labels(Scores(logits, ScoreKind.LOGITS), padding, probability - 1e-4)
    assert labels.tolist() == [[[1, 1], [1, 255]]]
    assert sure.tolist() == [[[True, True], [True, False]]]
    assert not sure_labels(Scores(logits, ScoreKind.LOGITS), padding, probability + 1e-4)[1].any()


def test_views_are_mixed_as_their_labels_each_by_a_box_of_its_own() -> None:
    crops, size = 4, (12, 16)
    strong = torch.randint(0, 256, (crops, 2, 3, *size)).byte()
    labels = torch.randint(0, 5, (crops, *size)).byte()
    sure, padding = torch.rand(crops, *size) > 0.5, torch.rand(crops, *size) > 0.8
    weak = Crops(torch.zeros(crops, 3, *size, dtype=torch.uint8), torch.full_like(labels, 255), padding, strong=strong)
    torch.manual_seed(5)
    found = mixed_views(weak, Said(labels, sure), 1.0)
    torch.manual_seed(5)
    for view in (0, 1):
        boxes = [box_or_none(1.0, *size) for _ in range(crops)]
        partner = int(torch.randint(1, crops, ()))
        for crop, box in enumerate(boxes):
            assert box is not None
            place, other = view * crops + crop, (crop + partner) % crops
            image, label, known, outside = (part[crop].clone() for part in (strong[:, view], labels, sure, padding))
            image[:, box[0], box[1]] = strong[other, view][:, box[0], box[1]]
            for own, theirs in ((label, labels), (known, sure), (outside, padding)):
                own[box] = theirs[other][box]
            assert torch.equal(found.crops.images[place], image)
            assert torch.equal(found.crops.labels[place], label)
            assert torch.equal(found.crops.padding[place], outside)
            assert torch.equal(found.sure[place], known)
    assert torch.equal(mixed_views(weak, Said(labels, sure), 0.0).crops.images[:crops], strong[:, 0])


def test_boxes_cover_2_to_40_per_cent() -> None:
    torch.manual_seed(0)
    for _ in range(200):
        outside = stay_outside([box_or_none(1.0, 40, 60)], 40, 60, torch.device("cpu"))
        assert 0.015 < 1 - float(outside.float().mean()) < 0.42
    assert stay_outside([box_or_none(0.0, 40, 60)], 40, 60, torch.device("cpu")).all()


def test_strong_views_differ_in_colour_alone_and_stay_black_in_the_padding() -> None:
    torch.manual_seed(1)
    image = torch.randint(0, 256, (3, 16, 24)).byte()
    padding = torch.zeros(16, 24, dtype=torch.bool)
    padding[:, 20:] = True
    views = strong_views(image, padding, strong_colours())
    assert views.shape == (2, 3, 16, 24)
    assert not torch.equal(views[0], views[1])
    assert not views[..., padding].any()


def test_the_loss_is_the_mean_of_both_views_over_all_pixels_but_padding() -> None:
    torch.manual_seed(2)
    logits = torch.randn(6, 4, 8, 8, requires_grad=True)  # 3 pairs
    labels = torch.randint(0, 4, (6, 8, 8)).byte()
    padding, sure = torch.rand(6, 8, 8) > 0.7, torch.rand(6, 8, 8) > 0.4
    labels[padding] = 255
    sure &= ~padding
    crops = Crops(torch.zeros(6, 3, 8, 8), labels, padding)
    view = StepView(Crops(torch.zeros(1, 3, 8, 8), labels[:1], padding[:1]), crops, sure=sure)
    assert view.pairs == 3
    outputs = MapOutputs(Scores(logits, ScoreKind.LOGITS))
    settings = Unlabelled(method="unimatch", teacher="ema", weight=0.7)
    term = ConsistencyLoss(settings).term(objective.Said(view, outputs, outputs, 2))
    each = functional.cross_entropy(logits, labels.long(), ignore_index=255, reduction="none")
    parts = [(each * sure)[part].sum() / (~padding)[part].sum() for part in (slice(3), slice(3, None))]
    expected = (parts[0] + parts[1]) / 2
    torch.testing.assert_close(term.loss, expected)
    assert term.weight == pytest.approx(0.7 * 2 / 2)
    assert float(term.figures["reliable"]) == pytest.approx(float(sure.sum() / (~padding).sum()))
    (own,) = torch.autograd.grad(term.loss, logits, retain_graph=True)
    torch.testing.assert_close(own, torch.autograd.grad(expected, logits)[0])


def test_the_teacher_begins_as_the_mean_of_all_weights() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    average, seen = AveragedWeights(layer, 0.75, as_mean), []
    for step, value in enumerate((4.0, 2.0, 6.0, 8.0, 5.0), start=1):
        torch.nn.init.constant_(layer.weight, value)
        average.update(layer, step)
        seen.append(float(average.weights["weight"]))
    assert seen[:4] == pytest.approx([4.0, 3.0, 4.0, 5.0])
    assert seen[4] == pytest.approx(0.75 * 5.0 + 0.25 * 5.0)
    assert [min(as_mean(step), 0.996) for step in (1, 2, 250, 251)] == pytest.approx([0.0, 0.5, 0.996, 0.996])


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(None, id="light"),
        pytest.param({**SMALL, "queries": "decoder", "blocks": 2}, id="pmt", marks=pytest.mark.slow),
    ],
)
def test_it_trains_and_goes_on_bit_for_bit(tmp_path: Path, model: dict[str, Any] | None) -> None:
    begun = train(recipe_of(tmp_path / "data", None, model, steps=1), tmp_path / "first", device="cpu").last  # type: ignore[arg-type]
    recipe = recipe_of(tmp_path / "data", UNIMATCH, model, steps=4, checkpoint_every=2, batch_size=2)
    require_same_weights(recipe, tmp_path, init=begun)
    lines = [line for line in read_journal(tmp_path / "whole" / "journal.jsonl") if "loss_unsupervised" in line]
    for line in lines:
        layers = 1 if model is None else 3
        assert line["loss"] == pytest.approx((line["loss_supervised"] + layers * line["loss_unsupervised"]) / 2)


def test_what_is_of_the_other_method_is_refused(tmp_path: Path) -> None:
    for other, words in (
        ({"teacher": "store"}, "set teacher to ema"),
        ({"contrast": {}}, "contrast is of method paper"),
        ({"mixing": "cutmix"}, "mixing is of method paper"),
    ):
        with pytest.raises(ValidationError, match=words):
            Unlabelled.model_validate({**UNIMATCH, **other})
    with pytest.raises(VssError, match="method unimatch mixes"):
        train(recipe_of(tmp_path / "data", {**UNIMATCH, "batch_size": 1}), tmp_path / "run", device="cpu")
