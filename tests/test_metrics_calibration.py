"""Expected calibration error against a plain loop over the bins of Guo et al."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vsscli.metrics.calibration import BINS, CalibrationError

VOID = 255


def plainly(confidence: np.ndarray, right: np.ndarray) -> float:
    """The sum of equation 3, bin by bin, as the authors' temperature_scaling computes it."""
    error = 0.0
    for lower in range(BINS):
        inside = (confidence > lower / BINS) & (confidence <= (lower + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return error


@pytest.mark.parametrize("level", [None, 255])
def test_it_is_the_sum_over_bins(level: int | None) -> None:
    generator = np.random.default_rng(3)
    metric, confidences, rights = CalibrationError(5), [], []
    for _ in range(4):
        confidence = generator.random((30, 40)) ** 0.5
        if level:  # as a store keeps them: some lie on the edges of bins
            confidence = np.rint(confidence * level).clip(1) / level
        truth = generator.integers(0, 5, (30, 40)).astype(np.uint8)
        truth[generator.random(truth.shape) < 0.1] = VOID
        label = np.where(generator.random(truth.shape) < confidence**2, truth, (truth + 1) % 5).astype(np.uint8)
        metric.update(truth, label, {"confidence": confidence.astype(np.float32)})
        confidences.append(confidence[truth != VOID])
        rights.append((label == truth)[truth != VOID])
    confidence, right = np.concatenate(confidences), np.concatenate(rights)
    if level:  # in 255ths an edge is k * 17, exactly
        confidence = np.rint(confidence * level)
        bins = [(confidence > 17 * m) & (confidence <= 17 * (m + 1)) for m in range(BINS)]
        wanted = sum(b.mean() * abs(right[b].mean() - confidence[b].mean() / level) for b in bins if b.any())
    else:
        wanted = plainly(confidence, right)
    assert metric.figures() == {"ece": pytest.approx(wanted, abs=1e-7)}


def test_sure_and_right_is_0_sure_and_wrong_1_and_nothing_labelled_says_so() -> None:
    truth, sure = np.zeros((2, 3), np.uint8), {"confidence": np.ones((2, 3), np.float32)}
    for label, wanted in ((0, 0.0), (1, 1.0)):
        metric = CalibrationError(2)
        metric.update(truth, np.full_like(truth, label), sure)  # type: ignore[arg-type]
        assert metric.figures() == {"ece": wanted}
    empty = CalibrationError(2)
    empty.update(np.full_like(truth, VOID), truth, sure)  # type: ignore[arg-type]
    assert math.isnan(empty.figures()["ece"])
    assert empty.reasons() == ["no pixel that counts has a label in the ground truth"]
