"""Video consistency (VC_n) for any n, in one pass over the frames.

The definition (`specs/vspw_eval.md`, "VC_n") compares each frame with the n - 1 frames that follow it. Here each pixel
has a run length, the number of frames for which its value has not changed. It is constant over the window that ends at
the current frame exactly if its run length is at least n, for every n. So time does not depend on n, nor memory on the
length of the video.
"""

from __future__ import annotations

import math
import re
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from vsscli.errors import VssError
from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting, VideoFigures, mean_of
from vsscli.metrics.protocols import DEFAULT_PROTOCOL, get_protocol

LONGEST = 30_000  # runs are counted in at most 16 bits


class Windows(NamedTuple):
    """The results of the windows of one video, and its length.

    For each n, ``accuracies`` holds (windows,) float64: of the pixels that are constant in the ground truth over a
    window, the share that are constant in the prediction, too; NaN if there is no such pixel or a frame has no ground
    truth. ``bare`` is the number of windows with such a frame. A video too short for n has no windows.
    """

    frames: int
    accuracies: dict[int, np.ndarray]
    bare: dict[int, int]


class VideoConsistency(Metric):
    """VC_n of a set of videos, streamed frame by frame.

    Parameters
    ----------
    windows
        The n to score, each from 2 up to 30,000.
    protocol
        A name of `metrics.protocols`.

    Notes
    -----
    Windows with a frame without ground truth do not count. By definition the prediction need not be correct to be
    consistent, and void pixels count like others.

    Examples
    --------
    >>> consistency = VideoConsistency([2])
    >>> consistency.start_video(3)
    >>> for label in ([[1, 1]], [[1, 2]], [[1, 2]]):
    ...     consistency.update(np.ones((1, 2), np.uint8), np.array(label, np.uint8))
    >>> consistency.end_video("street")
    >>> consistency.figures()
    {'vc2': 0.5}
    """

    names = ("vc8", "vc16")
    of_classes = False
    gaps = "VC averages only windows whose frames all have one"

    def __init__(self, windows: Sequence[int], protocol: str = DEFAULT_PROTOCOL) -> None:
        for window in windows:
            if not 2 <= window <= LONGEST:
                raise VssError(
                    f"VC{window}: a window can't have {window} frames", f"give a number of frames from 2 to {LONGEST}"
                )
        self.windows = tuple(sorted(set(windows)))
        self.protocol = get_protocol(protocol)
        self.raw = self.protocol.raw
        self._longest = max(self.windows, default=2)
        # Before the type overflows, at most every 128 frames, runs are cut to the longest n.
        self._run_type: type[np.uint8] | type[np.uint16] = np.uint8 if self._longest <= 127 else np.uint16
        self._full = int(np.iinfo(self._run_type).max)
        self._shape: tuple[int, ...] | None = None
        self.videos: list[Windows] = []  # pooling across n never applies to these
        self._length = -1  # no video is open
        self._frame = 0

    @classmethod
    def answers(cls, name: str) -> bool:
        return re.fullmatch(r"vc[1-9][0-9]{0,8}", name) is not None

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Self:
        return cls([int(name[2:]) for name in names], setting.protocol.name)

    def start_video(self, length: int) -> None:
        """Open a video of `length` frames, which determines the last window, the one that no protocol counts."""
        if self._length >= 0:
            raise ValueError("the previous video was not ended")
        counted = self.protocol.counts_video(length, self.windows)
        self._length = length
        self._frame = 0
        self._since = 0  # all frames from here on have ground truth
        self._seen = False
        self._bare = dict.fromkeys(self.windows, 0)
        self._wanted = {window: self.protocol.windows(length, window) if counted else 0 for window in self.windows}
        # Frames after the last counted window, and all of a short video, are not needed.
        self._needed = max((window - 1 + wanted for window, wanted in self._wanted.items() if wanted), default=0)
        self._accuracies = {window: array("d") for window in self.windows}

    def update(self, truth: np.ndarray, prediction: np.ndarray, extras: Extras = NOTHING) -> None:
        self._require_place()
        if truth.shape != prediction.shape:
            raise ValueError(f"truth has shape {truth.shape}, prediction {prediction.shape}")
        if not self._seen:
            self._reserve(truth.shape)
            self._seen = True
        elif truth.shape != self._shape:
            raise ValueError(f"frame {self._frame} has shape {truth.shape}, earlier ones {self._shape}")
        if self._frame < self._needed:
            self._lengthen(truth, prediction)
            np.copyto(self._last[0], truth)
            np.copyto(self._last[1], prediction)
        self._frame += 1
        self._end_windows()

    def skip(self) -> None:
        self._require_place()
        self._frame += 1
        self._since = self._frame
        self._end_windows()

    def end_video(self, name: str) -> None:
        """Close the open video and keep its figures under `name`."""
        if self._frame != self._length:
            raise ValueError(f"{name} was opened with {self._length} frames, but {self._frame} were given")
        accuracies = {window: np.array(values, np.float64) for window, values in self._accuracies.items()}
        self.videos.append(Windows(self._length, accuracies, self._bare))
        self._length = -1

    def merge(self, other: VideoConsistency) -> None:
        self.videos += other.videos

    def __getstate__(self) -> dict[str, Any]:
        buffers = ("_last", "_same", "_kept", "_runs", "_long")
        return {name: value for name, value in self.__dict__.items() if name not in buffers} | {"_shape": None}

    def figures(self) -> dict[str, float]:
        """VC_n: the mean over the windows of all videos, so that long videos weigh more."""
        return {f"vc{window}": mean_of(self._gather(window)) for window in self.windows}

    def counts(self, window: int) -> tuple[int, int, int]:
        """Number of windows to average over; of those that are NaN and dropped; and of those that do not count because
        they hold a frame without ground truth."""
        values = self._gather(window)
        bare = sum(video.bare[n] for n in self._averaged(window) for video in self.videos)
        return values.size - bare, int(np.isnan(values).sum()) - bare, bare

    def reasons(self) -> list[str]:
        longest = max((video.frames for video in self.videos), default=0)
        reasons = []
        for window in (window for window in self.windows if math.isnan(self.figures()[f"vc{window}"])):
            counted, _, bare = self.counts(window)
            if counted:
                what = f"in no window of {window} frames does a pixel keep its class in the ground truth"
            elif bare:
                what = f"each of the {bare} windows has a frame without a mask"
            else:
                has = f"{longest} frame{'' if longest == 1 else 's'}"
                what = f"the longest video that counts has {has}, and VC{window} needs more than {window}"
            reasons.append(f"nothing to average for VC{window}: {what}")
        return reasons

    def notes(self) -> dict[str, Any]:
        return {"windows": {f"vc{window}": self.counts(window)[0] for window in self.windows}}

    def per_video(self) -> list[VideoFigures]:
        figures = []
        for video in self.videos:
            values = {f"vc{window}": mean_of(own) for window, own in video.accuracies.items()}
            counted = {f"vc{window}": own for window, own in video.accuracies.items() if not np.isnan(own).all()}
            worst = {name: (int(np.nanargmin(own)), float(np.nanmin(own))) for name, own in counted.items()}
            figures.append(
                VideoFigures(values, worst, {f"vc{window}": own for window, own in video.accuracies.items()})
            )
        return figures

    def _gather(self, window: int) -> np.ndarray:
        """Every window that VC_n averages over."""
        parts = [video.accuracies[n] for n in self._averaged(window) for video in self.videos]
        return np.concatenate(parts) if parts else np.empty(0)

    def _averaged(self, window: int) -> list[int]:
        """The n whose windows VC_n averages over."""
        return [*(n for n in self.windows if self.protocol.pooled and n < window), window]

    def _require_place(self) -> None:
        if self._frame >= self._length:
            raise ValueError(f"frame {self._frame} of a video of {max(self._length, 0)} frames")

    def _end_windows(self) -> None:
        """Score the windows that end with the previous frame."""
        for window, accuracies in self._accuracies.items():
            if self._frame >= window and len(accuracies) < self._wanted[window]:
                whole = self._frame - window >= self._since
                accuracies.append(self._accuracy(window) if whole else math.nan)
                self._bare[window] += not whole

    def _reserve(self, shape: tuple[int, ...]) -> None:
        """Allocate buffers for frames of `shape` if it has changed. First axis: truth, and both together."""
        if shape != self._shape:
            self._shape = shape
            self._last = np.empty((2, *shape), np.uint8)
            self._same = np.empty((2, *shape), bool)
            self._kept = self._same.view(np.uint8)  # the same bytes, to multiply with
            self._runs = np.empty((2, *shape), self._run_type)
            self._long = np.empty((2, *shape), bool)

    def _lengthen(self, truth: np.ndarray, prediction: np.ndarray) -> None:
        """Increase runs by one where the value is unchanged, and restart them at one elsewhere."""
        if self._frame == self._since:
            self._runs.fill(1)
            self._bound = 1  # no run is longer
            return
        if self._bound == self._full:
            # Longer runs make no difference to any window.
            np.minimum(self._runs, self._longest, out=self._runs)
            self._bound = self._longest
        np.equal(truth, self._last[0], out=self._same[0])
        np.equal(prediction, self._last[1], out=self._same[1])
        # The run of truth and prediction together is the shorter of the two.
        np.logical_and(self._same[0], self._same[1], out=self._same[1])
        np.multiply(self._runs, self._kept, out=self._runs)
        np.add(self._runs, 1, out=self._runs)
        self._bound += 1

    def _accuracy(self, window: int) -> float:
        """Of the pixels constant in truth over the window that ends now, the share constant in the prediction."""
        np.greater_equal(self._runs, window, out=self._long)
        truth = np.count_nonzero(self._long[0])
        return np.count_nonzero(self._long[1]) / truth if truth else float("nan")
