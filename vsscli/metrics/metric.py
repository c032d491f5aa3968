"""What a metric is: it is given frames one after the other, and says its figures at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np

from vsscli.metrics.protocols import Protocol

Need = Literal["confidence", "entropy", "image"]
"""What a metric may ask for beside truth and label: the label's probability and the normalised entropy, (H, W) float32
in [0, 1], which only a store has, and the frame, (H, W, 3) uint8 RGB."""

Extras = Mapping[Need, np.ndarray]

NOTHING: Extras = {}


@dataclass(frozen=True)
class Setting:
    """What frames are scored by: C classes; the class of each value of the ground truth as it is on disk, (256,) uint8,
    255 meaning void; the way of counting."""

    num_classes: int
    lookup: np.ndarray
    protocol: Protocol


class VideoFigures(NamedTuple):
    """Figures of one video, NaN where nothing counts; and number of the frame where each is worst, with the figure
    there."""

    values: dict[str, float]
    worst: dict[str, tuple[int, float]]


class Metric(ABC):
    """An accumulator over the frames of a set of videos.

    The order of calls is ``start_video(length)``, ``update`` for each frame, or ``skip`` where it has no ground truth,
    ``end_video(name)``, for every video; then the figures, fractions, NaN where nothing counts.

    Attributes
    ----------
    names
        The figures that users are told of. A name with a number in it may stand for any number: `answers`.
    titles
        Those of them, and of the columns of `per_class`, that the field does not write in capitals.
    lower_is_better
        Of all its figures.
    needs
        What `update` finds in its third argument.
    of_classes
        Labels are compared with the truth, so a set without a labelled pixel has no figure.
    gaps
        What it makes of frames without ground truth, said behind "the others count".
    windows
        Lengths of the runs of frames that it looks at; a protocol may leave out videos that are not longer.
    raw
        `update` takes ground truth as it is on disk; else class indices, all void 255.
    """

    names: ClassVar[tuple[str, ...]]
    titles: ClassVar[tuple[str, ...]] = ()
    lower_is_better: ClassVar[bool] = False
    needs: ClassVar[tuple[Need, ...]] = ()
    of_classes: ClassVar[bool] = True
    gaps: ClassVar[str] = ""
    windows: tuple[int, ...] = ()
    raw: bool = False

    @classmethod
    def answers(cls, name: str) -> bool:
        """Whether a figure of this name, in lower case, is one of its own."""
        return name in cls.names

    @classmethod
    @abstractmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        """The accumulator of the figures asked for."""

    def start_video(self, length: int) -> None:  # noqa: B027 - most metrics know no videos
        """Open a video of `length` frames."""

    @abstractmethod
    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        """Take the next frame: truth and prediction, (H, W) uint8, which may be used again, and what is needed."""

    def skip(self) -> None:  # noqa: B027
        """Take the next frame as one without ground truth."""

    def end_video(self, name: str) -> None:  # noqa: B027
        """Close the open video."""

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """Figures by name, at least those that were asked for."""

    def reasons(self) -> list[str]:
        """Why figures are NaN, a sentence for each reason."""
        unlabelled = any(np.isnan(value) for value in self.figures().values())
        return ["no pixel that counts has a label in the ground truth"] if unlabelled else []

    def notes(self) -> dict[str, Any]:
        """What the figures rest on, as plain JSON values by name."""
        return {}

    def per_class(self) -> dict[str, np.ndarray]:
        """Columns (C,) of the table by class."""
        return {}

    def per_video(self) -> list[VideoFigures]:
        """Each video by itself, in the order they were given; empty of a metric that knows no videos."""
        return []
