"""Scoring predicted labels: every metric in one pass, each file decoded once.

Decoding takes most of the time, so a few threads decode a bounded number of frames ahead (Pillow releases the
interpreter lock while it inflates). The metrics take the frames in order, so figures do not depend on the number of
threads, nor memory on the number of videos.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from vsscli.data.census import Census
from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.evaluation.figures import Figures, ScoredVideo
from vsscli.evaluation.labels import FolderLabels, LabelSource, LabelsWithConfidence, StoreLabels
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.metric import Extras, Metric, Need, Setting
from vsscli.metrics.protocols import DEFAULT_PROTOCOL, get_protocol
from vsscli.metrics.registry import DEFAULT_METRICS, build_metrics, metric_names
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

__all__ = ["Figures", "FolderLabels", "LabelSource", "StoreLabels", "score"]

ReadMask = Callable[[Path], np.ndarray]

Decoded = tuple[np.ndarray, np.ndarray, Extras]
"""Truth as stored on disk, label, and what else metrics need of a frame."""


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
        The videos of the split. Frames without a mask do not count, nor do windows of frames with one of them.
    prediction
        Labels for each of their frames with a mask, of the mask's size.
    table
        The classes.
    ids
        What mask values mean. Unknown values count as void here, as in the published scripts.
    metrics
        Names of `metrics.registry`: ``miou``, ``vc8``, …
    protocol
        A name of `metrics.protocols`.
    workers
        Threads that decode and call `prediction`; `None`: one for each core this process may use; 1: the caller's own.
    talk
        Called with the progress, by frame, and with the number of frames without a mask.

    Raises
    ------
    VssError
        An unknown metric or protocol, a metric that needs more than `prediction` has, no frame with a mask, a frame
        with a mask but no prediction, different sizes, or a damaged file.
    """
    names = metric_names(metrics)
    lookup = replace(ids, unknown="void").lookup(table.num_classes)
    setting = Setting(table.num_classes, lookup, get_protocol(protocol))
    asked = build_metrics(names, setting)
    needs = frozenset(need for metric in asked for need in metric.needs)
    _require_given(asked, prediction)
    # Where classes are compared, the values of masks and predictions are counted; otherwise those of masks.
    tally = next((metric for metric in asked if isinstance(metric, ConfusionMatrix)), None)
    if tally is None and any(metric.of_classes for metric in asked):
        tally = ConfusionMatrix(table.num_classes, lookup)
    fed = asked if tally is None or tally in asked else [*asked, tally]
    to_class = None if all(metric.raw for metric in fed) else lookup.tobytes()

    runs = [window for metric in asked for window in metric.windows]
    videos = [video for video in dataset_videos if setting.protocol.counts_video(len(video.frames), runs)]
    if not videos:
        raise VssError(
            f"nothing to score: protocol {protocol!r} counts none of the {len(dataset_videos)} videos given",
            setting.protocol.description,
        )
    left_out = len(dataset_videos) - len(videos)
    if left_out:
        talk.warn(f"protocol {protocol} leaves out {left_out} of {len(dataset_videos)} videos that are too short")
    frames = sum(len(video.frames) for video in videos)
    unmasked = sum(frame.mask is None for video in videos for frame in video.frames)
    bare = bool(unmasked) and all(metric.without_truth for metric in asked)
    if bare:
        unmasked = 0
        talk.say(f"{', '.join(names)} needs no masks: all {frames} frames count, and nothing is said of being right")
    else:
        _require_masks(videos, frames, unmasked, asked, talk)
    census = Census(frames)
    decoded = closing(_decoded(videos, prediction, ids.read, needs, workers, bare=bare))
    with decoded as given, talk.track("score", frames - unmasked) as done:
        for video in videos:
            for metric in fed:
                metric.start_video(len(video.frames))
            shape: tuple[int, ...] | None = None
            for frame in video.frames:
                if frame.mask is None and not bare:
                    for metric in fed:
                        metric.skip()
                    continue
                truth, label, extras = next(given)
                shape = shape or truth.shape
                if truth.shape != shape:
                    raise VssError(
                        f"{_place(frame)} is {_size(truth.shape)}, the first of video {video.name} is {_size(shape)}",
                        "all frames of a video must have the same size",
                    )
                if tally is None and not bare:
                    census.count(truth)
                classes = truth if to_class is None else _translate(truth, to_class)
                for metric in fed:
                    metric.update(truth if metric.raw else classes, label, extras)
                done(1)
            for metric in fed:
                metric.end_video(video.name)
    if tally is not None:
        census = Census(frames, frames - unmasked, tally.truths)
    found = {name: value for metric in asked for name, value in metric.figures().items()}
    compared = {} if tally is None else {"matrix": tally.by_value}
    return Figures(
        values={name: found[name] for name in names},
        protocol=protocol,
        videos=sum(bare or any(frame.mask is not None for frame in video.frames) for video in videos),
        frames=frames - unmasked,
        left_out=left_out,
        unmasked=unmasked,
        notes={name: value for metric in asked for name, value in metric.notes().items()},
        reasons=tuple(dict.fromkeys(reason for metric in asked for reason in metric.reasons())),
        per_class=_by_class(table, asked),
        per_video=_by_video(videos, asked),
        census=census,
        **compared,
    )


