"""What a report is about: one or two predictions, pseudo-labels of the same frames, and the frames and masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vsscli.data.layouts import Dataset
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.pipeline.frames import by_address, in_store
from vsscli.pipeline.predicted import noted_dataset
from vsscli.store.reader import Store, open_source, open_store
from vsscli.store.remote import place_of

KEYS = ("a", "b")
"""What the predictions of a report are called in it, in order."""


@dataclass(frozen=True)
class Subject:
    """What a report is about.

    Parameters
    ----------
    predictions
        One store, or two of the same classes. The videos and frames of a report are those of the first.
    pseudo
        Pseudo-labels of the same videos.
    dataset
        The data set of the frames; `None` if it is not there.
    frames
        Its frames by their addresses (`by_address`).
    missing
        Why there are no frames; empty if there are.
    """

    predictions: tuple[Store, ...]
    pseudo: Store | None
    dataset: Dataset | None
    frames: Mapping[str, tuple[FolderVideo, int]]
    missing: str
    _places: dict[int, dict[str, tuple[str, int]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def first(self) -> Store:
        """The first prediction."""
        return self.predictions[0]

    def videos(self) -> tuple[str, ...]:
        """Names of the complete videos of the first prediction."""
        return self.first.videos()

    def place(self, store: Store, video: str, stem: str) -> tuple[str, int] | None:
        """Where a store has a frame: its video as the store spells it, and the frame's number; `None` if it has not."""
        if id(store) not in self._places:
            self._places[id(store)] = in_store(store)
        return self._places[id(store)].get(composed(f"{video}/{stem}"))

    def frame(self, video: str, stem: str) -> tuple[FolderVideo, int] | None:
        """A frame of the data set: its video, and its number in that; `None` if there is none."""
        return self.frames.get(composed(f"{video}/{stem}"))

    def truth(self, frame: Frame) -> np.ndarray | None:
        """The classes of a frame's mask, (H, W) uint8; `None` if it has none. Unknown values are void, as in scores."""
        if frame.mask is None or self.dataset is None:
            return None
        count = self.first.header.num_classes
        lookup = replace(self.dataset.ids, unknown="void").lookup(count)
        return lookup[self.dataset.ids.read(frame.mask)]


def open_subject(predictions: Sequence[str | Path], pseudo: str | Path | None, data_root: Path | None) -> Subject:
    """Open what a report is about.

    Parameters
    ----------
    predictions
        One or two prediction stores; none: the one that the pseudo-labels were made from.
    pseudo
        A store of pseudo-labels.
    data_root
        Where the frames are; `None`: where they were when they were predicted. If they are no longer there, `missing`
        says so.

    Raises
    ------
    VssError
        There are more than two predictions; a store is of another kind, of other classes, or of other videos; or there
        is no data set at ``data_root``.
    """
    stores = [open_store(place_of(path)) for path in predictions]
    labels = None if pseudo is None else open_store(place_of(pseudo))
    if labels is not None and labels.header.kind != "pseudo":
        raise VssError(f"{labels.path} holds predictions, not pseudo-labels", "name it with --pred")
    if labels is not None and not stores:
        stores = [open_source(labels)]
    if not 1 <= len(stores) <= 2:
        raise VssError(f"a report has one prediction or two, not {len(stores)}", "name one or two stores with --pred")
    for store in stores:
        if store.header.kind == "pseudo":
            raise VssError(f"{store.path} holds pseudo-labels, not predictions", "name it with --pseudo")
        if not store.videos():
            raise VssError(f"{store.path} holds no complete video yet", "let the command that makes it finish")
    first = stores[0]
    for other in [*stores[1:], *([] if labels is None else [labels])]:
        _require_alike(first, other)
    dataset: Dataset | None = None
    frames: dict[str, tuple[FolderVideo, int]] = {}
    missing = ""
    try:
        dataset = noted_dataset(first.path, first.header, data_root)
        frames = by_address(dataset.split(first.header.split(first.path)))
    except (VssError, OSError) as error:
        if data_root is not None:
            raise
        dataset, missing = None, getattr(error, "message", str(error))
    return Subject(tuple(stores), labels, dataset, frames, missing)


def _require_alike(first: Store, other: Store) -> None:
    if first.header.table.names != other.header.table.names:
        what = f"{first.path} and {other.path} are of different classes"
        raise VssError(what, "compare predictions of the same classes")
    if not set(map(composed, first.videos())) & set(map(composed, other.videos())):
        raise VssError(f"{first.path} and {other.path} have no video in common", "name stores of the same split")
