"""Scores of every kind become a distribution, once."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vsscli.models.scores import Missing, ScoreKind, Scores, to_probabilities


def scores_of(kind: ScoreKind, seed: int, classes: int, scale: float) -> Scores:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(2, classes, 3, 4, generator=generator) * scale
    if kind is ScoreKind.PROBABILITIES:
        values = values.softmax(dim=1)
    if kind is ScoreKind.MASK_SCORES:
        values = values.abs()
        values[0, :, 0, 0] = 0.0  # a pixel that no query claims
    return Scores(values, kind)


@settings(deadline=None, max_examples=40)
@given(
    kind=st.sampled_from(list(ScoreKind)),
    seed=st.integers(0, 2**31),
    classes=st.integers(1, 130),
    scale=st.sampled_from([1e-7, 1e-3, 1.0, 30.0, 1e4]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_probabilities_sum_to_one_for_every_kind(
    kind: ScoreKind, seed: int, classes: int, scale: float, dtype: torch.dtype
) -> None:
    scores = scores_of(kind, seed, classes, scale)
    probabilities = to_probabilities(Scores(scores.values.to(dtype), kind))
    assert probabilities.dtype == torch.float32
    assert probabilities.shape == scores.values.shape
    assert (probabilities >= 0).all()
    torch.testing.assert_close(probabilities.sum(dim=1), torch.ones(2, 3, 4), atol=1e-5, rtol=0)


def test_logits_pass_through_a_softmax() -> None:
    # exp(log 3) : exp(0) = 3 : 1
    values = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    probabilities = to_probabilities(Scores(values, ScoreKind.LOGITS))
    assert probabilities.flatten().tolist() == pytest.approx([0.75, 0.25])


def test_mask_scores_are_divided_by_their_sum_and_not_softmaxed() -> None:
    values = torch.tensor([1.9, 0.05, 0.05]).view(1, 3, 1, 1)
    probabilities = to_probabilities(Scores(values, ScoreKind.MASK_SCORES))
    assert probabilities.flatten().tolist() == pytest.approx([0.95, 0.025, 0.025])


def test_probabilities_are_left_as_they_are() -> None:
    values = torch.tensor([0.2, 0.8]).view(1, 2, 1, 1)
    assert torch.equal(to_probabilities(Scores(values, ScoreKind.PROBABILITIES)), values)


def test_what_mask_scores_lack_is_spread_evenly() -> None:
    # A pixel that hardly any query claims is no sure one: 0.3 of 1, and the 0.7 for five classes.
    values = torch.tensor([0.24, 0.06, 0.0, 0.0, 0.0]).view(1, 5, 1, 1)
    scores = Scores(values, ScoreKind.MASK_SCORES)
    assert to_probabilities(scores).flatten().tolist() == pytest.approx([0.38, 0.2, 0.14, 0.14, 0.14])
    assert to_probabilities(scores, "normalise").flatten().tolist() == pytest.approx([0.8, 0.2, 0, 0, 0])


@pytest.mark.parametrize("total", [1.0, 1.7, 40.0])
def test_where_nothing_lacks_both_ways_are_one(total: float) -> None:
    values = torch.tensor([0.7, 0.2, 0.1]).mul(total).view(1, 3, 1, 1)
    scores = Scores(values, ScoreKind.MASK_SCORES)
    torch.testing.assert_close(to_probabilities(scores), to_probabilities(scores, "normalise"))


@pytest.mark.parametrize(("total", "missing"), [(0.0, "spread"), (0.0, "normalise"), (9e-7, "normalise")])
def test_a_pixel_without_mask_scores_is_uniform(total: float, missing: Missing) -> None:
    values = torch.tensor([total, 0.0, 0.0, 0.0]).view(1, 4, 1, 1)
    probabilities = to_probabilities(Scores(values, ScoreKind.MASK_SCORES), missing)
    assert probabilities.flatten().tolist() == [0.25] * 4


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 130), sharp=st.floats(0.3, 8))
def test_the_more_lacks_the_less_sure_and_the_order_stays(seed: int, classes: int, sharp: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    shares = (torch.randn(classes, generator=generator) * sharp).softmax(0)
    totals = torch.tensor([3.0, 1.0, 0.9, 0.5, 0.2, 0.01, 0.0])
    values = (totals[:, None] * shares).view(len(totals), classes, 1, 1)
    probabilities = to_probabilities(Scores(values, ScoreKind.MASK_SCORES))[..., 0, 0]
    entropy = -(probabilities * probabilities.clamp_min(1e-30).log()).sum(1)
    assert (entropy.diff() >= -1e-5).all()
    assert float(entropy[-1]) == pytest.approx(math.log(classes), abs=1e-4)
    likeliest = values[:-1].amax(1).flatten()
    chosen = values[:-1, :, 0, 0].gather(1, probabilities[:-1].argmax(1, keepdim=True))[:, 0]
    torch.testing.assert_close(chosen, likeliest, rtol=1e-3, atol=1e-6)  # rounding can put two classes level


def test_the_gradient_of_spread_scores_is_that_of_finite_differences() -> None:
    values = torch.tensor([[0.2, 0.1, 0.3], [0.9, 0.5, 0.4], [0.0, 0.0, 0.0]]).view(3, 3, 1, 1)
    weights = torch.tensor([0.3, -1.0, 2.0]).view(1, 3, 1, 1)

    def told(scores: torch.Tensor) -> torch.Tensor:
        return (to_probabilities(Scores(scores, ScoreKind.MASK_SCORES)) * weights).sum()

    variable = values.clone().requires_grad_()
    (found,) = torch.autograd.grad(told(variable), variable)
    for place in range(values.numel()):
        moved = [values.clone(), values.clone()]
        for step, one in zip((1e-2, -1e-2), moved, strict=True):
            one.view(-1)[place] += step
        expected = (told(moved[0]) - told(moved[1])) / 2e-2
        assert float(found.view(-1)[place]) == pytest.approx(float(expected), abs=2e-3)


def test_the_gradient_at_a_pixel_without_mask_scores_is_finite() -> None:
    values = torch.zeros(1, 3, 2, 2, requires_grad=True)
    to_probabilities(Scores(values, ScoreKind.MASK_SCORES)).square().sum().backward()
    assert torch.isfinite(values.grad).all()


@pytest.mark.parametrize("kind", list(ScoreKind))
def test_autocast_and_half_values_still_give_float32(kind: ScoreKind) -> None:
    scores = scores_of(kind, 3, 11, 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = to_probabilities(scores)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, to_probabilities(scores))
    halved = to_probabilities(Scores(scores.values.bfloat16(), kind))
    assert halved.dtype == torch.float32
    torch.testing.assert_close(halved, inside, atol=0.01, rtol=0)


def test_kinds_are_told_by_their_names() -> None:
    assert ScoreKind("mask_scores") is ScoreKind.MASK_SCORES
    assert [str(kind) for kind in ScoreKind] == ["logits", "probabilities", "mask_scores"]
