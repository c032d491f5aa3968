"""Where the labels that are scored come from: a folder of masks, a store, or anything with the same two methods."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from vsscli.data.folders import some
from vsscli.data.masks import read_mask
from vsscli.data.palettes import Legend
from vsscli.data.pixels import image_size
from vsscli.data.spelling import plain, respelled
from vsscli.data.walk import visible
from vsscli.errors import VssError

if TYPE_CHECKING:
    from vsscli.store.reader import Store


LOSSY = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif"})


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


@runtime_checkable
class SureLabels(LabelSource, Protocol):
    """Labels of which is known how sure they are; (H, W) float32 in [0, 1], by frame."""

    def confidence(self, video: str, stem: str) -> np.ndarray:
        """Probability of the label."""
        ...

    def entropy(self, video: str, stem: str) -> np.ndarray:
        """Normalised entropy of the distribution."""
        ...


@dataclass(frozen=True)
class FolderLabels:
    """A folder of class-index masks, ``<path>/<video>/<stem>.png``, 8 bits, grey or palette.

    Names may be spelled otherwise than those of the frames (`data.spelling`), and suffixes be in capitals.

    Parameters
    ----------
    path
        The folder.
    legend
        What colours the classes have, where that is known: a palette may have been numbered anew.
    """

    path: Path
    legend: Legend | None = None
    _known: dict[str, dict[str, Path]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.path.is_dir():
            raise VssError(f"no folder of predictions at {self.path}", "give the folder that holds <video>/<stem>.png")

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
        """Look at the head of a frame's mask."""
        path = self._find(video, stem)
        return image_size(path) if path.exists() else None

    def place(self, video: str, stem: str) -> str:
        """Path of a frame's mask."""
        return str(self._find(video, stem))

    def _find(self, video: str, stem: str) -> Path:
        """Where the mask of a frame lies, or where it should."""
        path = self.path / video / f"{stem}.png"
        return path if path.exists() else self._masks(video).get(plain(stem), path)

    def _masks(self, video: str) -> dict[str, Path]:
        """The masks of a video by the composed forms of their stems; its folder is looked into once."""
        if video not in self._known:
            folder = self._folder(video)
            masks = [] if folder is None else [path for path in visible(folder) if path.suffix.lower() == ".png"]
            self._known[video] = {plain(path.stem): path for path in masks}
        return self._known[video]

    def _folder(self, video: str) -> Path | None:
        if (self.path / video).is_dir():
            return self.path / video
        name = respelled(path.name for path in visible(self.path) if path.is_dir()).get(plain(video))
        return None if name is None else self.path / name

    def _instead(self, video: str, stem: str) -> tuple[str, str]:
        """What lies there instead of a frame's mask, and what to do about it."""
        folder = self._folder(video)
        if folder is None:
            here = [path.name for path in visible(self.path) if path.is_dir()]
            there = f"; {self.path} holds folders {some(here)}" if here else f"; {self.path} holds no folders of videos"
            return there, "give the folder that holds <video>/<stem>.png, with the names that the videos have"
        other = next((path for path in visible(folder) if plain(path.stem) == plain(stem)), None)
        if other is None:
            return "", "predict every frame of the split"
        why = "JPEG changes the values of pixels" if other.suffix.lower() in LOSSY else "only PNGs are read as masks"
        return f", only {other.name}: {why}", "write class indices as PNGs of 8 bits"


class StoreLabels:
    """Labels of a prediction store. Frames are found by name, so a store may hold more than is scored.

    Names may be spelled otherwise than those of the frames (`data.spelling`).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._videos = respelled(store.videos())
        self._frames: tuple[str, dict[str, int]] = ("", {})

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        """Read one frame's label."""
        return self._store.label(*self._find(video, stem))

    def confidence(self, video: str, stem: str) -> np.ndarray:
        """Read the probability of one frame's label."""
        if self._store.encoding.grid != 1:
            what = f"store {self._store.path} keeps probabilities on a coarser grid than its labels"
            raise VssError(what, "predict with store.grid=1")
        place = self._find(video, stem)
        classes, shares = self._store.lists(*place)
        shares[classes != self._store.label(*place)] = 0
        return shares.max(axis=0)

    def entropy(self, video: str, stem: str) -> np.ndarray:
        """Read one frame's entropy."""
        return self._store.entropy(*self._find(video, stem))

    def _find(self, video: str, stem: str) -> tuple[str, int]:
        """A frame's video, as the store spells it, and its number there."""
        hint = "run the same predict command again: it adds what is missing"
        if plain(video) not in self._videos:
            raise VssError(f"store {self._store.path} has no finished prediction of video {video}", hint)
        position = self._position(video, stem)
        if position is None:
            raise VssError(f"store {self._store.path} has no prediction of frame {video}/{stem}", hint)
        return self._videos[plain(video)], position

    def size(self, video: str, stem: str) -> tuple[int, int] | None:
        """Look at the record of a frame's video."""
        there = plain(video) in self._videos and self._position(video, stem) is not None
        return self._store.size(self._videos[plain(video)]) if there else None

    def _position(self, video: str, stem: str) -> int | None:
        # One video's names are kept; the pair is swapped as a whole, so threads need no lock.
        name, frames = self._frames
        if name != video:
            stems = self._store.stems(self._videos[plain(video)])
            frames = {plain(known): position for position, known in enumerate(stems)}
            self._frames = (video, frames)
        return frames.get(plain(stem))

    def place(self, video: str, stem: str) -> str:
        """Address of a frame in the store."""
        return f"{self._store.path}: {video}/{stem}"
