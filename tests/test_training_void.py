"""Pixels without a label are outside every mask, as published, or not compared at all."""

from __future__ import annotations

import math
from itertools import permutations

import pytest
import torch
from torch import Tensor

from vsscli.models.outputs import MaskOutputs, QueryPrediction
from vsscli.recipes.load import load_recipe
from vsscli.training.matching import Matches, MatchWeights, TargetMasks, match, match_costs, sample_points, target_masks
from vsscli.training.objectives.labels import supervised_loss
from vsscli.training.set_prediction import LayerDraws, SetPredictionLoss, SetPredictionSettings

NEGATIVE = SetPredictionSettings(points=60)
IGNORED = SetPredictionSettings(points=60, void="ignored")
CLASSES = 3
WEIGHTS = MatchWeights()


def sample_layers(batch: int, count: int = 2, seed: int = 3) -> list[QueryPrediction]:
    torch.manual_seed(seed)
    drawn = [(torch.randn(batch, 5, CLASSES + 1), torch.randn(batch, 5, 6, 7).mul(5)) for _ in range(count)]
    return [QueryPrediction(logits.requires_grad_(), masks.requires_grad_()) for logits, masks in drawn]


def sample_labels(batch: int, void: float, seed: int = 4) -> Tensor:
    """Blocks of classes, a share of them void."""
    random = torch.Generator().manual_seed(seed)
    blocks = torch.randint(0, CLASSES, (batch, 4, 5), generator=random).to(torch.uint8)
    blocks[torch.rand(blocks.shape, generator=random) < void] = 255
    return blocks.repeat_interleave(3, dim=1).repeat_interleave(3, dim=2)[:, :11, :13]


def losses_of(layers: list[QueryPrediction], labels: Tensor, settings: SetPredictionSettings) -> tuple[Tensor, ...]:
    """Losses, and the gradients of all predictions, from one seed."""
    torch.manual_seed(7)
    losses = SetPredictionLoss(settings)(layers, labels)
    inputs = [part for layer in layers for part in layer]
    return losses.classes, losses.masks, losses.dice, losses.total, *torch.autograd.grad(losses.total, inputs)


