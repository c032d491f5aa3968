"""Boundary IoU: how well a prediction agrees with the ground truth near the boundaries of classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting, iou_of, mean_of


class BoundaryIoU(Metric):
    """Mean over the classes of the IoU of the pixels near their boundaries.

    Parameters
    ----------
    num_classes
        C.

    Notes
    -----
    Cheng, Girshick, Dollár, Berg, Kirillov, "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation",
    CVPR 2021: with G and P the pixels of a class in truth and prediction, and G_d and P_d those within d of its
    boundary, it is ``|(G_d ∩ G) ∩ (P_d ∩ P)| / |(G_d ∩ G) ∪ (P_d ∩ P)|``. As in the authors' `mask_to_boundary`
    (boundary-iou-api), d is 2 % of the image's diagonal in whole pixels, at least 1, distances are the larger of the
    vertical and the horizontal one, and the border of the image is a boundary.

    What the paper leaves open for semantic segmentation follows mIoU: intersections and unions are summed over all
    frames, the mean is over the classes in the ground truth, and void pixels are ignored. Where the truth is void the
    prediction is set to void, too, so that both have the same boundaries there.
    """

    names = ("biou",)
    titles = ("BIoU",)

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self._both, self._truth, self._label = (np.zeros(256, np.int64) for _ in range(3))

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        return cls(setting.num_classes)

    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        label = np.where(truth < self.num_classes, label, IGNORE)
        near, close = near_outline(truth), near_outline(label)
        self._both += np.bincount(truth[near & close & (truth == label)], minlength=256)
        self._truth += np.bincount(truth[near], minlength=256)
        self._label += np.bincount(label[close], minlength=256)

    def merge(self, other: BoundaryIoU) -> None:
        self._both += other._both
        self._truth += other._truth
        self._label += other._label

    def iou(self) -> np.ndarray:
        """(C,) float64, NaN for a class that is absent from the ground truth."""
        return iou_of(self._both, self._truth, self._label)[: self.num_classes]

    def figures(self) -> dict[str, float]:
        return {"biou": mean_of(self.iou())}

    def per_class(self) -> dict[str, np.ndarray]:
        return {"biou": self.iou()}


def near_outline(label: np.ndarray, ratio: float = 0.02) -> np.ndarray:
    """Which pixels of a label map (H, W) uint8 have another value or the image's border within a distance of d, bool.

    For each class these are the pixels that d erosions by a square of side 3 remove from its mask.
    """
    from scipy.ndimage import maximum_filter, minimum_filter

    height, width = label.shape
    reach = max(1, round(ratio * math.sqrt(height**2 + width**2)))
    side = 2 * reach + 1
    near: np.ndarray = maximum_filter(label, side, mode="nearest") != minimum_filter(label, side, mode="nearest")
    near[:reach], near[-reach:], near[:, :reach], near[:, -reach:] = True, True, True, True
    return near
