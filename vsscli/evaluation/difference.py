"""Two predictions of the same frames: how their IoU differs by class, how sure that is, and where they differ most."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from heapq import nlargest

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.evaluation.labels import LabelSource
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.metric import iou_of, mean_of
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

RESAMPLES = 1000
SEED = 0

STRETCHES = 10
"""Fewer videos than this are cut into stretches of frames, because neighbouring frames are no independent samples."""

Labels = tuple[np.ndarray, np.ndarray, np.ndarray | None]
"""The labels of both predictions and, where the frame has a mask, its classes, (H, W) uint8 each."""


@dataclass(frozen=True)
class FrameDifference:
    """A frame of a video, by its number, and the share of its pixels on which the predictions differ."""

    video: int
    index: int
    share: float


@dataclass(frozen=True)
class Difference:
    """How two predictions differ.

    Attributes
    ----------
    names
        C class names.
    iou
        (2, C) float, IoU of each prediction; NaN for classes without a labelled pixel.
    miou
        mIoU of each.
    spread, miou_spread
        (C,) and one number: standard deviation of the difference, second minus first, over sets of samples drawn with
        replacement (bootstrap, Efron 1979). NaN with fewer than two samples that have the class.
    samples
        Number of these samples: the videos with labels, or, if there are few, about `STRETCHES` stretches of them.
    pixels
        (C,) labelled pixels.
    differing
        Share of all pixels, labelled or not, on which the predictions differ.
    videos, frames, masked
        Numbers of videos, frames, and frames with a mask.
    most
        The frames with the largest differences, the largest first.
    """

    names: tuple[str, ...]
    iou: np.ndarray
    miou: tuple[float, float]
    spread: np.ndarray
    miou_spread: float
    samples: int
    pixels: np.ndarray
    differing: float
    videos: int
    frames: int
    masked: int
    most: tuple[FrameDifference, ...]


def difference(
    videos: Sequence[FolderVideo],
    predictions: tuple[LabelSource, LabelSource],
    table: ClassTable,
    ids: MaskIds,
    *,
    most: int = 0,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Difference:
    """Compare two predictions of the same frames.

    Parameters
    ----------
    videos
        The videos of a split; masks may be missing.
    predictions
        The labels of each, for all frames.
    table, ids
        The classes, and what mask values mean; unknown values are void, as in scoring.
    most
        How many frames with large differences to name; from each video as many as from any other, at least one.
    workers
        Threads that decode; `None`: one per core.
    talk
        Receives the progress, by frame.

    Raises
    ------
    VssError
        A frame lacks a prediction, or sizes differ.
    """
    ids = replace(ids, unknown="void")
    each = -(-most // max(1, len(videos)))
    cuts = -(-STRETCHES // max(1, sum(_labelled(video) > 0 for video in videos)))
    counts: list[np.ndarray] = []
    found: list[FrameDifference] = []
    differing = pixels = masked = 0
    total = sum(len(video.frames) for video in videos)
    decoded = closing(results_in_order(_jobs(videos, predictions, ids, table.num_classes), workers))
    with decoded as given, talk.track("compare", total) as done:
        for number, video in enumerate(videos):
            stretches = [_Stretch(table.num_classes) for _ in range(cuts)]
            labelled, count = 0, _labelled(video)
            own = []
            for index in range(len(video.frames)):
                one, other, truth = next(given)
                changed = int(np.count_nonzero(one != other))
                differing, pixels = differing + changed, pixels + one.size
                own.append(FrameDifference(number, index, changed / one.size))
                if truth is not None:
                    stretches[labelled * cuts // count].update(truth, one, other)
                    labelled += 1
                done(1)
            masked += labelled
            found += nlargest(each, own, key=lambda frame: frame.share)
            counts += [stretch.counts() for stretch in stretches if stretch.pixels]
    counted = np.stack(counts, axis=2) if counts else np.zeros((2, 3, 0, table.num_classes), np.int64)
    iou, (spread, miou_spread) = _iou(counted.sum(axis=2)), _spread(counted)
    return Difference(
        names=table.names,
        iou=iou,
        miou=(mean_of(iou[0]), mean_of(iou[1])),
        spread=spread,
        miou_spread=miou_spread,
        samples=counted.shape[2],
        pixels=counted[0, 1].sum(axis=0),
        differing=differing / max(1, pixels),
        videos=len(videos),
        frames=total,
        masked=masked,
        most=tuple(frame for frame in nlargest(most, found, key=lambda frame: frame.share) if frame.share),
    )


class _Stretch:
    """Some frames of a video, counted."""

    def __init__(self, num_classes: int) -> None:
        self._matrices = ConfusionMatrix(num_classes), ConfusionMatrix(num_classes)

    def update(self, truth: np.ndarray, one: np.ndarray, other: np.ndarray) -> None:
        for matrix, label in zip(self._matrices, (one, other), strict=True):
            matrix.update(truth, label)

    @property
    def pixels(self) -> int:
        """Number of labelled pixels."""
        return int(self._matrices[0].pixels.sum())

    def counts(self) -> np.ndarray:
        """(2, 3, C): of each prediction the pixels that are right, of a class, and predicted as it."""
        return np.stack([(m.matrix.diagonal(), m.pixels, m.matrix.sum(axis=0)) for m in self._matrices])


def _labelled(video: FolderVideo) -> int:
    return sum(frame.mask is not None for frame in video.frames)


def _jobs(
    videos: Sequence[FolderVideo], predictions: tuple[LabelSource, LabelSource], ids: MaskIds, num_classes: int
) -> Iterator[Callable[[], Labels]]:
    def read(video: FolderVideo, index: int) -> Labels:
        frame = video.frames[index]
        one, other = (source.label(frame.video, index, frame.stem) for source in predictions)
        truth = None
        if frame.mask is not None:
            lookup = ids.lookup(num_classes)
            truth = np.where(lookup < num_classes, lookup, IGNORE)[ids.read(frame.mask)].astype(np.uint8)
        for what, label in ((predictions[1].place(frame.video, frame.stem), other), (str(frame.mask), truth)):
            if label is not None and label.shape != one.shape:
                sizes = f"{label.shape[1]}x{label.shape[0]}, and {one.shape[1]}x{one.shape[0]}"
                raise VssError(
                    f"{what} is {sizes} in {predictions[0].place(frame.video, frame.stem)} (width x height)",
                    "compare predictions of the same frames, of the size of the masks",
                )
        return one, other, truth

    for video in videos:
        for index in range(len(video.frames)):
            yield lambda video=video, index=index: read(video, index)  # type: ignore[misc]


def _iou(counts: np.ndarray) -> np.ndarray:
    """IoU of (…, 3, C) pixels that are right, of a class, and predicted as it: (…, C), NaN without pixels of it."""
    return iou_of(*np.moveaxis(counts, -2, 0))


def _spread(counts: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard deviations of the differences by class and of mIoU, from the counts of S samples, (2, 3, S, C)."""
    samples, classes = counts.shape[2:]
    spread = np.full(classes, np.nan)
    if samples < 2:
        return spread, float("nan")
    rng = np.random.default_rng(SEED)
    drawn = rng.multinomial(samples, np.full(samples, 1 / samples), size=RESAMPLES)
    sums = np.einsum("rv,pkvc->rpkc", drawn, counts, optimize=True)
    iou = _iou(sums)
    change = iou[:, 1] - iou[:, 0]
    several = np.count_nonzero(counts[0, 1], axis=0) > 1
    spread[several] = np.nanstd(change[:, several], axis=0)
    present = ~np.isnan(change)
    counted = np.maximum(present.sum(axis=1), 1)
    return spread, float(np.std(np.where(present, change, 0).sum(axis=1) / counted))
