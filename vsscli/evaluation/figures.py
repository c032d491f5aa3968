"""Records of figures: what a score consists of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vsscli.data.census import Census


@dataclass(frozen=True)
class ScoredVideo:
    """One video: its own figures (NaN if nothing counts), and where it is worst.

    Attributes
    ----------
    name, frames
        The video and its length.
    values
        Metric to figure.
    worst
        Metric to (stem of the frame from which on it is worst, the figure there); without what has no such place.
    """

    name: str
    frames: int
    values: dict[str, float]
    worst: dict[str, tuple[str, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain values, NaN as None."""
        worst = {metric: {"start": stem, "score": value} for metric, (stem, value) in self.worst.items()}
        return {"name": self.name, "frames": self.frames, **_plain(self.values), "worst": worst}


@dataclass(frozen=True)
class Figures:
    """Scores of one prediction.

    Attributes
    ----------
    values
        Metrics that were asked for, in that order, to fractions; NaN where there was nothing to score.
    protocol
        Name of the way of counting.
    videos, frames
        Counted: those with masks.
    left_out
        Videos that the protocol leaves out.
    unmasked
        Frames that have no mask and count for nothing.
    notes
        What single metrics rest on, plain JSON values: ``windows`` of VC, for example.
    reasons
        Why figures are NaN, a sentence for each reason.
    per_class
        Every class of the table to what metrics say of it, ``iou`` and ``pixels`` for example; NaN of a class that is
        absent from the ground truth. Empty where no metric says anything of classes.
    per_video
        Every counted video.
    matrix
        (C, 256) pixels by class and predicted value; empty where no metric compares classes.
    census
        What the masks hold.
    """

    values: dict[str, float]
    protocol: str
    videos: int
    frames: int
    left_out: int = 0
    unmasked: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    per_video: tuple[ScoredVideo, ...] = ()
    matrix: np.ndarray = field(default_factory=lambda: np.zeros((0, 256), np.int64), compare=False, repr=False)
    census: Census = field(default_factory=Census, compare=False, repr=False)

    def plain(self) -> dict[str, float | None]:
        """The figures, None where there was nothing to score."""
        return _plain(self.values)

    def worst_first(self) -> list[ScoredVideo]:
        """The videos by the first figure that they have; those of which nothing counts come last."""

        def place(video: ScoredVideo) -> tuple[bool, float, str]:
            first = next(iter(video.values.values()), math.nan)
            return math.isnan(first), first, video.name

        return sorted(self.per_video, key=place)

    def to_json(self, *, per_class: bool = False, per_video: bool = False) -> dict[str, Any]:
        """Plain values for one JSON object: the metrics first, NaN as None.

        Parameters
        ----------
        per_class, per_video
            Add the tables by class and by video.
        """
        values: dict[str, Any] = {
            **self.plain(),
            "protocol": self.protocol,
            "videos": self.videos,
            "frames": self.frames,
        }
        if self.left_out:
            values["left_out"] = self.left_out
        if self.unmasked:
            values["without_mask"] = self.unmasked
        values |= self.notes
        if per_class:
            values["per_class"] = [{"name": name, **_plain(row)} for name, row in self.per_class.items()]
        if per_video:
            values["per_video"] = [video.to_json() for video in self.per_video]
        return values


def _plain(values: dict[str, float]) -> dict[str, Any]:
    """JSON knows no NaN."""
    return {name: None if math.isnan(value) else value for name, value in values.items()}
