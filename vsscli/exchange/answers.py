"""Answers to an annotation tool that asks for the labels of a frame, out of a prediction store."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.matching import frame_number
from vsscli.data.spelling import composed
from vsscli.errors import VssError
from vsscli.exchange.items import Size
from vsscli.exchange.matching import Matcher, Place
from vsscli.exchange.polygons import regions
from vsscli.store.reader import open_store


class StoreAnswers:
    """The labels that a prediction store has of frames, by what others call them (`exchange.matching`).

    Parameters
    ----------
    path
        The store.
    min_certainty
        Pixels whose certainty, 1 minus the normalised entropy, is below are void.

    Raises
    ------
    VssError
        There is no such store, or it holds no labels.
    """

    def __init__(self, path: str | Path, min_certainty: float = 0.0) -> None:
        self._store = open_store(path)
        if self._store.header.kind == "pseudo":
            raise VssError(f"{path} holds pseudo-labels, not predictions", "name the store that they were made from")
        self._min_certainty = min_certainty
        self._numbers = {
            (video, stem): t for video in self._store.videos() for t, stem in enumerate(self._store.stems(video))
        }
        self._matcher = Matcher(Place(video, stem, self._store.size(video)) for video, stem in self._numbers)

    @property
    def table(self) -> ClassTable:
        """The classes."""
        return self._store.header.table

    def label(self, name: str, size: Size) -> np.ndarray | None:
        """The labels of a frame of some height and width, (H, W) uint8, 255 for void; `None` for a frame that the store
        does not hold.

        Raises
        ------
        VssError
            The frame was predicted at another size.
        """
        place = self._matcher.find(name)
        if place is None:
            return None
        if place.size != tuple(size):
            raise VssError(
                f"{self._store.path}: {place.address} has height and width {place.size}, frame {name} {tuple(size)}",
                "name the store of these frames",
            )
        t = self._numbers[place.video, place.stem]
        label = self._store.label(place.video, t)
        if self._min_certainty > 0:
            certain = 1 - self._store.entropy(place.video, t) >= self._min_certainty
            label = np.where(certain, label, np.uint8(IGNORE))
        return label

    def numbering(self, video: str, first: int | None = None) -> int:
        """The number that the first frame of a video has in the store; others count all videos' frames from 0.

        Raises
        ------
        VssError
            There is no such video; or ``first`` is not given, and could be 0 or another number: frames may lack at the
            video's beginning, or be named from 1 on.
        """
        numbers = [frame_number(stem) for of, stem in self._numbers if composed(of) == composed(video)]
        if not numbers:
            videos = ", ".join(self._store.videos()[:8])
            raise VssError(f"{self._store.path} has no video {video!r}", f"it has {videos}")
        if first is None and (lowest := min((n for n in numbers if n is not None), default=0)):
            raise VssError(
                f"{self._store.path}: the frames of {video} begin with number {lowest}, those of a task with 0",
                f"say which number the first frame of the task has here: -p first=int:{lowest}, or int:0 if the "
                f"prediction begins later than the task",
            )
        return first or 0


def outlines(mask: np.ndarray) -> list[list[float]]:
    """A mask (H, W) bool as polygons, x, y, x, y, …, which painted give it back."""
    return [region.keyhole().ravel().tolist() for region in regions(mask)]
