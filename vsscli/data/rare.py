"""Rare class sampling: crops are chosen by class, rare ones first (Hoyer et al. 2022, DAFormer, arXiv:2111.14887,
section 3.2).

A class c with share f_c of all labelled pixels is drawn with probability

    P(c) = exp((1 - f_c) / T) / sum_c' exp((1 - f_c') / T)

then one of the frames that hold enough of it, with equal probability, and a crop that holds some of it. All draws
follow from the seed and the sample's number, as in `data.order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Protocol

import numpy as np

from vsscli.data.config import RareClasses
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

APART = 2**32 - 2
"""Distinguishes these draws from those of permutations and mixtures."""


class LabelMaps(Protocol):
    """Frames whose labels can be read without their images."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> np.ndarray:
        """Class index or 255, (H, W) uint8."""
        ...


class RareFirst:
    """Chooses class and frame of samples, given the pixels of each class in each frame, (frames, C)."""

    def __init__(self, counts: np.ndarray, settings: RareClasses) -> None:
        self.settings = settings
        enough = counts >= settings.pixels
        self.classes = np.flatnonzero(enough.any(axis=0))
        if not len(self.classes):
            raise VssError(
                f"train.rare: no labelled frame holds {settings.pixels} pixels of any class",
                f"lower train.rare.pixels (the most pixels of one class are {int(counts.max(initial=0))}), or remove "
                "train.rare",
            )
        self.frames = [np.flatnonzero(enough[:, number]) for number in self.classes]
        share = counts.sum(axis=0) / counts.sum()
        weight = (1 - share[self.classes]) / settings.temperature
        weight = np.exp(weight - weight.max())
        self.probability: np.ndarray = weight / weight.sum()
        self._until = self.probability.cumsum()

    def draw(self, seed: int, sample: int, part: int) -> tuple[int, int] | None:
        """Frame and class of a sample; `None` if its frame is chosen as usual."""
        rng = np.random.default_rng([seed, sample, part, APART])
        if rng.random() >= self.settings.share:
            return None
        place = int(np.searchsorted(self._until, rng.random() * self._until[-1], side="right"))
        place = min(place, len(self.classes) - 1)
        frames = self.frames[place]
        return int(frames[rng.integers(len(frames))]), int(self.classes[place])


def class_counts(frames: LabelMaps, num_classes: int, what: str, talk: Talk = SILENCE) -> np.ndarray:
    """Pixels of each class in each frame, (frames, C) int64; every mask is read once."""
    counts = np.zeros((len(frames), num_classes), np.int64)

    jobs = (partial(frames.label, index) for index in range(len(frames)))
    with talk.track(f"classes of {what}", len(frames)) as done, closing(results_in_order(jobs, None)) as labels:
        for index, label in enumerate(labels):
            counts[index] = np.bincount(label.reshape(-1), minlength=256)[:num_classes]
            done(1)
    return counts


def say_rare(rare: RareFirst, names: Sequence[str], what: str, talk: Talk) -> None:
    """Report which classes are preferred, and how many are never chosen."""
    first = np.argsort(-rare.probability, kind="stable")[:3]
    shown = ", ".join(f"{names[rare.classes[i]]} {rare.probability[i]:.0%}" for i in first)
    missing = len(names) - len(rare.classes)
    talk.say(
        f"{what}: {rare.settings.share:.0%} of the crops are chosen by class, rare ones first ({shown}, …)"
        + (f"; {missing} of {len(names)} classes have no frame with {rare.settings.pixels} pixels" if missing else "")
    )
