"""Where the labels that are scored come from: a folder of masks, a store, or anything with the same two methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from vsscli.data.palettes import Legend
from vsscli.data.pixels import image_size
from vsscli.errors import VssError
from vsscli.evaluation.decode import read_label

if TYPE_CHECKING:
    from vsscli.store.reader import Store


class LabelSource(Protocol):
    """Where predicted labels come from. With more than one worker, `label` is called from several threads."""

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Classes predicted for one frame, (H, W) uint8; VssError if there are none."""
        ...

    def place(self, video: str, stem: str) -> str:
        """What to call a frame's prediction in an error."""
        ...


class SizedLabels(LabelSource, Protocol):
    """Labels that tell what is there before anything is decoded."""

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """H, W of the label of one frame; none if it has no prediction."""
        ...


@dataclass(frozen=True)
class FolderLabels:
    """A folder of class-index masks, ``<path>/<video>/<stem>.png``, 8 bits, grey or palette.

    Parameters
    ----------
    path
        The folder.
    legend
        What colours the classes have, where that is known: a palette may have been numbered anew.
    """

    path: Path
    legend: Legend | None = None

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise VssError(f"no folder of predictions at {self.path}", "give the folder that holds <video>/<stem>.png")

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Decode the mask of one frame."""
        path = self.path / video / f"{stem}.png"
        try:
            return read_label(path, self.legend)
        except VssError as error:
            if path.exists():
                raise
            raise VssError(
                f"{path} is not there: {video}/{stem} has no prediction", "predict every frame of the split"
            ) from error

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """Look at the head of a frame's mask."""
        path = self.path / video / f"{stem}.png"
        return image_size(path) if path.exists() else None

    def place(self, video: str, stem: str) -> str:
        """Path of a frame's mask."""
        return str(self.path / video / f"{stem}.png")


class StoreLabels:
    """Labels of a prediction store. Frames are found by name, so a store may hold more than is scored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._videos = set(store.videos())
        self._frames: tuple[str, dict[str, int]] = ("", {})

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Read one frame's label."""
        hint = "run the same predict command again: it adds what is missing"
        if video not in self._videos:
            raise VssError(f"store {self._store.path} has no finished prediction of video {video}", hint)
        position = self._position(video, stem)
        if position is None:
            raise VssError(f"store {self._store.path} has no prediction of frame {video}/{stem}", hint)
        return self._store.label(video, position)

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """Look at the record of a frame's video."""
        there = video in self._videos and self._position(video, stem) is not None
        return self._store.size(video) if there else None

    def _position(self, video: str, stem: str) -> int | None:
        # One video's names are kept; the pair is swapped as a whole, so threads need no lock.
        name, frames = self._frames
        if name != video:
            frames = {known: position for position, known in enumerate(self._store.stems(video))}
            self._frames = (video, frames)
        return frames.get(stem)

    def place(self, video: str, stem: str) -> str:
        """Address of a frame in the store."""
        return f"{self._store.path}: {video}/{stem}"
