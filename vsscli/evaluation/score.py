"""From predicted labels to figures: every metric in one pass, each file decoded once.

Decoding is what costs. Files are decoded by a few threads a bounded number of frames ahead (Pillow gives the
interpreter lock up while it inflates); the metrics take the frames in order, so figures do not depend on the number of
threads, and memory does not depend on the number of videos.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsscli.data.census import Census
from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.evaluation.figures import (
    CONFUSION_METRICS,
    DEFAULT_METRICS,
    ClassFigure,
    Counts,
    Figures,
    VideoFigure,
    parse_metrics,
)
from vsscli.evaluation.labels import FolderLabels, LabelSource, StoreLabels
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.consistency import VideoConsistency
from vsscli.metrics.protocols import DEFAULT_PROTOCOL
from vsscli.talk import SILENCE, Talk
from vsscli.threads import in_order

__all__ = ["Figures", "FolderLabels", "LabelSource", "StoreLabels", "score"]

ReadMask = Callable[[Path], np.ndarray]


def score(
    dataset_videos: Sequence[FolderVideo],
    prediction: LabelSource,
    table: ClassTable,
    ids: MaskIds,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    protocol: str = DEFAULT_PROTOCOL,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Figures:
    """Score predicted labels against the masks of a data set.

    Parameters
    ----------
    dataset_videos
        The videos of the split. Frames without a mask count for nothing, and nor do windows of frames that hold one.
    prediction
        Labels for every one of their frames with a mask, of the masks' size.
    table
        The classes.
    ids
        What mask values mean. Values that mean nothing count as void here, as the published scripts count them.
    metrics
        Any of ``miou``, ``wiou``, ``acc``, ``class_acc`` and ``vcN`` for any N from 2.
    protocol
        A name of `metrics.protocols`.
    workers
        Threads that decode and ask `prediction`; none: one per core this process may use; 1: the caller's own.
    talk
        Follows the frames, and hears how many have no mask.

    Raises
    ------
    VssError
        On an unknown metric or protocol, no frame with a mask, one of these without a prediction, sizes that differ,
        damaged files.
    """
    names, windows = parse_metrics(metrics)
    lookup = replace(ids, unknown="void").lookup(table.num_classes)
    consistency = VideoConsistency(windows, protocol)
    confusion = ConfusionMatrix(table.num_classes, lookup) if set(names) & set(CONFUSION_METRICS) else None
    to_class = None if consistency.raw else lookup.tobytes()

    videos = [video for video in dataset_videos if consistency.counts_video(len(video.frames))]
    if not videos:
        raise VssError(
            f"nothing to score: protocol {protocol!r} counts none of the {len(dataset_videos)} videos given",
            consistency.protocol.description,
        )
    left_out = len(dataset_videos) - len(videos)
    if left_out:
        talk.warn(f"protocol {protocol} leaves out {left_out} of {len(dataset_videos)} videos: they are too short")
    frames = sum(len(video.frames) for video in videos)
    unmasked = sum(frame.mask is None for video in videos for frame in video.frames)
    _require_masks(videos, frames, unmasked, windows=bool(windows), talk=talk)
    census = Census(frames)
    decoded = closing(_decoded(videos, prediction, ids.read, workers))
    with decoded as pairs, talk.track("score", frames - unmasked) as done:
        for video in videos:
            consistency.start_video(len(video.frames))
            shape: tuple[int, ...] | None = None
            for frame in video.frames:
                if frame.mask is None:
                    consistency.skip()
                    continue
                truth, label = next(pairs)
                shape = shape or truth.shape
                if truth.shape != shape:
                    raise VssError(
                        f"mask {frame.mask} is {_size(truth.shape)}, the first of video {video.name} is {_size(shape)}",
                        "all frames of a video have one size",
                    )
                if confusion is not None:
                    confusion.update(truth, label)
                else:
                    census.count(truth)
                consistency.update(truth if to_class is None else _translate(truth, to_class), label)
                done(1)
            consistency.end_video(video.name)
    if confusion is not None:
        census = Census(frames, frames - unmasked, confusion.truths)
    return _figures(names, table, videos, left_out, confusion, consistency, census)


def _require_masks(videos: Sequence[FolderVideo], frames: int, unmasked: int, *, windows: bool, talk: Talk) -> None:
    """Refuse a split without a mask, and say how many frames have none."""
    if unmasked == frames:
        first = videos[0].frames[0].address
        raise VssError(
            f"none of the {frames} frames has a mask to score against, {first} first",
            "choose a split whose frames have masks, or add the files",
        )
    if unmasked:
        of_windows = ", and VC the windows whose frames all have one" if windows else ""
        talk.warn(f"{unmasked} of {frames} frames have no mask: the {frames - unmasked} others count{of_windows}")


def _figures(
    names: tuple[str, ...],
    table: ClassTable,
    videos: Sequence[FolderVideo],
    left_out: int,
    confusion: ConfusionMatrix | None,
    consistency: VideoConsistency,
    census: Census,
) -> Figures:
    """Gather what the metrics counted."""
    per_video = []
    for video, own in zip(videos, consistency.per_video(), strict=True):
        worst = {}
        for window in consistency.windows:
            start = own.worst(window)
            if start is not None:
                worst[window] = (video.frames[start].stem, float(own.accuracies[window][start]))
        vc = {window: own.score(window) for window in consistency.windows}
        per_video.append(VideoFigure(own.name, own.frames, vc, worst))

    per_class: tuple[ClassFigure, ...] = ()
    if confusion is not None:
        rows = zip(table.names, confusion.iou(), confusion.pixels, strict=True)
        per_class = tuple(ClassFigure(name, float(iou), int(pixels)) for name, iou, pixels in rows)
    windows = consistency.counts()
    return Figures(
        metrics=names,
        protocol=consistency.protocol.name,
        miou=confusion.miou if confusion else math.nan,
        wiou=confusion.wiou if confusion else math.nan,
        acc=confusion.accuracy if confusion else math.nan,
        class_acc=confusion.class_accuracy if confusion else math.nan,
        vc=consistency.scores(),
        per_class=per_class,
        per_video=tuple(per_video),
        counts=Counts(
            videos=sum(any(frame.mask is not None for frame in video.frames) for video in videos),
            frames=census.masks,
            left_out=left_out,
            windows={window: total for window, (total, _) in windows.items()},
            empty_windows={window: empty for window, (_, empty) in windows.items()},
            unmasked=census.frames - census.masks,
            bare_windows={window: bare for window, bare in consistency.bare().items() if bare},
        ),
        census=census,
        **({} if confusion is None else {"matrix": confusion.by_value}),
    )


def _decoded(
    videos: Sequence[FolderVideo], prediction: LabelSource, read: ReadMask, workers: int | None
) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """(truth as on disk, label) of every frame of every video in order, decoded ahead by `workers` threads."""

    def jobs() -> Iterator[Callable[[], tuple[np.ndarray, np.ndarray]]]:
        for video in videos:
            for index, frame in enumerate(video.frames):
                if frame.mask is None:
                    continue
                yield lambda frame=frame, index=index: _read(frame, index, prediction, read)  # type: ignore[misc]

    return in_order(jobs(), workers)


def _read(frame: Frame, index: int, prediction: LabelSource, read: ReadMask) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth and label of one frame, of one size."""
    assert frame.mask is not None
    truth = read(frame.mask)
    label = prediction.label(frame.video, index, frame.stem)
    if truth.shape != label.shape:
        raise VssError(
            f"{prediction.place(frame.video, frame.stem)} is {_size(label.shape)}, "
            f"its mask {frame.mask} is {_size(truth.shape)}",
            "predictions are scored at the size of the masks (height x width); resize with nearest neighbour",
        )
    return truth, label


def _translate(mask: np.ndarray, table: bytes) -> np.ndarray:
    """`table[mask]`, several times faster than NumPy's indexing for bytes."""
    return np.frombuffer(mask.tobytes().translate(table), np.uint8).reshape(mask.shape)


def _size(shape: tuple[int, ...]) -> str:
    """`480x853` of (480, 853)."""
    return "x".join(map(str, shape))
