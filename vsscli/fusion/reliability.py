"""How sure and how right the predictions of a store are, at every threshold: coverage against precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vsscli.fusion.sources import require_size
from vsscli.fusion.threshold import require_predictions
from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import Store
from vsscli.store.verify import require_whole
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

Truth = Callable[[str, int], np.ndarray | None]
"""The mask of a video's frame, (H, W) uint8 with 255 for void; None where there is none."""


@dataclass(frozen=True)
class Reliability:
    """Counts of a store's pixels.

    Parameters
    ----------
    names
        Of the classes.
    frames, judged_frames
        How many there are, and for how many of them there was a mask.
    pixels, judged, right
        (256, C) int64 by stored entropy and predicted class: all pixels, those with a true class, and those that have
        the predicted one.
    """

    names: tuple[str, ...]
    frames: int
    judged_frames: int
    pixels: np.ndarray
    judged: np.ndarray
    right: np.ndarray

    def coverage(self) -> np.ndarray:
        """Share of all pixels that is reliable, by level of the threshold, (256,)."""
        counts: np.ndarray = self.pixels.sum(1).cumsum() / self.pixels.sum()
        return counts

    def precision(self) -> np.ndarray:
        """Share of the reliable pixels with a true class that have it, (256,); nan where there is none."""
        return _share(self.right.sum(1).cumsum(), self.judged.sum(1).cumsum())

    def level_at(self, percentile: float) -> int:
        """The smallest level at which so many per cent of the pixels are reliable."""
        return min(int(np.searchsorted(self.coverage(), percentile / 100 * (1 - 1e-12))), MAX_LEVEL)

    def class_coverage(self, level: int | Sequence[int]) -> np.ndarray:
        """Share of the pixels predicted as each class that is reliable, (C,); nan for a class never predicted.

        ``level`` is one for all classes, or one for each.
        """
        return _share(_up_to(level, self.pixels), self.pixels.sum(0))

    def class_precision(self, level: int | Sequence[int]) -> np.ndarray:
        """Share of each class's reliable pixels that are right, (C,); nan where nothing could be judged."""
        return _share(_up_to(level, self.right), _up_to(level, self.judged))

    def covered(self, level: int | Sequence[int]) -> float:
        """Share of all pixels that is reliable."""
        return float(_up_to(level, self.pixels).sum() / self.pixels.sum())

    def to_json(self) -> dict[str, object]:
        """Plain values: a curve over all thresholds, and the classes' curves at every tenth of the pixels."""
        curve = zip(self.coverage(), self.precision(), strict=True)
        return {
            "frames": self.frames,
            "judged_frames": self.judged_frames,
            "thresholds": [
                {"threshold": level / MAX_LEVEL, "coverage": float(covered), "precision": _number(precise)}
                for level, (covered, precise) in enumerate(curve)
            ],
            "per_class": [
                {
                    "name": name,
                    "pixels": int(self.pixels[:, number].sum()),
                    "percentiles": {
                        str(percentile): {
                            "coverage": _number(self.class_coverage(level)[number]),
                            "precision": _number(self.class_precision(level)[number]),
                        }
                        for percentile, level in ((p, self.level_at(p)) for p in range(10, 101, 10))
                    },
                }
                for number, name in enumerate(self.names)
            ],
        }


def measure_reliability(store: Store, truth: Truth, *, talk: Talk = SILENCE, workers: int | None = None) -> Reliability:
    """Count a store's pixels by entropy and class, right and wrong ones, in one pass.

    Parameters
    ----------
    store
        Predictions.
    truth
        Masks, where there are some.
    talk, workers
        As for `write_pseudo`.

    Raises
    ------
    VssError
        The store holds no predictions or is not finished, or a mask has another size than its frame.
    """
    require_predictions(store)
    num_classes = store.header.num_classes
    videos = require_whole(store)
    total = np.zeros((3, MAX_LEVEL + 1, num_classes), np.int64)
    frames = judged_frames = 0
    with talk.track("reliability", sum(len(store.stems(video)) for video in videos)) as done:
        for video in videos:
            jobs = (partial(_count, store, truth, video, num_classes, t) for t in range(len(store.stems(video))))
            for counts, judged in results_in_order(jobs, workers):
                total += counts
                frames += 1
                judged_frames += judged
                done(1)
    return Reliability(store.header.table.names, frames, judged_frames, *total)


def _count(store: Store, truth: Truth, video: str, num_classes: int, t: int) -> tuple[np.ndarray, bool]:
    """Counts of a frame, (3, 256, C) int64, and whether there was a mask."""
    label, levels = store.label(video, t), MAX_LEVEL + 1
    # Small numbers: adding them up is then the least of it, and one count tells all.
    small = np.dtype(np.uint16 if 3 * levels * num_classes <= 2**16 else np.int32)
    cell = store.read(video, "entropy", t).astype(small)
    cell *= small.type(num_classes)
    cell += label
    mask = truth(video, t)
    if mask is not None:
        require_size(mask, store, video, t)
        fate = (mask < num_classes).view(np.uint8) + (mask == label).view(np.uint8)  # not known, wrong, right
        cell += fate * small.type(levels * num_classes)
    counts = np.bincount(cell.reshape(-1), minlength=3 * levels * num_classes).reshape(3, levels, num_classes)
    unknown, wrong, right = counts
    return np.stack([unknown + wrong + right, wrong + right, right]), mask is not None


def _up_to(level: int | Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Pixels of each class whose entropy is at most the level, (C,) int64."""
    classes = np.arange(counts.shape[1])
    kept: np.ndarray = counts.cumsum(0)[np.broadcast_to(level, classes.shape), classes]
    return kept


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(part.shape, math.nan), where=whole > 0)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
