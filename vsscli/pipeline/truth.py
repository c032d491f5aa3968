"""The masks of a store's frames, which its predictions are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.data.layouts import Dataset
from vsscli.data.masks import to_classes
from vsscli.data.spelling import composed
from vsscli.data.videos import Frame
from vsscli.fusion.fit import Place
from vsscli.pipeline.frames import by_address
from vsscli.pipeline.predicted import open_predicted
from vsscli.store.reader import Store


@dataclass(frozen=True)
class Masks:
    """The masks of a store's frames (`vsscli.fusion.reliability.Truth`).

    Parameters
    ----------
    dataset, split
        What the store predicts.
    frames
        Its frames that have a mask, by video and number as the store has them, and in its order.
    """

    dataset: Dataset
    split: str
    frames: Mapping[Place, Frame]

    def __call__(self, video: str, t: int) -> np.ndarray | None:
        """Classes of a frame, (H, W) uint8, 255 where unknown; `None` if it has no mask."""
        return self.label(video, t) if (video, t) in self.frames else None

    def label(self, video: str, t: int) -> np.ndarray:
        """Classes of a frame that has a mask."""
        mask, ids = self.frames[video, t].mask, self.dataset.ids
        assert mask is not None
        return to_classes(ids.read(mask), ids, self.dataset.table.num_classes, mask)


def open_masks(store: Store, data_root: Path | None = None, split: str | None = None) -> Masks:
    """Find the masks of a store's frames in the data set and the split that its header names, unless others are given.

    Raises
    ------
    VssError
        There is no such data set, or its classes differ.
    """
    found = open_predicted(store.path, data_root=data_root, split=split, recipe=None, otherwise="val")
    there = by_address(found.dataset.split(found.split))
    masked: dict[Place, Frame] = {}
    for name in store.videos():
        for t, stem in enumerate(store.stems(name)):
            video, number = there.get(composed(f"{name}/{stem}"), (None, 0))
            if video is not None and video.frames[number].mask is not None:
                masked[name, t] = video.frames[number]
    return Masks(found.dataset, found.split, masked)