def _require_given(asked: Sequence[Metric], prediction: LabelSource) -> None:
    """Refuse metrics of probabilities if there are only labels."""
    refused = [metric.names[0] for metric in asked if {"confidence", "entropy"} & set(metric.needs)]
    if refused and not isinstance(prediction, LabelsWithConfidence):
        raise VssError(
            f"{', '.join(refused)} needs probabilities, which masks do not have",
            "score a prediction store, which `vss predict` writes, or leave the metric out",
        )


def _require_masks(
    videos: Sequence[FolderVideo], frames: int, unmasked: int, asked: Sequence[Metric], talk: Talk
) -> None:
    """Refuse a split without masks, and report how many frames have none."""
    if unmasked == frames:
        first = videos[0].frames[0].address
        raise VssError(
            f"none of the {frames} frames has a mask to score against, {first} first",
            "choose a split whose frames have masks, or add the masks",
        )
    if unmasked:
        gaps = "".join(f"; {metric.gaps}" for metric in asked if metric.gaps)
        talk.warn(f"{unmasked} of {frames} frames have no mask: only the other {frames - unmasked} count{gaps}")


def _by_class(table: ClassTable, asked: Sequence[Metric]) -> dict[str, dict[str, float]]:
    columns = {name: column.tolist() for metric in asked for name, column in metric.per_class().items()}
    if not columns:
        return {}
    return {of: {name: column[index] for name, column in columns.items()} for index, of in enumerate(table.names)}


def _by_video(videos: Sequence[FolderVideo], asked: Sequence[Metric]) -> tuple[ScoredVideo, ...]:
    by_metric = [own for metric in asked if (own := metric.per_video())]
    rows = []
    for number, video in enumerate(videos):
        own = [figures[number] for figures in by_metric]
        values = {name: value for figures in own for name, value in figures.values.items()}
        worst = {name: (video.frames[t].stem, value) for figures in own for name, (t, value) in figures.worst.items()}
        windows = {name: shares for figures in own for name, shares in figures.windows.items()}
        rows.append(ScoredVideo(video.name, len(video.frames), values, worst, windows))
    return tuple(rows)


def _decoded(
    videos: Sequence[FolderVideo],
    prediction: LabelSource,
    read: ReadMask,
    needs: frozenset[Need],
    workers: int | None,
    *,
    bare: bool,
) -> Generator[Decoded]:
    """All frames with masks (if ``bare``, all frames) in order, decoded ahead by `workers` threads."""

    def jobs() -> Iterator[Callable[[], Decoded]]:
        for video in videos:
            for index, frame in enumerate(video.frames):
                if frame.mask is not None or bare:
                    yield lambda video=video, index=index: _read(video, index, prediction, read, needs)  # type: ignore[misc]

    return results_in_order(jobs(), workers)


def _read(video: FolderVideo, index: int, prediction: LabelSource, read: ReadMask, needs: frozenset[Need]) -> Decoded:
    """Ground truth and label of one frame, of the same size, and what else is needed."""
    frame = video.frames[index]
    label = prediction.label(frame.video, index, frame.stem)
    truth = np.full_like(label, IGNORE) if frame.mask is None else read(frame.mask)
    if truth.shape != label.shape:
        raise VssError(
            f"{prediction.place(frame.video, frame.stem)} is {_size(label.shape)}, "
            f"its mask {frame.mask} is {_size(truth.shape)}",
            "predictions must have the size of the masks (height x width); resize them with nearest neighbour",
        )
    extras: dict[Need, np.ndarray] = {"image": video.read(index)} if "image" in needs else {}
    if isinstance(prediction, LabelsWithConfidence):
        if "confidence" in needs:
            extras["confidence"] = prediction.confidence(frame.video, frame.stem)
        if "entropy" in needs:
            extras["entropy"] = prediction.entropy(frame.video, frame.stem)
    return truth, label, extras


def _place(frame: Frame) -> str:
    return f"frame {frame.address}" if frame.mask is None else f"mask {frame.mask}"


def _translate(mask: np.ndarray, table: bytes) -> np.ndarray:
    """`table[mask]`, several times faster than NumPy's indexing for bytes."""
    return np.frombuffer(mask.tobytes().translate(table), np.uint8).reshape(mask.shape)


def _size(shape: tuple[int, ...]) -> str:
    """`480x853` of (480, 853)."""
    return "x".join(map(str, shape))