class Reference:
    """One image, in Python's floats and plain loops: each point, each of the pixels around it."""

    def __init__(self, labels: Tensor, weights: Tensor | None = None) -> None:
        self.labels = [[int(value) for value in row] for row in labels]
        self.weights = (torch.ones(labels.shape) if weights is None else weights).tolist()
        self.height, self.width = labels.shape

    def point(self, x: float, y: float, wanted: int) -> tuple[float, float]:
        """The share of a class in a point, and the weight of the point."""
        column, row = x * self.width - 0.5, y * self.height - 0.5
        mask = counted = inside = 0.0
        for i in (math.floor(row), math.floor(row) + 1):
            for j in (math.floor(column), math.floor(column) + 1):
                if 0 <= i < self.height and 0 <= j < self.width:
                    share = (1 - abs(row - i)) * (1 - abs(column - j))
                    weight = 0.0 if self.labels[i][j] == 255 else self.weights[i][j]
                    inside += share
                    mask += share * weight * (self.labels[i][j] == wanted)
                    counted += share * weight
        return mask, counted / inside

    def compare(self, logits: Tensor, points: Tensor, wanted: int) -> tuple[float, float]:
        """Cross-entropy and dice of one mask: logits (P,), points (P, 2)."""
        entropy = overlap = claimed = there = number = 0.0
        for logit, (x, y) in zip(logits.tolist(), points.tolist(), strict=True):
            mask, counts = self.point(x, y, wanted)
            inside = 1 / (1 + math.exp(-logit))
            entropy -= mask * math.log(inside) + (counts - mask) * math.log(1 - inside)
            overlap += 2 * inside * mask
            claimed, there, number = claimed + counts * inside, there + mask, number + counts
        return entropy / max(number, 1.0), 1 - (overlap + 1) / (claimed + there + 1)

    def counts(self, points: Tensor) -> list[float]:
        return [self.point(x, y, 0)[1] for x, y in points.tolist()]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("void", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("weighed", [False, True])
def test_losses_are_those_of_plain_loops_with_importance_sampling(batch: int, void: float, weighed: bool) -> None:
    layers, labels = sample_layers(batch), sample_labels(batch, void)
    weights = 0.1 + 0.9 * torch.rand(labels.shape) if weighed else None
    draws: list[LayerDraws] = []

    class Noting(SetPredictionLoss):
        def _draw(self, layer: QueryPrediction, targets: TargetMasks) -> LayerDraws:
            draws.append(super()._draw(layer, targets))
            return draws[-1]

    losses = Noting(IGNORED)(layers, labels, weights=weights)
    references = [Reference(image, None if weights is None else weights[i]) for i, image in enumerate(labels)]
    targets = target_masks(labels, CLASSES, "ignored")
    masks_of_batch = max(1, sum(len(present) for present in targets.classes))
    for number, (layer, draw) in enumerate(zip(layers, draws, strict=True)):
        found = matched_by_trying_all(layer, targets, draw, references)
        entropy = dice = 0.0
        for mask, (image, query, wanted) in enumerate(found):
            of_query = layer.mask_logits[image, query].detach()[None, None]
            candidates, plain = draw.candidates[mask], draw.plain[mask]
            logits = sample_points(of_query, candidates[None])[0, 0]
            counts = references[image].counts(candidates)
            # The unsure ones first, whatever is void last.
            order = sorted(range(len(counts)), key=lambda i: (counts[i] < 1e-6, abs(float(logits[i]))))
            points = torch.cat([candidates[order[: 60 - len(plain)]], plain])
            one = references[image].compare(sample_points(of_query, points[None])[0, 0], points, wanted)
            entropy, dice = entropy + one[0], dice + one[1]
        assert losses.masks[number].item() == pytest.approx(entropy / masks_of_batch, rel=1e-4)
        assert losses.dice[number].item() == pytest.approx(dice / masks_of_batch, rel=1e-4)


def matched_by_trying_all(
    layer: QueryPrediction, targets: TargetMasks, draw: LayerDraws, references: list[Reference]
) -> list[tuple[int, int, int]]:
    """Image, query and class of all matches: the assignment of least cost among all."""
    found = []
    for image, present in enumerate(targets.classes):
        points = draw.matching[image]
        logits = sample_points(layer.mask_logits[image][None].detach(), points[None])[0]
        shares = layer.class_logits[image].detach().softmax(dim=-1)
        cost = {
            (query, wanted): 5 * sum(references[image].compare(logits[query], points, wanted))
            - 2 * float(shares[query, wanted])
            for query in range(5)
            for wanted in present
        }
        ways = [list(zip(queries, present, strict=True)) for queries in permutations(range(5), len(present))]
        best = ways[int(torch.tensor([sum(cost[pair] for pair in way) for way in ways]).argmin())]
        found += sorted((image, query, wanted) for query, wanted in best)
    return found


@pytest.mark.parametrize("batch", [1, 2])
def test_costs_are_those_of_plain_loops(batch: int) -> None:
    layers, labels = sample_layers(batch), sample_labels(batch, 0.4)
    targets = target_masks(labels, CLASSES, "ignored")
    points = [[torch.rand(40, 2) for _ in range(batch)] for _ in layers]
    costs = match_costs(layers, targets, points, MatchWeights(classes=0.0))
    for layer, places, found in zip(layers, points, costs, strict=True):
        for image, present in enumerate(targets.classes):
            logits = sample_points(layer.mask_logits[image][None].detach(), places[image][None])[0]
            for query in range(5):
                for place, wanted in enumerate(present):
                    expected = 5 * sum(Reference(labels[image]).compare(logits[query], places[image], wanted))
                    assert found[image][query, place].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("batch", [1, 2])
def test_pixels_that_all_weigh_1_are_as_without_weights(batch: int) -> None:
    layers, labels = sample_layers(batch), sample_labels(batch, 0.4)
    losses = []
    for weights in (None, torch.ones(labels.shape)):
        torch.manual_seed(7)
        losses.append(SetPredictionLoss(IGNORED)(layers, labels, weights=weights).total)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch", [1, 2])
def test_where_nothing_is_void_both_are_the_same_to_the_bit(batch: int) -> None:
    layers, labels = sample_layers(batch), sample_labels(batch, 0.0)
    for negative, ignored in zip(losses_of(layers, labels, NEGATIVE), losses_of(layers, labels, IGNORED), strict=True):
        assert torch.equal(negative, ignored)


def test_an_image_without_void_is_the_same_beside_one_with_void() -> None:
    layers = sample_layers(2)
    labels = torch.cat([sample_labels(1, 0.0), sample_labels(1, 0.5, seed=5)])
    torch.manual_seed(7)
    points = [[torch.rand(50, 2) for _ in range(2)] for _ in layers]
    negative, ignored = (target_masks(labels, CLASSES, void) for void in ("negative", "ignored"))
    for ours, theirs in zip(
        *(match_costs(layers, targets, points, WEIGHTS) for targets in (negative, ignored)), strict=True
    ):
        assert torch.equal(ours[0], theirs[0])
        assert not torch.equal(ours[1], theirs[1])
    first = negative.classes[0]
    of_first = Matches(torch.zeros(len(first), dtype=torch.int64), torch.arange(len(first)), torch.tensor(first))
    draws = [LayerDraws([], torch.rand(len(first), 180, 2), torch.rand(len(first), 15, 2)) for _ in layers]
    both = [
        SetPredictionLoss(settings).mask_losses(layers, targets, [of_first] * len(layers), draws)
        for settings, targets in ((NEGATIVE, negative), (IGNORED, ignored))
    ]
    assert torch.equal(both[0][0], both[1][0])
    assert torch.equal(both[0][1], both[1][1])


def test_random_numbers_are_drawn_alike() -> None:
    layers, labels = sample_layers(2), sample_labels(2, 0.4)
    drawn: dict[str, list[Tensor]] = {"negative": [], "ignored": []}
    for settings in (NEGATIVE, IGNORED):
        torch.manual_seed(1)

        def draw(shape: tuple[int, int, int], device: torch.device) -> Tensor:
            numbers = torch.rand(shape, device=device)
            drawn[settings.void].append(numbers)  # noqa: B023
            return numbers

        SetPredictionLoss(settings, draw)(layers, labels)
    assert all(torch.equal(*pair) for pair in zip(drawn["negative"], drawn["ignored"], strict=True))


def test_what_masks_say_of_void_changes_nothing() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.uint8)
    labels[:, :, 8:] = 255
    layers = sample_layers(1)
    expected = losses_of(layers, labels, SetPredictionSettings(points=60, uncertain=0.0, void="ignored"))
    for gradient in expected[5::2]:  # of masks: those at stride 2.67, columns 0 to 3 are near labels
        assert gradient[..., :3].any()
        assert not gradient[..., 5:].any()
    for layer in layers:
        layer.mask_logits.data[..., 5:] = -30.0
    for one, other in zip(
        expected,
        losses_of(layers, labels, SetPredictionSettings(points=60, uncertain=0.0, void="ignored")),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.parametrize("batch", [1, 2])
def test_an_image_of_nothing_but_void_has_a_loss_and_gradients(batch: int) -> None:
    layers, labels = sample_layers(batch), sample_labels(batch, 0.0)
    labels[0] = 255
    for value in losses_of(layers, labels, IGNORED):
        assert value.isfinite().all()
    assert not losses_of(layers, labels, IGNORED)[5][0].any()


def test_a_mask_all_of_whose_points_are_void_adds_nothing() -> None:
    labels = torch.full((1, 16, 16), 255, dtype=torch.uint8)
    labels[0, 0, 0] = 1
    void = torch.tensor([0.8, 0.8])

    def draw(shape: tuple[int, int, int], device: torch.device) -> Tensor:
        return void.expand(shape)

    layers = sample_layers(1)
    losses = SetPredictionLoss(IGNORED, draw)(layers, labels)
    assert losses.masks.tolist() == losses.dice.tolist() == [0.0, 0.0]
    losses.total.backward()
    assert all(layer.mask_logits.grad is not None and not layer.mask_logits.grad.any() for layer in layers)


def test_queries_are_not_chosen_for_staying_out_of_void() -> None:
    # The left half is class 0, nothing is known of the right one. Query 0 claims all of the picture, and nearly all of
    # the left half; query 1 somewhat less of it, and nothing of the right one.
    labels = torch.zeros(1, 8, 8, dtype=torch.uint8)
    labels[..., 4:] = 255
    masks = torch.full((1, 2, 8, 8), 6.0)
    masks[0, 1, :, 4:] = -6.0
    masks[0, 1, :2, :] = -6.0
    layer = QueryPrediction(torch.zeros(1, 2, 2), masks)
    points = [[torch.rand(200, 2, generator=torch.Generator().manual_seed(0))]]
    (negative,) = match([layer], target_masks(labels, 1), points, WEIGHTS)
    (ignored,) = match([layer], target_masks(labels, 1, "ignored"), points, WEIGHTS)
    assert (negative.query.tolist(), ignored.query.tolist()) == ([1], [0])


def test_a_point_beside_void_counts_in_part_and_one_at_the_edge_whole() -> None:
    targets = TargetMasks(torch.tensor([[[0, 255]]], dtype=torch.uint8), ((0,),), "ignored")
    points = torch.tensor([[0.0, 0.5], [0.25, 0.1], [0.5, 0.5], [0.75, 0.5], [1.0, 1.0]])
    counted = targets.counted(0, points)
    assert counted is not None
    assert counted.tolist() == [1.0, 1.0, 0.5, 0.0, 0.0]
    assert TargetMasks(targets.labels, ((0,),)).counted(0, points) is None


@pytest.mark.parametrize("batch", [1, 2])
def test_points_within_void_are_those_that_do_not_count(batch: int) -> None:
    targets = target_masks(sample_labels(batch, 0.6), CLASSES, "ignored")
    image, points = torch.arange(batch)[:, None], torch.rand(batch, 2000, 2)
    counted, within = targets.counted(image, points), targets.within_void(image, points)
    assert counted is not None
    assert within is not None
    assert torch.equal(within, counted == 0)
    assert 0 < within.sum() < within.numel()


def test_bfloat16_predictions_have_losses_of_float32() -> None:
    exact = sample_layers(2)
    layers = [QueryPrediction(layer.class_logits.bfloat16(), layer.mask_logits.bfloat16()) for layer in exact]
    with torch.autocast("cpu", torch.bfloat16):
        losses = SetPredictionLoss(IGNORED)(layers, sample_labels(2, 0.5))
    assert losses.total.dtype is torch.float32
    assert losses.total.isfinite()


def test_gradients_are_those_of_finite_differences() -> None:
    labels = sample_labels(1, 0.4)
    layers = sample_layers(1, count=1)
    # Every point is a plain one, so that no choice changes when a logit moves.
    settings = SetPredictionSettings(points=60, oversample=1.0, uncertain=0.0, void="ignored")
    gradient = losses_of(layers, labels, settings)[5]
    place = tuple(int(index) for index in (gradient.abs() == gradient.abs().max()).nonzero()[0])
    totals = []
    for change in (-0.05, 0.05):
        moved = layers[0].mask_logits.detach().clone()
        moved[place] += change
        totals.append(losses_of([QueryPrediction(layers[0].class_logits, moved.requires_grad_())], labels, settings)[3])
    assert float(gradient[place]) == pytest.approx((totals[1] - totals[0]).item() / 0.1, rel=0.02)


def test_the_default_is_the_published_one_and_the_choice_arrives_at_the_loss() -> None:
    assert load_recipe("teacher").train.void == "negative"
    assert SetPredictionSettings().void == "negative"
    layers, labels = sample_layers(2), sample_labels(2, 0.4)
    outputs = MaskOutputs(tuple(layers), torch.zeros(2, 1, 6, 7))
    for void in ("negative", "ignored"):
        torch.manual_seed(7)
        loss = supervised_loss(outputs, labels, void)
        torch.manual_seed(7)
        assert torch.equal(loss, SetPredictionLoss(SetPredictionSettings(void=void))(layers, labels).total)
