"""Set-prediction losses have the official numbers when the official random numbers are drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask2former_samples import assert_same, detectron_head, mmseg_head, official
from torch import Tensor
from torch.nn import functional
from torch.testing import assert_close

from vsscli.errors import VssError
from vsscli.models.outputs import QueryPrediction
from vsscli.training.matching import MatchWeights, TargetMasks, match, target_masks
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings

POINTS = SetPredictionSettings(points=200)


def detectron_labels() -> Tensor:
    labels = torch.full((2, 64, 96), 255, dtype=torch.uint8)
    for image, target in enumerate(official("mask2former_head_d2")["targets"]):
        for present, mask in zip(target["labels"], target["masks"], strict=True):
            labels[image][mask] = int(present)
    return labels


def detectron_layers() -> list[QueryPrediction]:
    """The official predictions, the last layer first as its criterion takes them."""
    numbers = official("mask2former_head_d2")
    return [QueryPrediction(part["pred_logits"], part["pred_masks"]) for part in (numbers, *numbers["aux_outputs"])]


class TestDetectron:
    def test_all_losses_of_all_layers_from_the_official_seed(self) -> None:
        numbers = official("mask2former_head_d2")
        torch.manual_seed(numbers["torch_seed_before_criterion"])
        losses = SetPredictionLoss(POINTS)(detectron_layers(), detectron_labels())
        for layer, end in enumerate(["", "_0", "_1", "_2", "_3"]):
            for part, name in ((losses.classes, "ce"), (losses.masks, "mask"), (losses.dice, "dice")):
                assert_same(part[layer], numbers["losses"][f"loss_{name}{end}"])
        assert_same(losses.total, numbers["total"])

    def test_gradients_of_all_parameters(self) -> None:
        numbers = official("mask2former_head_d2")
        head, maps = detectron_head()
        layers = head(maps).layers
        torch.manual_seed(numbers["torch_seed_before_criterion"])
        SetPredictionLoss(POINTS)([layers[-1], *layers[:-1]], detectron_labels()).total.backward()
        norms = {name: parameter.grad.norm() for name, parameter in head.pixel_decoder.named_parameters()}
        norms |= {f"td.{name}": parameter.grad.norm() for name, parameter in head.predictor.named_parameters()}
        assert_close({name: float(norm) for name, norm in norms.items()}, numbers["grad_norms"], atol=1e-5, rtol=1e-4)

    def test_the_last_layer_from_its_logged_draws(self) -> None:
        numbers = official("mask2former_head_d2")
        log: Iterator[Tensor] = iter(numbers["rand_log_last_layer"])

        def replay(shape: tuple[int, int, int], device: torch.device) -> Tensor:
            drawn = next(log)
            assert drawn.shape == shape
            return drawn

        losses = SetPredictionLoss(POINTS, replay)(detectron_layers()[:1], detectron_labels())
        assert_same(losses.masks[0], numbers["losses"]["loss_mask"])
        assert_same(losses.dice[0], numbers["losses"]["loss_dice"])
        assert next(log, None) is None

    def test_queries_are_matched_as_officially(self) -> None:
        numbers = official("mask2former_head_d2")
        points = [draw[0] for draw in numbers["rand_log_last_layer"][:2]]
        targets = target_masks(detectron_labels(), 7)
        (found,) = match(detectron_layers()[:1], targets, [points], MatchWeights())
        expected = [
            (image, int(query), int(numbers["targets"][image]["labels"][target]))
            for image, pairs in enumerate(numbers["match_indices"])
            for query, target in zip(*pairs, strict=True)
        ]
        assert torch.stack([found.image, found.query, found.target_class], dim=1).tolist() == [*map(list, expected)]


def test_mmsegmentation_has_the_same_losses_with_the_last_layer_last() -> None:
    # Its losses are those of training mode. The backbone's maps in that mode (batch norms over the batch) are not among
    # the official numbers: they are those of our own backbone, which has the official numbers in evaluation mode.
    numbers = official("full_vitadapter_mmseg")
    head, names = mmseg_head()
    layers = head(official("vitadapter_training_maps")).layers
    torch.manual_seed(123)
    losses = SetPredictionLoss(POINTS)(layers, numbers["train_label"])
    for layer, start in enumerate(["d0.", "d1.", "d2.", "d3.", ""]):
        # There the parts are reported with their weights.
        for part, name in ((2 * losses.classes, "cls"), (5 * losses.masks, "mask"), (5 * losses.dice, "dice")):
            assert_same(part[layer], numbers["losses_seed123"][f"decode.{start}loss_{name}"].squeeze())
    assert_same(losses.total, numbers["loss_total"][0])
    losses.total.backward()
    norms = {names[name]: float(parameter.grad.norm()) for name, parameter in head.named_parameters()}
    expected = {name: norm for name, norm in numbers["grad_norms"].items() if name.startswith("decode_head.")}
    assert_close(norms, expected, atol=1e-5, rtol=1e-4)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 7), width=st.integers(1, 7), classes=st.integers(1, 4), seed=st.integers(0, 2**31))
def test_a_mask_is_sampled_from_the_label_map_as_grid_sample_would(
    height: int, width: int, classes: int, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes + 1, (1, height, width), generator=random).to(torch.uint8)
    labels[labels == classes] = 255
    points = torch.rand(1, 50, 2, generator=random)
    masks = (labels == torch.arange(classes)[:, None, None]).float()
    expected = functional.grid_sample(masks[None], 2.0 * points[:, None] - 1.0, align_corners=False)[0, :, 0]
    ours = TargetMasks(labels, ()).sample(0, points[0, :, None], torch.arange(classes)).T
    assert_close(ours, expected, atol=1e-5, rtol=0)


def test_a_pixel_without_label_is_outside_every_mask() -> None:
    labels = torch.tensor([[[0, 255], [0, 255]]], dtype=torch.uint8)
    # The query claims the whole image; half of it has no label, which counts as wrong: 30 for half of the points.
    prediction = QueryPrediction(torch.tensor([[[9.0, 0.0]]]), torch.full((1, 1, 2, 2), 30.0))
    points = torch.tensor([[0.25, 0.5], [0.75, 0.5]])

    def draw(shape: tuple[int, int, int], device: torch.device) -> Tensor:
        return points.repeat(shape[1] // 2, 1).expand(shape)

    settings_ = SetPredictionSettings(points=2, oversample=1.0, uncertain=0.0)
    losses = SetPredictionLoss(settings_, draw)([prediction], labels)
    assert losses.masks.item() == pytest.approx(15.0)
    assert losses.dice.item() == pytest.approx(1.0 - (2.0 + 1.0) / (3.0 + 1.0))


def sample_layers(batch: int, queries: int, classes: int) -> list[QueryPrediction]:
    torch.manual_seed(3)
    drawn = [(torch.randn(batch, queries, classes + 1), torch.randn(batch, queries, 8, 8).mul(5)) for _ in range(2)]
    return [QueryPrediction(logits.requires_grad_(), masks.requires_grad_()) for logits, masks in drawn]


def test_a_batch_without_any_label_still_has_a_gradient() -> None:
    layers = sample_layers(2, 5, 3)
    losses = SetPredictionLoss(POINTS)(layers, torch.full((2, 16, 16), 255, dtype=torch.uint8))
    losses.total.backward()
    assert losses.masks.tolist() == losses.dice.tolist() == [0.0, 0.0]
    # Every query should have said "no object".
    expected = functional.cross_entropy(layers[0].class_logits.flatten(0, 1), torch.full((10,), 3))
    assert losses.classes[0].item() == pytest.approx(expected.item(), rel=1e-6)
    assert all(layer.mask_logits.grad is not None and not layer.mask_logits.grad.any() for layer in layers)


def test_an_image_with_more_masks_than_queries_uses_every_query() -> None:
    labels = torch.arange(6, dtype=torch.uint8).repeat_interleave(4)[None, None].expand(1, 8, -1)
    targets = target_masks(labels, 6)
    layers = sample_layers(1, 4, 6)
    points = [[torch.rand(50, 2)] for _ in layers]
    for found in match(layers, targets, points, MatchWeights()):
        assert found.query.tolist() == [0, 1, 2, 3]
        assert len(set(found.target_class.tolist())) == 4
    assert SetPredictionLoss(POINTS)(layers, labels).total.isfinite()


def test_losses_are_means_over_what_all_processes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)  # one mask
    layers = sample_layers(1, 5, 3)
    torch.manual_seed(1)
    alone = SetPredictionLoss(POINTS)(layers, labels)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(4.0))  # the other process has four
    torch.manual_seed(1)
    shared = SetPredictionLoss(POINTS)(layers, labels)
    assert_close(shared.masks, alone.masks / 2.5)
    assert_close(shared.dice, alone.dice / 2.5)
    # Four of five queries are matched to nothing, with a weight of 0.1: 1.4 of a mean of (1.4 + 4) / 2.
    assert_close(shared.classes, alone.classes * (1.4 / 2.7))


def test_bfloat16_predictions_have_losses_of_float32() -> None:
    exact = sample_layers(2, 5, 3)
    labels = torch.randint(0, 3, (2, 16, 16), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    layers = [QueryPrediction(layer.class_logits.bfloat16(), layer.mask_logits.bfloat16()) for layer in exact]
    with torch.autocast("cpu", torch.bfloat16):
        losses = SetPredictionLoss(POINTS)(layers, labels)
    losses.total.backward()
    assert losses.total.dtype is torch.float32
    assert losses.total.isfinite()
    assert all(layer.mask_logits.grad is not None and layer.mask_logits.grad.isfinite().all() for layer in exact)


def test_a_network_gone_to_pieces_has_a_loss_that_says_so() -> None:
    layers = [QueryPrediction(layer.class_logits * torch.nan, layer.mask_logits) for layer in sample_layers(1, 5, 3)]
    losses = SetPredictionLoss(POINTS)(layers, torch.zeros(1, 8, 8, dtype=torch.uint8))
    assert losses.total.isnan()


def test_a_label_that_is_no_class_is_refused() -> None:
    labels = torch.tensor([[[0, 255], [9, 2]]], dtype=torch.uint8)
    with pytest.raises(VssError, match="value 9; the network knows 3 classes"):
        SetPredictionLoss(POINTS)(sample_layers(1, 5, 3), labels)


def test_settings_that_leave_no_points_are_refused() -> None:
    with pytest.raises(VssError, match="invalid set prediction loss"):
        SetPredictionSettings(points=0)
