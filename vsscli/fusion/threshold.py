"""Splitting pixels by entropy into reliable and unreliable: pseudo-labels, from the cache alone.

A pixel is reliable if its stored entropy, an integer, is at most an integer level. So a threshold given as a percentile
is exact, and the same pixels are reliable whichever way the threshold was given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from vsscli.engine.engine import LOCAL, Engine
from vsscli.errors import VssError
from vsscli.fusion.sources import source_note
from vsscli.store.encode import IGNORE
from vsscli.store.header import MAX_LEVEL, Header
from vsscli.store.reader import Store
from vsscli.store.record import Segment
from vsscli.store.remote import place_of
from vsscli.store.verify import require_complete
from vsscli.store.writer import StoreWriter
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order


@dataclass(frozen=True)
class Threshold:
    """The largest entropy at which a pixel is reliable.

    Parameters
    ----------
    value
        Normalised entropy, in [0, 1].
    percentile
        The percentile it was computed from, if any.
    class_levels
        The largest reliable stored entropy, 0..255, of pixels predicted as each of the C classes; empty if it is the
        same for all classes.
    """

    value: float
    percentile: float | None = None
    class_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise VssError(f"threshold {self.value} is not in [0, 1]", "give entropy divided by log C, such as 0.3")

    @property
    def level(self) -> int:
        """The largest stored entropy that is reliable for some class, 0..255."""
        # Slightly more, so that k / 255 as a float is level k.
        return math.floor(self.value * MAX_LEVEL + 1e-9)

    def reliable(self, label: np.ndarray, entropy: np.ndarray) -> np.ndarray:
        """Which pixels are reliable, bool, given their predicted classes and stored entropies, uint8 of one shape."""
        if not self.class_levels:
            return entropy <= self.level
        levels = np.zeros(MAX_LEVEL + 1, np.uint8)
        levels[: len(self.class_levels)] = self.class_levels
        return entropy <= levels[label]


@dataclass(frozen=True)
class PseudoReport:
    """What a pseudo-label store holds.

    Parameters
    ----------
    path
        The store.
    threshold
        The threshold it was made with.
    frames, pixels, reliable
        Numbers of frames, pixels and reliable pixels.
    class_pixels, class_reliable
        Pixels and reliable pixels by predicted class.
    """

    path: Path
    threshold: Threshold
    frames: int
    pixels: int
    reliable: int
    class_pixels: tuple[int, ...]
    class_reliable: tuple[int, ...]

    @property
    def share(self) -> float:
        """Share of the pixels that are reliable, in [0, 1]."""
        return self.reliable / self.pixels


def entropy_histogram(
    store: Store, *, by_class: bool = False, talk: Talk = SILENCE, engine: Engine = LOCAL
) -> np.ndarray:
    """Number of pixels of a store with each stored entropy, (256,) int64, or by predicted class (C, 256)."""
    require_predictions(store)
    num_classes = store.header.num_classes if by_class else 1
    counts = np.zeros((num_classes, MAX_LEVEL + 1), np.int64)
    videos = require_complete(store)
    lengths = [len(store.stems(video)) for video in videos]
    with closing(engine.map("entropy", _Counting(store, num_classes), videos, lengths, talk)) as counted:
        for some in counted:
            counts += some
    return counts if by_class else counts[0]


@dataclass(frozen=True)
class _Counting:
    """The task of counting the entropies of some videos."""

    store: Store
    num_classes: int

    def __call__(self, videos: Sequence[str], threads: int, talk: Talk) -> Iterator[np.ndarray]:
        counts = np.zeros((self.num_classes, MAX_LEVEL + 1), np.int64)
        places = ((video, t) for video in videos for t in range(len(self.store.stems(video))))
        jobs = (partial(_frame_histogram, self.store, video, self.num_classes, t) for video, t in places)
        with talk.track("entropy", 0) as done, closing(results_in_order(jobs, threads)) as counted:
            for some in counted:
                counts += some
                done(1)
        yield counts


def threshold_from_percentile(
    store: Store,
    percentile: float,
    *,
    by_class: bool = False,
    talk: Talk = SILENCE,
    engine: Engine = LOCAL,
) -> Threshold:
    """The smallest threshold at which at least ``percentile`` percent of the store's pixels are reliable.

    Parameters
    ----------
    store
        Predictions.
    percentile
        Above 0, at most 100, of all pixels of all videos.
    by_class
        Use a threshold for each class, the percentile of the pixels predicted as it, so that small and rare classes,
        whose pixels are seldom among the surest, are learned from, too (class-balanced self-training, Zou et al. 2018).
    talk, engine
        As for `write_pseudo`.

    Raises
    ------
    VssError
        An invalid percentile, or a store that is unfinished or has no entropies.
    """
    require_percentile(percentile)
    counts = entropy_histogram(store, by_class=by_class, talk=talk, engine=engine)
    if not by_class:
        return percentile_of(counts, percentile)
    levels = tuple(percentile_of(of_class, percentile).level for of_class in counts)
    return Threshold(max(levels) / MAX_LEVEL, float(percentile), levels)


def require_percentile(percentile: float) -> None:
    """Refuse a percentile outside of (0, 100]."""
    if not 0 < percentile <= 100:
        raise VssError(f"percentile {percentile} is not above 0 and at most 100", "give one such as 80")


def percentile_of(histogram: np.ndarray, percentile: float) -> Threshold:
    """`threshold_from_percentile` for a histogram of stored entropies, (256,)."""
    wanted = percentile / 100 * histogram.sum()
    # Slightly less, so that 80 % of 10 pixels are 8 and not 9.
    level = int(np.searchsorted(histogram.cumsum(), wanted * (1 - 1e-12)))
    return Threshold(min(level, MAX_LEVEL) / MAX_LEVEL, float(percentile))


def pseudo_header(store: Store, threshold: Threshold, out: Path) -> Header:
    """The header of a pseudo-label store made from ``store``."""
    return Header(
        kind="pseudo",
        table=store.header.table,
        scores="",
        source={
            "threshold": threshold.level / MAX_LEVEL,
            "level": threshold.level,
            **({"class_levels": list(threshold.class_levels)} if threshold.class_levels else {}),
            "store": source_note(store, out),
        },
        encoding={},
        data=store.header.data,
        # In the summary, since the same level makes the same pseudo-labels whichever way it was given.
        summary={"threshold": threshold.value, "percentile": threshold.percentile},
    )


def write_pseudo(
    store: Store,
    out: str | Path,
    threshold: Threshold,
    *,
    talk: Talk = SILENCE,
    engine: Engine = LOCAL,
    force: bool = False,
) -> PseudoReport:
    """Write a pseudo-label store, or continue it; the counts include what was already there.

    Parameters
    ----------
    store
        Predictions of one source, or a fusion.
    out
        The store to write.
    threshold
        Pixels whose entropy is at most this keep their label; the others get 255.
    talk
        Called with the progress, by frame.
    engine
        Where videos are thresholded.
    force
        As for `StoreWriter`.

    Raises
    ------
    VssError
        ``store`` holds no predictions or is unfinished, or ``out`` holds something else.
    """
    require_predictions(store)
    num_classes = store.header.num_classes
    videos = require_complete(store)
    total = np.zeros((2, MAX_LEVEL + 1), np.int64)
    frames = sum(len(store.stems(video)) for video in videos)
    with StoreWriter(out, pseudo_header(store, threshold, place_of(out)), force=force) as writer:
        task, lengths = _Splitting(store, threshold, writer), [len(store.stems(video)) for video in videos]
        with closing(engine.map("pseudo-label", task, videos, lengths, talk)) as counted:
            for some in counted:
                total += some
    return PseudoReport(
        writer.path,
        threshold,
        frames,
        int(total[0].sum()),
        int(total[1].sum()),
        tuple(map(int, total[0, :num_classes])),
        tuple(map(int, total[1, :num_classes])),
    )


@dataclass(frozen=True)
class _Splitting:
    """The task of writing the pseudo-labels of some videos; yields their counts, see `_split_frame`."""

    store: Store
    threshold: Threshold
    writer: StoreWriter

    def __call__(self, videos: Sequence[str], threads: int, talk: Talk) -> Iterator[np.ndarray]:
        store, total = self.store, np.zeros((2, MAX_LEVEL + 1), np.int64)
        with self.writer as writer, talk.track("pseudo-label", 0) as done:
            for video in videos:
                stems, size = store.stems(video), store.size(video)
                pending = writer.pending(video, stems, size, [store.digest(video)], store.record(video).frames)
                for segment in _segments(len(stems), pending):
                    labels = np.empty((len(segment), *size), np.uint8) if segment in pending else None
                    jobs = (
                        partial(_split_frame, store, video, self.threshold, t)
                        for t in range(segment.start, segment.stop)
                    )
                    for i, (label, counts) in enumerate(results_in_order(jobs, threads)):
                        total += counts
                        if labels is not None:
                            labels[i] = label
                        done(1)
                    if labels is not None:
                        writer.write(video, segment, {"pseudo_label": labels})
        yield total


def _split_frame(store: Store, video: str, threshold: Threshold, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-label of frame t, (H, W) uint8, and its pixels by predicted class, all and reliable, (2, 256) int64."""
    label = store.label(video, t)
    reliable = threshold.reliable(label, store.read(video, "entropy", t))
    pseudo = np.where(reliable, label, np.uint8(IGNORE))
    every = np.bincount(label.reshape(-1), minlength=MAX_LEVEL + 1)
    # No class has id 255: these are the unreliable pixels.
    kept = np.bincount(pseudo.reshape(-1), minlength=MAX_LEVEL + 1)
    kept[IGNORE] = 0
    return pseudo, np.stack([every, kept])


def _frame_histogram(store: Store, video: str, num_classes: int, t: int) -> np.ndarray:
    """Pixels of frame t by predicted class and stored entropy, (C, 256) int64; with C = 1 over all classes."""
    cells = store.read(video, "entropy", t).reshape(-1)
    if num_classes > 1:
        cells = cells + store.label(video, t).reshape(-1).astype(np.int64) * (MAX_LEVEL + 1)
    counts = np.bincount(cells, minlength=num_classes * (MAX_LEVEL + 1))
    return counts.reshape(num_classes, MAX_LEVEL + 1)


def _segments(frames: int, pending: list[Segment]) -> list[Segment]:
    """All frames of a video in order, as segments: those pending, and those between them that are already written."""
    segments, start = [], 0
    for segment in [*pending, Segment(frames, frames)]:
        segments += [part for part in (Segment(start, segment.start), segment) if len(part)]
        start = segment.stop
    return segments


def require_predictions(store: Store) -> None:
    """Refuse a pseudo-label store."""
    if store.header.kind == "pseudo":
        raise VssError(f"{store.path} holds pseudo-labels, which have no entropies", "name the prediction store")
