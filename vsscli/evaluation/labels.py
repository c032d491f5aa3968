"""Sources of predicted labels to score: a folder of PNGs, a store, or anything with the same two methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from vsscli.data.folders import some
from vsscli.data.masks import read_mask
from vsscli.data.palettes import Legend
from vsscli.data.pixels import image_size
from vsscli.data.spelling import composed, respelled
from vsscli.data.walk import visible
from vsscli.errors import VssError

if TYPE_CHECKING:
    from vsscli.store.reader import Store


LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif"})


class LabelSource(Protocol):
    """A source of predicted labels. With more than one worker, `label` is called from several threads."""

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Predicted classes of one frame, (H, W) uint8; `VssError` if it has no prediction."""
        ...

    def place(self, video: str, stem: str) -> str:
        """The name of a frame's prediction in errors."""
        ...


class SizedLabels(LabelSource, Protocol):
    """Labels whose sizes are known before anything is decoded."""

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """H, W of one frame's label; `None` if it has no prediction."""
        ...


@runtime_checkable
class LabelsWithConfidence(LabelSource, Protocol):
    """Labels with their confidence and entropy, (H, W) float32 in [0, 1] for each frame."""

    def confidence(self, video: str, stem: str) -> np.ndarray:
        """Probability of the label."""
        ...

    def entropy(self, video: str, stem: str) -> np.ndarray:
        """Normalised entropy of the distribution."""
        ...


@dataclass(frozen=True)
class FolderLabels:
    """A folder of predictions as 8-bit PNGs of class indices, grey or palette, ``<path>/<video>/<stem>.png``.

    Names may differ from those of the frames in their Unicode form (`data.spelling`), and suffixes may be in capitals.

    Parameters
    ----------
    path
        The folder.
    legend
        The colours of the classes, if known, to recognise a palette that was renumbered.
    """

    path: Path
    legend: Legend | None = None
    _known: dict[str, dict[str, Path]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise VssError(f"no folder of predictions at {self.path}", "give the folder with <video>/<stem>.png")

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Decode the mask of one frame."""
        path = self._find(video, stem)
        try:
            return read_mask(path, self.legend)
        except VssError as error:
            if path.exists():
                raise
            what, hint = self._instead(video, stem)
            raise VssError(f"{path} is not there: {video}/{stem} has no prediction{what}", hint) from error

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """Read the size from the header of a frame's mask."""
        path = self._find(video, stem)
        return image_size(path) if path.exists() else None

    def place(self, video: str, stem: str) -> str:
        """Path of a frame's mask."""
        return str(self._find(video, stem))

    def _find(self, video: str, stem: str) -> Path:
        """Where the mask of a frame is, or where it should be."""
        path = self.path / video / f"{stem}.png"
        return path if path.exists() else self._masks(video).get(composed(stem), path)

    def _masks(self, video: str) -> dict[str, Path]:
        """The masks of a video by the composed forms of their stems; its folder is listed once."""
        if video not in self._known:
            folder = self._folder(video)
            masks = [] if folder is None else [path for path in visible(folder) if path.suffix.lower() == ".png"]
            self._known[video] = {composed(path.stem): path for path in masks}
        return self._known[video]

    def _folder(self, video: str) -> Path | None:
        if (self.path / video).is_dir():
            return self.path / video
        name = respelled(path.name for path in visible(self.path) if path.is_dir()).get(composed(video))
        return None if name is None else self.path / name

    def _instead(self, video: str, stem: str) -> tuple[str, str]:
        """What there is instead of a frame's mask, and what to do about it."""
        folder = self._folder(video)
        if folder is None:
            here = [path.name for path in visible(self.path) if path.is_dir()]
            found = f"; {self.path} has folders {some(here)}" if here else f"; {self.path} has no folders of videos"
            return found, "give the folder with <video>/<stem>.png, named like the videos and frames"
        other = next((path for path in visible(folder) if composed(path.stem) == composed(stem)), None)
        if other is None:
            return "", "predict every frame of the split"
        why = "JPEG changes the values of pixels" if other.suffix.lower() in LOSSY else "only PNGs are read as masks"
        return f", only {other.name}: {why}", "write class indices as 8-bit PNGs"


class StoreLabels:
    """Labels of a prediction store. Frames are found by name, so the store may hold more than is scored.

    Names may differ from those of the frames in their Unicode form (`data.spelling`).

    Parameters
    ----------
    store
        The store.
    translation
        The class or 255 for each of 256 values of the store, if the class table has changed since
        (`ClassTable.translation`).
    """

    def __init__(self, store: Store, translation: Sequence[int] | None = None) -> None:
        self._store = store
        self._translation = None if translation is None else np.array(translation, np.uint8)
        self._videos = respelled(store.videos())
        self._frames: tuple[str, dict[str, int]] = ("", {})

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Read one frame's label."""
        label = self._store.label(*self._find(video, stem))
        return label if self._translation is None else self._translation[label]

    def confidence(self, video: str, stem: str) -> np.ndarray:
        """Read the probability of one frame's label."""
        if self._store.encoding.grid != 1:
            what = f"store {self._store.path} keeps probabilities on a coarser grid than its labels"
            raise VssError(what, "predict with store.grid=1")
        if self._translation is not None:
            raise VssError(
                f"the classes have changed since {self._store.path} was predicted, so its probabilities are of others",
                "leave metrics of probabilities out, or train and predict again",
            )
        place = self._find(video, stem)
        classes, shares = self._store.lists(*place)
        shares[classes != self._store.label(*place)] = 0
        return shares.max(axis=0)

    def entropy(self, video: str, stem: str) -> np.ndarray:
        """Read one frame's entropy."""
        return self._store.entropy(*self._find(video, stem))

    def _find(self, video: str, stem: str) -> tuple[str, int]:
        """A frame's video, as the store spells it, and its number in it."""
        hint = "run the same predict command again: it adds what is missing"
        if composed(video) not in self._videos:
            raise VssError(f"store {self._store.path} has no finished prediction of video {video}", hint)
        position = self._position(video, stem)
        if position is None:
            raise VssError(f"store {self._store.path} has no prediction of frame {video}/{stem}", hint)
        return self._videos[composed(video)], position

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """Read the size from the record of a frame's video."""
        found = composed(video) in self._videos and self._position(video, stem) is not None
        return self._store.size(self._videos[composed(video)]) if found else None

    def _position(self, video: str, stem: str) -> int | None:
        # The names of one video are cached; the pair is replaced as a whole, so threads need no lock.
        name, frames = self._frames
        if name != video:
            stems = self._store.stems(self._videos[composed(video)])
            frames = {composed(known): position for position, known in enumerate(stems)}
            self._frames = (video, frames)
        return frames.get(composed(stem))

    def place(self, video: str, stem: str) -> str:
        """Address of a frame in the store."""
        return f"{self._store.path}: {video}/{stem}"
