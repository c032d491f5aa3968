"""The interface of a metric, an accumulator that receives frames one by one and returns figures at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from vsscli.metrics.protocols import Protocol

Need = Literal["confidence", "entropy", "image"]
"""What a metric may need besides truth and label: the label's probability and the normalised entropy, (H, W) float32 in
[0, 1], which only a store has, and the image, (H, W, 3) uint8 RGB."""

Extras = Mapping[Need, np.ndarray]

NOTHING: Extras = {}


@dataclass(frozen=True)
class Setting:
    """How frames are scored: the number of classes C; the class of each value of the masks on disk, (256,) uint8, 255
    for void; the protocol."""

    num_classes: int
    lookup: np.ndarray
    protocol: Protocol


class VideoFigures(NamedTuple):
    """Figures of one video, NaN if nothing counts, and for each the number of the worst frame with its figure.

    ``windows`` has, by figure, that of every window, (windows,) float64, NaN for one that does not count; a window
    begins at the frame of its number.
    """

    values: dict[str, float]
    worst: dict[str, tuple[int, float]]
    windows: Mapping[str, np.ndarray] = {}


class Metric(ABC):
    """An accumulator over the frames of a set of videos.

    For every video, ``start_video(length)`` is called, then ``update`` for each frame, or ``skip`` if it has no ground
    truth, then ``end_video(name)``. Figures are fractions, NaN if nothing counts. Sums are of integers, so that figures
    do not depend on how videos are shared out to accumulators that are merged.

    Attributes
    ----------
    names
        Its figures, as documented for users. A name with a number may stand for any number, see `answers`.
    titles
        The usual spelling of those figures and columns of `per_class` that are not written in capitals.
    lower_is_better
        Whether lower figures are better.
    needs
        What `update` needs in its third argument.
    of_classes
        Whether labels are compared with the truth, so that a set without labelled pixels has no figure.
    without_truth
        Whether it ignores ground truth, so that frames without a mask can be scored if all metrics do.
    gaps
        What it does with frames without ground truth, for the message that the other frames count.
    windows
        Lengths of its windows of frames; a protocol may leave out videos that are not longer.
    raw
        Whether `update` takes ground truth as stored on disk; otherwise class indices, with 255 for void.
    """

    names: ClassVar[tuple[str, ...]]
    titles: ClassVar[tuple[str, ...]] = ()
    lower_is_better: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    of_classes: ClassVar[bool] = True
    without_truth: ClassVar[bool] = False
    gaps: ClassVar[str] = ""
    windows: tuple[int, ...] = ()
    raw: bool = False

    @classmethod
    def answers(cls, name: str) -> bool:
        """Whether a figure of this name, in lower case, is one of this metric's."""
        return name in cls.names

    @classmethod
    @abstractmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        """The accumulator for these figures."""

    def start_video(self, length: int) -> None:  # noqa: B027 - most metrics ignore videos
        """Open a video of `length` frames."""

    @abstractmethod
    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        """Take the next frame: truth and prediction, (H, W) uint8, whose buffers may be reused, and what is needed."""

    def skip(self) -> None:  # noqa: B027
        """Take the next frame, which has no ground truth."""

    def end_video(self, name: str) -> None:  # noqa: B027
        """Close the open video."""

    @abstractmethod
    def merge(self, other: Self) -> None:
        """Add what another accumulator of the same figures counted in the videos that follow, to the last digit."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Figures by name, at least those that were requested."""

    def reasons(self) -> list[str]:
        """Why figures are NaN, one sentence for each reason."""
        unlabelled = any(np.isnan(value) for value in self.figures().values())
        return ["no pixel that counts has a label in the ground truth"] if unlabelled else []

    def notes(self) -> dict[str, Any]:
        """Further facts about the figures, as plain JSON values by name."""
        return {}

    def per_class(self) -> dict[str, np.ndarray]:
        """Columns (C,) of the table of classes."""
        return {}

    def per_video(self) -> list[VideoFigures]:
        """Figures of each video, in order; empty for a metric that ignores videos."""
        return []


def iou_of(right: np.ndarray, truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Intersection over union, float64, from the pixels of each class that are right, that are of it, and that are
    predicted as it; NaN if the class is absent from the ground truth, even if it is predicted."""
    return np.divide(right, truth + predicted - right, out=np.full(right.shape, np.nan), where=truth > 0)


def mean_of(figures: np.ndarray) -> float:
    """Mean of those that are not NaN; NaN if there are none."""
    known = figures[~np.isnan(figures)]
    return float(known.mean()) if known.size else float("nan")
