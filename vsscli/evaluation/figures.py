"""The result of scoring: figures, by class and by video."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vsscli.data.census import Census


@dataclass(frozen=True)
class ScoredVideo:
    """The figures of one video (NaN if nothing counts), and where it is worst.

    Attributes
    ----------
    name, stems
        The video's name, and those of its frames, in order.
    values
        Figures by metric.
    worst
        By metric, the stem of the frame where the worst window begins, and its figure; without metrics that have none.
    windows
        By metric, the figure of every window, in the order of the frames where they begin; NaN for one that does not
        count.
    """

    name: str
    stems: tuple[str, ...] = field(repr=False)
    values: dict[str, float]
    worst: dict[str, tuple[str, float]] = field(default_factory=dict)
    windows: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)

    @property
    def frames(self) -> int:
        """Number of its frames."""
        return len(self.stems)

    def to_json(self) -> dict[str, Any]:
        """Plain values, with `None` for NaN."""
        worst = {metric: {"start": stem, "score": value} for metric, (stem, value) in self.worst.items()}
        return {"name": self.name, "frames": self.frames, **_plain(self.values), "worst": worst}


@dataclass(frozen=True)
class Figures:
    """Scores of one prediction.

    Attributes
    ----------
    values
        Fractions by metric, in the order requested; NaN if there was nothing to score.
    protocol
        Name of the protocol.
    videos, frames
        Numbers of those that count, which have masks.
    left_out
        Number of videos that the protocol leaves out.
    unmasked
        Number of frames without a mask, which do not count.
    notes
        Further facts of single metrics as plain JSON values: ``windows`` of VC, for example.
    reasons
        Why figures are NaN, one sentence for each reason.
    per_class
        For every class of the table its figures, ``iou`` and ``pixels`` for example; NaN for a class that is absent
        from the ground truth. Empty if no metric has figures by class.
    per_video
        Every video that counts.
    matrix
        (C, 256) pixels by class and predicted value; empty if no metric compares classes.
    census
        The values found in the masks.
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
        """The figures, `None` if there was nothing to score."""
        return _plain(self.values)

    def worst_first(self) -> list[ScoredVideo]:
        """The videos sorted by their first figure; those without figures come last."""

        def place(video: ScoredVideo) -> tuple[bool, float, str]:
            first = next(iter(video.values.values()), math.nan)
            return math.isnan(first), first, video.name

        return sorted(self.per_video, key=place)

    def to_json(self, *, per_class: bool = False, per_video: bool = False) -> dict[str, Any]:
        """Plain values for one JSON object: the metrics first, with `None` for NaN.

        Parameters
        ----------
        per_class, per_video
            Whether to add the tables of classes and of videos.
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
