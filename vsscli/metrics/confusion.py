"""The confusion matrix over a set of frames, and the figures computed from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting, iou_of, mean_of

# If labels change in more than this share of the words of eight pixels, counting pixels is faster than counting runs.
DENSE = 1 / 3


class ConfusionMatrix(Metric):
    """Counts of (true class, predicted class) over all frames, and mIoU and related figures.

    There is one matrix for all frames of all videos; nothing is averaged by frame or by video. A pixel counts if its
    truth is a class. A prediction on such a pixel that is not a class (255, say) is wrong: it counts in its row's sum
    but in no column.

    Parameters
    ----------
    num_classes
        C, at most 255.
    lookup
        (256,) uint8, the class of each value of `truth`, where C and above mean void; `None`: truth holds classes. With
        it, masks as stored on disk are counted at no cost per pixel.

    Notes
    -----
    Figures as in `specs/vspw_eval.md`, "mIoU / Weighted IoU". Instances add up with `merge` and pickle.

    Examples
    --------
    >>> confusion = ConfusionMatrix(2)
    >>> confusion.update(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 0]], np.uint8))
    >>> confusion.matrix.tolist()
    [[1, 1], [0, 1]]
    >>> confusion.miou
    0.5
    """

    names = ("miou", "wiou", "acc", "class_acc")
    titles = ("mIoU", "wIoU", "IoU", "pixels")

    def __init__(self, num_classes: int, lookup: np.ndarray | None = None) -> None:
        if not 1 <= num_classes <= 255:
            raise ValueError(f"num_classes is {num_classes}; labels are uint8, so it must be from 1 to 255")
        self.num_classes = num_classes
        self.raw = lookup is not None
        self._lookup = np.arange(256, dtype=np.uint8) if lookup is None else np.array(lookup, dtype=np.uint8)
        if self._lookup.shape != (256,):
            raise ValueError(f"lookup has shape {self._lookup.shape}, not (256,)")
        # Pairs of raw values are counted, and converted to classes only on request.
        self._pairs = np.zeros(256 * 256, np.int64)
        self._counts: np.ndarray | None = None
        self._size = 0

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        return cls(setting.num_classes, setting.lookup)

    def update(self, truth: np.ndarray, prediction: np.ndarray, extras: Extras = NOTHING) -> None:
        """Count one frame.

        Parameters
        ----------
        truth
            (H, W) uint8, classes, or values of `lookup`.
        prediction
            (H, W) uint8, classes.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
        if truth.dtype != np.uint8 or prediction.dtype != np.uint8:
            raise ValueError(f"truth is {truth.dtype}, prediction {prediction.dtype}; labels are uint8")
        if truth.size == 0:
            return
        self._counts = None
        self._reserve(truth.size)
        truth, prediction = truth.reshape(-1), prediction.reshape(-1)

        # Labels consist of areas, so along a row the pair (truth, prediction) seldom changes. The pixel before each
        # change, and the last one, end a run: a few thousand runs are counted instead of 400,000 pixels.
        ends = self._ends[: truth.size]
        np.not_equal(truth[1:], truth[:-1], out=ends[:-1])
        np.not_equal(prediction[1:], prediction[:-1], out=self._other)
        np.logical_or(ends[:-1], self._other, out=ends[:-1])
        words = np.flatnonzero(self._words != 0)  # eight flags at a time: most words are empty
        if words.size > DENSE * self._words.size:
            np.copyto(self._codes, truth)
            np.left_shift(self._codes, 8, out=self._codes)
            np.bitwise_or(self._codes, prediction, out=self._codes)
            self._pairs += np.bincount(self._codes, minlength=self._pairs.size)
            return
        flags = np.flatnonzero(self._words[words].view(bool))
        positions = (words[flags >> 3] << 3) + (flags & 7)
        codes = truth[positions].astype(np.intp)
        codes <<= 8
        codes |= prediction[positions]
        np.add.at(self._pairs, codes, np.diff(positions, prepend=-1))

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of another matrix, such as that of another process."""
        if other.num_classes != self.num_classes or not np.array_equal(other._lookup, self._lookup):
            raise ValueError("matrices of different classes can't be added")
        self._counts = None
        self._pairs += other._pairs

    def __getstate__(self) -> dict[str, Any]:
        buffers = ("_words", "_ends", "_other", "_codes")
        return {name: value for name, value in self.__dict__.items() if name not in buffers} | {"_size": 0}

    def _reserve(self, size: int) -> None:
        """Allocate buffers for frames of `size` pixels if the size has changed."""
        if size != self._size:
            self._size = size
            self._words = np.zeros(-(-size // 8), np.uint64)
            self._ends = self._words.view(bool)
            self._ends[size - 1] = True  # `update` only writes the flags before it
            self._other = np.empty(size - 1, bool)
            self._codes = np.empty(size, np.uint16)

    @property
    def counts(self) -> np.ndarray:
        """(C, C + 1) int64: rows truth, columns prediction; the last column counts predictions that are not a class."""
        if self._counts is None:
            by_class = self.by_value
            none = by_class[:, self.num_classes :].sum(axis=1, keepdims=True)
            self._counts = np.hstack([by_class[:, : self.num_classes], none])
            self._counts.flags.writeable = False
        return self._counts

    @property
    def truths(self) -> np.ndarray:
        """(256,) int64: pixels of each value of the ground truth as given."""
        values: np.ndarray = self._pairs.reshape(256, 256).sum(axis=1)
        return values

    @property
    def by_value(self) -> np.ndarray:
        """(C, 256) int64: rows truth, columns predicted values, classes or not."""
        by_class = np.zeros((self.num_classes, 256), np.int64)
        valued = self._lookup < self.num_classes
        np.add.at(by_class, self._lookup[valued], self._pairs.reshape(256, 256)[valued])
        return by_class

    @property
    def matrix(self) -> np.ndarray:
        """(C, C) int64: rows truth, columns prediction, without predictions that are not a class."""
        return self.counts[:, :-1]

    @property
    def pixels(self) -> np.ndarray:
        """(C,) int64: pixels of each class in the ground truth."""
        return self.counts.sum(axis=1)

    def iou(self) -> np.ndarray:
        """Intersection over union of each class (`iou_of`), (C,) float64."""
        return iou_of(self.counts.diagonal(), self.pixels, self.matrix.sum(axis=0))

    def figures(self) -> dict[str, float]:
        return {"miou": self.miou, "wiou": self.wiou, "acc": self.accuracy, "class_acc": self.class_accuracy}

    def per_class(self) -> dict[str, np.ndarray]:
        return {"iou": self.iou(), "pixels": self.pixels}

    @property
    def miou(self) -> float:
        """Mean IoU over the classes in the ground truth; NaN if nothing is labelled."""
        return mean_of(self.iou())

    @property
    def wiou(self) -> float:
        """IoU weighted by each class's share of the labelled pixels ("weighted IoU", FWIoU)."""
        pixels = self.pixels
        present = pixels > 0
        if not present.any():
            return float("nan")
        return float((pixels[present] / pixels.sum() * self.iou()[present]).sum())

    @property
    def accuracy(self) -> float:
        """Share of the labelled pixels that are predicted correctly ("Acc")."""
        counts = self.counts
        total = counts.sum()
        return float(counts.diagonal().sum() / total) if total else float("nan")

    @property
    def class_accuracy(self) -> float:
        """Mean over the classes in the ground truth of the share predicted correctly ("Acc_class")."""
        counts = self.counts
        pixels = counts.sum(axis=1)
        present = pixels > 0
        return float((counts.diagonal()[present] / pixels[present]).mean()) if present.any() else float("nan")
