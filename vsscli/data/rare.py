"""Rare classes first: crops are chosen by class, and of the frames that hold it (Hoyer et al. 2022, DAFormer,
arXiv:2111.14887, section 3.2).

A class c with the share f_c of all labelled pixels is drawn with the probability

    P(c) = exp((1 - f_c) / T) / sum_c' exp((1 - f_c') / T)

then a frame that holds enough of it, evenly, and a crop of it that holds some. What is drawn follows from the seed and
the sample's number, as everything else does (`data.order`).
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
"""Sets these draws apart from those of permutations and mixtures."""


class LabelSource(Protocol):
    """Frames whose labels can be read without their images."""

    def __len__(self) -> int: ...

    def label(self, index: int) -> np.ndarray:
        """Class index or 255, (H, W) uint8."""
        ...


class RareFirst:
    """Which class and frame a sample takes, by the pixels of each class, (frames, C)."""

    def __init__(self, counts: np.ndarray, settings: RareClasses) -> None:
        self.settings = settings
        enough = counts >= settings.pixels
        self.classes = np.flatnonzero(enough.any(axis=0))
        if not len(self.classes):
            raise VssError(
                f"train.rare: no labelled frame holds {settings.pixels} pixels of any class",
                f"lower train.rare.pixels (the most there are of one class is {int(counts.max(initial=0))}), or leave "
                "`rare` out",
            )
        self.frames = [np.flatnonzero(enough[:, number]) for number in self.classes]
        share = counts.sum(axis=0) / counts.sum()
        weight = (1 - share[self.classes]) / settings.temperature
        weight = np.exp(weight - weight.max())
        self.probability: np.ndarray = weight / weight.sum()
        self._until = self.probability.cumsum()

    def draw(self, seed: int, sample: int, part: int) -> tuple[int, int] | None:
        """Frame and class of a sample; none where its frame is chosen as usual."""
        rng = np.random.default_rng([seed, sample, part, APART])
        if rng.random() >= self.settings.share:
            return None
        place = int(np.searchsorted(self._until, rng.random() * self._until[-1], side="right"))
        place = min(place, len(self.classes) - 1)
        frames = self.frames[place]
        return int(frames[rng.integers(len(frames))]), int(self.classes[place])


def class_counts(frames: LabelSource, num_classes: int, what: str, talk: Talk = SILENCE) -> np.ndarray:
    """Pixels of each class in each frame, (frames, C) int64; every mask is read once."""
    counts = np.zeros((len(frames), num_classes), np.int64)

    jobs = (partial(frames.label, index) for index in range(len(frames)))
    with talk.track(f"classes of {what}", len(frames)) as done, closing(results_in_order(jobs, None)) as labels:
        for index, label in enumerate(labels):
            counts[index] = np.bincount(label.reshape(-1), minlength=256)[:num_classes]
            done(1)
    return counts


def say_rare(rare: RareFirst, names: Sequence[str], what: str, talk: Talk) -> None:
    """Say which classes come first, and which never come so."""
    first = np.argsort(-rare.probability, kind="stable")[:3]
    told = ", ".join(f"{names[rare.classes[i]]} {rare.probability[i]:.0%}" for i in first)
    missing = len(names) - len(rare.classes)
    talk.say(
        f"{what}: {rare.settings.share:.0%} of the crops are chosen by class, rare ones first ({told}, …)"
        + (f"; {missing} of {len(names)} classes have no frame with {rare.settings.pixels} pixels" if missing else "")
    )
