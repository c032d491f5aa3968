"""Boundary IoU against the published method: erode each class's mask, and take the difference."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter

from vsscli.metrics.boundary import BoundaryIoU, near_outline

CLASSES, VOID = 4, 255


def areas(seed: int, size: tuple[int, int], classes: int = CLASSES) -> np.ndarray:
    fields = np.random.default_rng(seed).standard_normal((classes, *size))
    return gaussian_filter(fields, (0, 5, 5)).argmax(axis=0).astype(np.uint8)


def eroded_away(mask: np.ndarray, ratio: float = 0.02) -> np.ndarray:
    """As `mask_to_boundary` of boundary-iou-api does with OpenCV."""
    height, width = mask.shape
    distance = max(1, round(ratio * np.sqrt(height**2 + width**2)))
    inner = binary_erosion(np.pad(mask, 1), np.ones((3, 3)), iterations=distance)[1:-1, 1:-1]
    return mask & ~inner


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (40, 60), (90, 131), (240, 427)])
def test_the_outlines_of_all_classes_at_once_are_those_of_each_mask(size: tuple[int, int]) -> None:
    label = areas(1, size)
    near = near_outline(label)
    for index in range(CLASSES):
        np.testing.assert_array_equal(near & (label == index), eroded_away(label == index))


def test_it_is_the_mean_over_classes_of_sums_over_frames() -> None:
    metric = BoundaryIoU(CLASSES)
    both, either = np.zeros(CLASSES), np.zeros(CLASSES)
    for seed in range(3):
        truth = areas(seed, (90, 131), CLASSES - 1)  # the last class is predicted only
        truth[:20, 30:70] = VOID
        label = np.where(np.random.default_rng(seed).random(truth.shape) < 0.02, 3, np.roll(truth, 2, axis=1))
        label[label == VOID] = 1
        label[50, :9] = VOID  # no class: wrong
        label = label.astype(np.uint8)
        metric.update(truth, label)
        for index in range(CLASSES):
            ours = eroded_away((label == index) & (truth != VOID))
            theirs = eroded_away(truth == index)
            both[index] += (ours & theirs).sum()
            either[index] += (ours | theirs).sum()
    iou = both[:-1] / either[:-1]
    np.testing.assert_allclose(metric.per_class()["biou"], [*iou, math.nan], rtol=1e-12)
    assert metric.figures() == {"biou": pytest.approx(iou.mean(), rel=1e-12)}
    assert metric.reasons() == []


def test_what_is_right_scores_1_beside_void_too_and_nothing_labelled_says_so() -> None:
    metric = BoundaryIoU(CLASSES)
    right = areas(5, (40, 60))
    truth = right.copy()
    truth[10:30, 10:30] = VOID
    metric.update(truth, right)
    assert metric.figures() == {"biou": 1.0}
    empty = BoundaryIoU(CLASSES)
    empty.update(np.full((4, 4), VOID, np.uint8), np.zeros((4, 4), np.uint8))
    assert math.isnan(empty.figures()["biou"])
    assert empty.reasons() == ["no pixel that counts has a label in the ground truth"]
