"""Temporal consistency: how well predictions agree with those of the previous frame, moved by the optical flow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.data.flow import flow, small_grey
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting, VideoFigures


class WarpedConsistency(Metric):
    """mIoU of each prediction with the previous one, moved by the optical flow.

    Parameters
    ----------
    num_classes
        C.

    Notes
    -----
    TC of Liu, Shen, Yu, Wang, "Efficient Semantic Video Segmentation with Per-frame Inference", ECCV 2020. All pairs of
    neighbouring frames of all videos are counted in one confusion matrix, and the mean is over the classes that are
    predicted, as in VSPW's `TC_cal.py`. The prediction need not be correct to be consistent.

    Pixels that the flow can't explain, since they were occluded or outside of the previous frame, are left out, as Lai
    et al. 2018 ("Learning Blind Video Temporal Consistency") leave out occluded ones; `notes` has the share of pixels
    that were followed. The flow is that of `data.flow`, not FlowNet or RAFT as in the publications, so compare figures
    only with others of this program.
    """

    names = ("tc",)
    needs = ("image",)
    of_classes = False
    without_truth = True
    gaps = "TC counts only pairs of neighbours that both have one"

    def __init__(self, num_classes: int) -> None:
        self._total = ConfusionMatrix(num_classes)
        self._video = ConfusionMatrix(num_classes)
        self._videos: list[VideoFigures] = []
        self._pixels = 0

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        return cls(setting.num_classes)

    def start_video(self, length: int) -> None:
        self._video = ConfusionMatrix(self._total.num_classes)
        self._before: tuple[np.ndarray, np.ndarray] | None = None
        self._frame = 0
        self._worst: dict[str, tuple[int, float]] = {}

    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        grey = small_grey(extras["image"])
        if self._before is not None:
            self._compare(grey, label, *self._before)
        self._before = grey, label.copy()
        self._frame += 1

    def _compare(self, grey: np.ndarray, label: np.ndarray, grey_before: np.ndarray, before: np.ndarray) -> None:
        places, trusted = flow(grey, grey_before, label.shape)
        pair = ConfusionMatrix(self._total.num_classes)
        pair.update(np.where(trusted, label.reshape(-1), IGNORE), before.reshape(-1)[places])
        self._video.merge(pair)
        self._pixels += label.size
        if pair.miou < self._worst.get("tc", (0, math.inf))[1]:
            self._worst["tc"] = self._frame - 1, pair.miou

    def skip(self) -> None:
        self._before = None
        self._frame += 1

    def end_video(self, name: str) -> None:
        self._before = None
        self._videos.append(VideoFigures({"tc": self._video.miou}, self._worst))
        self._total.merge(self._video)

    def merge(self, other: WarpedConsistency) -> None:
        self._total.merge(other._total)
        self._videos += other._videos
        self._pixels += other._pixels

    def figures(self) -> dict[str, float]:
        return {"tc": self._total.miou}

    def reasons(self) -> list[str]:
        if self.figures()["tc"] == self.figures()["tc"]:
            return []
        what = "no pixel could be followed" if self._pixels else "no two frames that count are neighbours"
        return [f"nothing to average for TC: {what}"]

    def notes(self) -> dict[str, Any]:
        followed = int(self._total.pixels.sum()) / self._pixels if self._pixels else None
        return {"followed": followed}

    def per_video(self) -> list[VideoFigures]:
        return self._videos
