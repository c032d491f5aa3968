"""Expected calibration error: the difference between predicted probabilities and the share of pixels that are right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import numpy as np

from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting

BINS = 15

UNIT = 2**24
"""Confidences are summed up in whole units of 1/UNIT, the precision of float32: the order of frames does not matter."""


class CalibrationError(Metric):
    """Mean over the labelled pixels of the difference between confidence and accuracy of their bin.

    Parameters
    ----------
    num_classes
        C; pixels without a true class are ignored.
    bins
        M, the number of bins, which have equal width.

    Notes
    -----
    Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, equation 3: pixels are assigned
    to the bins ((m - 1) / M, m / M] by the probability of the predicted class, and ECE is the sum over bins of
    ``|B_m| / n * |accuracy(B_m) - confidence(B_m)|``, with M = 15 as in the paper. All labelled pixels of all frames
    are one sample. 0 is best.

    Stores keep probabilities as multiples of 1/255 (with `keep: compact` of 8/255), which limits the precision.
    """

    names = ("ece",)
    lower_is_better = True
    needs = ("confidence",)

    def __init__(self, num_classes: int, bins: int = BINS) -> None:
        self.num_classes = num_classes
        self._pixels, self._right = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
        self._confidence = np.zeros(bins, np.int64)

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        return cls(setting.num_classes)

    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        known = truth < self.num_classes
        confidence, right = extras["confidence"][known], (truth == label)[known]
        bins = len(self._pixels)
        # 255ths fall on the upper edges of bins, and a rounding error must not move them over.
        place = np.ceil(confidence.astype(np.float64) * bins - 1e-4).astype(np.intp).clip(1, bins) - 1
        self._pixels += np.bincount(place, minlength=bins)
        self._right += np.bincount(place[right], minlength=bins)
        units = np.bincount(place, np.rint(confidence.astype(np.float64) * UNIT), bins)
        self._confidence += units.astype(np.int64)  # exact: below 2**53

    def merge(self, other: CalibrationError) -> None:
        self._pixels += other._pixels
        self._right += other._right
        self._confidence += other._confidence

    def figures(self) -> dict[str, float]:
        total = self._pixels.sum()
        gaps = np.abs(self._right * UNIT - self._confidence)
        return {"ece": float(gaps.sum() / UNIT / total) if total else math.nan}
