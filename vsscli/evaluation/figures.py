"""What a score consists of: the metrics' names, and records of figures."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np

from vsscli.data.census import Census
from vsscli.errors import VssError

CONFUSION_METRICS = ("miou", "wiou", "acc", "class_acc")
DEFAULT_METRICS = ("miou", "wiou", "vc8", "vc16")


@dataclass(frozen=True)
class ClassFigure:
    """One class: its IoU (NaN if it is absent from the ground truth) and its pixels in the ground truth."""

    name: str
    iou: float
    pixels: int


@dataclass(frozen=True)
class VideoFigure:
    """One video: mean VC_n over its own windows (NaN if none counts), and where the least consistent window begins.

    Attributes
    ----------
    name, frames
        The video and its length.
    vc
        n to a fraction.
    worst
        n to (stem of the window's first frame, its consistency); without the n that have no window.
    """

    name: str
    frames: int
    vc: dict[int, float]
    worst: dict[int, tuple[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values, NaN as None."""
        scores = {f"vc{window}": _plain(value) for window, value in self.vc.items()}
        worst = {f"vc{window}": {"start": stem, "score": value} for window, (stem, value) in self.worst.items()}
        return {"name": self.name, "frames": self.frames, **scores, "worst": worst}


@dataclass(frozen=True)
class Counts:
    """What the figures rest on.

    Attributes
    ----------
    videos, frames
        Counted: those with masks.
    left_out
        Videos that the protocol leaves out.
    windows, empty_windows
        n to the windows that count, and those of them without a pixel that keeps its class.
    unmasked
        Frames that have no mask and count for nothing.
    bare_windows
        n to the windows that do not count because one of their frames has no mask.
    """

    videos: int
    frames: int
    left_out: int
    windows: dict[int, int]
    empty_windows: dict[int, int]
    unmasked: int = 0
    bare_windows: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Figures:
    """Scores of one prediction, fractions; NaN where there was nothing to score.

    Attributes
    ----------
    metrics
        What was asked for, in that order; only that is in `to_json`.
    protocol
        Name of the way of counting.
    miou, wiou, acc, class_acc
        Of the confusion matrix over all frames; NaN when none of them was asked for.
    vc
        n to VC_n.
    per_class, per_video
        Every class of the table; every counted video. `per_class` is empty when only VC was asked for.
    counts
        What the figures rest on.
    matrix
        (C, 256) pixels by class and predicted value; empty when only VC was asked for.
    census
        What the masks hold.
    """

    metrics: tuple[str, ...]
    protocol: str
    miou: float
    wiou: float
    acc: float
    class_acc: float
    vc: dict[int, float]
    per_class: tuple[ClassFigure, ...]
    per_video: tuple[VideoFigure, ...]
    counts: Counts
    matrix: np.ndarray = field(default_factory=lambda: np.zeros((0, 256), np.int64), compare=False, repr=False)
    census: Census = field(default_factory=Census, compare=False, repr=False)

    def value(self, metric: str) -> float:
        """One figure by its name, ``miou`` or ``vc8`` for example."""
        return self.vc[int(metric[2:])] if metric.startswith("vc") else float(getattr(self, metric))

    def reasons(self) -> list[str]:
        """Why figures that were asked for are NaN, a sentence for each reason."""
        told = []
        if any(name in CONFUSION_METRICS and math.isnan(self.value(name)) for name in self.metrics):
            told.append("no pixel that counts has a label in the ground truth")
        longest = max((video.frames for video in self.per_video), default=0)
        for window, value in self.vc.items():
            if f"vc{window}" not in self.metrics or not math.isnan(value):
                continue
            if self.counts.bare_windows.get(window) and not self.counts.windows[window]:
                what = f"each of its {self.counts.bare_windows[window]} windows holds a frame without a mask"
            elif not self.counts.windows[window]:
                what = f"the longest video that counts has {longest} frames, and VC{window} needs more than {window}"
            else:
                what = f"in no window of {window} frames a pixel keeps its class in the ground truth"
            told.append(f"nothing to average for VC{window}: {what}")
        return told

    def least_consistent_first(self) -> list[VideoFigure]:
        """The videos by their VC of the smallest n; those without a window that counts come last."""
        shortest = min(self.vc)
        return sorted(
            self.per_video, key=lambda video: (math.isnan(video.vc[shortest]), video.vc[shortest], video.name)
        )

    def to_json(self, *, per_class: bool = False, per_video: bool = False) -> dict[str, Any]:
        """Plain values for one JSON object: the metrics first, NaN as None.

        Parameters
        ----------
        per_class, per_video
            Add the tables by class and by video.
        """
        values: dict[str, Any] = {metric: _plain(self.value(metric)) for metric in self.metrics}
        values |= {"protocol": self.protocol, "videos": self.counts.videos, "frames": self.counts.frames}
        if self.counts.left_out:
            values["left_out"] = self.counts.left_out
        if self.counts.unmasked:
            values["without_mask"] = self.counts.unmasked
        if self.vc:
            values["windows"] = {f"vc{window}": count for window, count in self.counts.windows.items()}
        if per_class:
            values["per_class"] = [
                {"name": row.name, "iou": _plain(row.iou), "pixels": row.pixels} for row in self.per_class
            ]
        if per_video:
            values["per_video"] = [video.to_json() for video in self.per_video]
        return values


def parse_metrics(metrics: Sequence[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Check names of metrics.

    Returns
    -------
    tuple
        The names in lower case, each once, in the order given; and the n of every ``vcN`` among them, rising.

    Raises
    ------
    VssError
        On an unknown name, or none at all.
    """
    names = tuple(dict.fromkeys(name.lower() for name in metrics))
    known = (*CONFUSION_METRICS, "vc8", "vc16")
    if not names:
        raise VssError("no metric to score", f"name some of {', '.join(known)}")
    windows = []
    for name in names:
        if match := re.fullmatch(r"vc([1-9][0-9]{0,8})", name):
            windows.append(int(match[1]))
        elif name not in CONFUSION_METRICS:
            near = get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"metrics: {', '.join(known)} (vcN for any N)"
            raise VssError(f"no metric is called {name!r}", hint)
    return names, tuple(sorted(windows))


def _plain(value: float) -> float | None:
    """JSON knows no NaN."""
    return None if math.isnan(value) else float(value)
