"""Scoring some videos: the accumulators of all figures, fed frame by frame, each file decoded once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.data.census import Census
from vsscli.data.classes import IGNORE
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.evaluation.labels import LabelSource, LabelsWithConfidence
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.metric import Extras, Metric, Need, Setting
from vsscli.metrics.registry import build_metrics
from vsscli.talk import Talk
from vsscli.threads import results_in_order

ReadMask = Callable[[Path], np.ndarray]

Decoded = tuple[np.ndarray, np.ndarray, Extras]
"""Truth as stored on disk, label, and what else metrics need of a frame."""


class Counts:
    """The accumulators of some figures, and a tally of the values of masks."""

    def __init__(self, names: Sequence[str], setting: Setting) -> None:
        self.asked = build_metrics(names, setting)
        # Where classes are compared, the values of masks and predictions are counted; otherwise those of masks.
        self.tally = next((metric for metric in self.asked if isinstance(metric, ConfusionMatrix)), None)
        if self.tally is None and any(metric.of_classes for metric in self.asked):
            self.tally = ConfusionMatrix(setting.num_classes, setting.lookup)
        self.census = Census()

    @property
    def fed(self) -> list[Metric]:
        """The accumulators that take every frame."""
        return self.asked if self.tally is None or self.tally in self.asked else [*self.asked, self.tally]

    def merge(self, other: Counts) -> None:
        """Add the counts of the videos that follow."""
        for mine, others in zip(self.fed, other.fed, strict=True):
            mine.merge(others)
        self.census += other.census


@dataclass(frozen=True)
class Scoring:
    """The task of scoring some videos (`vsscli.engine.engine.Task`); if ``bare``, frames without a mask, too."""

    names: Sequence[str]
    setting: Setting
    prediction: LabelSource
    read: ReadMask
    needs: frozenset[Need]
    bare: bool

    def __call__(self, videos: Sequence[FolderVideo], threads: int, talk: Talk) -> Iterator[Counts]:
        counts = Counts(self.names, self.setting)
        fed = counts.fed
        to_class = None if all(metric.raw for metric in fed) else self.setting.lookup.tobytes()
        decoded = closing(_decoded(videos, self.prediction, self.read, self.needs, threads, bare=self.bare))
        with decoded as given, talk.track("score", 0) as done:
            for video in videos:
                for metric in fed:
                    metric.start_video(len(video.frames))
                shape: tuple[int, ...] | None = None
                for frame in video.frames:
                    if frame.mask is None and not self.bare:
                        for metric in fed:
                            metric.skip()
                        continue
                    truth, label, extras = next(given)
                    shape = shape or truth.shape
                    if truth.shape != shape:
                        raise VssError(
                            f"{_place(frame)} is {_size(truth.shape)}, the first of video {video.name} is "
                            f"{_size(shape)}",
                            "all frames of a video must have the same size",
                        )
                    if counts.tally is None and not self.bare:
                        counts.census.count(truth)
                    classes = truth if to_class is None else _translate(truth, to_class)
                    for metric in fed:
                        metric.update(truth if metric.raw else classes, label, extras)
                    done(1)
                for metric in fed:
                    metric.end_video(video.name)
        yield counts


def _decoded(
    videos: Sequence[FolderVideo],
    prediction: LabelSource,
    read: ReadMask,
    needs: frozenset[Need],
    threads: int,
    *,
    bare: bool,
) -> Generator[Decoded]:
    """All frames with masks (if ``bare``, all frames) in order, decoded ahead by some threads."""

    def jobs() -> Iterator[Callable[[], Decoded]]:
        for video in videos:
            for index, frame in enumerate(video.frames):
                if frame.mask is not None or bare:
                    yield lambda video=video, index=index: _read(video, index, prediction, read, needs)  # type: ignore[misc]

    return results_in_order(jobs(), threads)


def _read(video: FolderVideo, index: int, prediction: LabelSource, read: ReadMask, needs: frozenset[Need]) -> Decoded:
    """Ground truth and label of one frame, of the same size, and what else is needed."""
    frame = video.frames[index]
    label = prediction.label(frame.video, index, frame.stem)
    truth = np.full_like(label, IGNORE) if frame.mask is None else read(frame.mask)
    if truth.shape != label.shape:
        which = "mask" if frame.image is not None and frame.size == label.shape else "prediction"
        raise VssError(
            f"{prediction.place(frame.video, frame.stem)} is {_size(label.shape)}, "
            f"its mask {frame.mask} is {_size(truth.shape)}",
            f"both must have the frame's size (height x width); resize the {which} with nearest neighbour",
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
