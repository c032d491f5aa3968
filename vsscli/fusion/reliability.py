"""Coverage and precision of a store's predictions at every threshold of entropy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from vsscli.engine.engine import LOCAL, Engine
from vsscli.fusion.sources import require_size
from vsscli.fusion.threshold import require_predictions
from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import Store
from vsscli.store.verify import require_complete
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

Truth = Callable[[str, int], np.ndarray | None]
"""The mask of a video's frame, (H, W) uint8 with 255 for void; `None` if it has no mask."""


@dataclass(frozen=True)
class Reliability:
    """Counts of a store's pixels.

    Parameters
    ----------
    names
        Names of the classes.
    frames, judged_frames
        Number of frames, and of those with a mask.
    pixels, judged, right
        (256, C) int64 by stored entropy and predicted class: all pixels, labelled pixels, and labelled pixels that are
        predicted right.
    """

    names: tuple[str, ...]
    frames: int
    judged_frames: int
    pixels: np.ndarray
    judged: np.ndarray
    right: np.ndarray

    def coverage(self) -> np.ndarray:
        """Share of all pixels that are reliable, by level of the threshold, (256,)."""
        counts: np.ndarray = self.pixels.sum(1).cumsum() / self.pixels.sum()
        return counts

    def precision(self) -> np.ndarray:
        """Share of the reliable labelled pixels that are right, (256,); NaN if there are none."""
        return _share(self.right.sum(1).cumsum(), self.judged.sum(1).cumsum())

    def level_at(self, percentile: float) -> int:
        """The smallest level at which ``percentile`` per cent of the pixels are reliable."""
        return min(int(np.searchsorted(self.coverage(), percentile / 100 * (1 - 1e-12))), MAX_LEVEL)

    def class_coverage(self, level: int | Sequence[int]) -> np.ndarray:
        """Share of the pixels predicted as each class that are reliable, (C,); NaN for a class never predicted.

        ``level`` is one number for all classes, or one for each.
        """
        return _share(_up_to(level, self.pixels), self.pixels.sum(0))

    def class_precision(self, level: int | Sequence[int]) -> np.ndarray:
        """Share of each class's reliable labelled pixels that are right, (C,); NaN if there are none."""
        return _share(_up_to(level, self.right), _up_to(level, self.judged))

    def covered(self, level: int | Sequence[int]) -> float:
        """Share of all pixels that are reliable."""
        return float(_up_to(level, self.pixels).sum() / self.pixels.sum())

    def precise(self, level: int | Sequence[int]) -> float:
        """Share of the reliable labelled pixels that are right; NaN if there are none."""
        return float(_share(_up_to(level, self.right).sum(), _up_to(level, self.judged).sum()))

    def to_json(self) -> dict[str, object]:
        """Plain values: the curve over all thresholds, and the curve of each class at every tenth percentile."""
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


def measure_reliability(store: Store, truth: Truth, *, talk: Talk = SILENCE, engine: Engine = LOCAL) -> Reliability:
    """Count a store's right and wrong pixels by entropy and class, in one pass.

    Parameters
    ----------
    store
        Predictions.
    truth
        Masks of the frames that have one.
    talk, engine
        As for `write_pseudo`.

    Raises
    ------
    VssError
        The store holds no predictions or is unfinished, or a mask differs in size from its frame.
    """
    require_predictions(store)
    num_classes = store.header.num_classes
    videos = require_complete(store)
    total = np.zeros((3, MAX_LEVEL + 1, num_classes), np.int64)
    judged_frames, lengths = 0, [len(store.stems(video)) for video in videos]
    task = _Judging(store, truth, num_classes)
    with closing(engine.map("reliability", task, videos, lengths, talk)) as counted:
        for some, judged in counted:
            total += some
            judged_frames += judged
    return Reliability(store.header.table.names, sum(lengths), judged_frames, *total)


@dataclass(frozen=True)
class _Judging:
    """The task of counting the pixels of some videos; yields (3, 256, C) int64, and how many frames have masks."""

    store: Store
    truth: Truth
    num_classes: int

    def __call__(self, videos: Sequence[str], threads: int, talk: Talk) -> Iterator[tuple[np.ndarray, int]]:
        total, judged_frames = np.zeros((3, MAX_LEVEL + 1, self.num_classes), np.int64), 0
        places = ((video, t) for video in videos for t in range(len(self.store.stems(video))))
        jobs = (partial(_count, self.store, self.truth, video, self.num_classes, t) for video, t in places)
        with talk.track("reliability", 0) as done, closing(results_in_order(jobs, threads)) as counted:
            for counts, judged in counted:
                total += counts
                judged_frames += judged
                done(1)
        yield total, judged_frames


def _count(store: Store, truth: Truth, video: str, num_classes: int, t: int) -> tuple[np.ndarray, bool]:
    """Counts of a frame, (3, 256, C) int64, and whether it has a mask."""
    label, levels = store.label(video, t), MAX_LEVEL + 1
    # A small integer type makes the arithmetic cheap, and one bincount counts everything.
    small = np.dtype(np.uint16 if 3 * levels * num_classes <= 2**16 else np.int32)
    cell = store.read(video, "entropy", t).astype(small)
    cell *= small.type(num_classes)
    cell += label
    mask = truth(video, t)
    if mask is not None:
        require_size(mask, store, video, t)
        fate = (mask < num_classes).view(np.uint8) + (mask == label).view(np.uint8)  # unlabelled, wrong, right
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
