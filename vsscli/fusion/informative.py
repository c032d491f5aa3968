"""Which frames of a prediction would teach most if somebody labelled them: uncertain ones, unlike those with labels.

The uncertainty of a frame is its mean rank among all frames by up to three measures: mean entropy, flicker (pixels
whose label changes and changes back within three frames) and, of several predictions, disagreement. Variety is the
distance to the nearest frame that is labelled or already chosen: in a descriptor of the layout of classes (the square
roots of the shares of the classes in each cell of a grid, so that distances are Hellinger distances), and in time
within a video. Frames are chosen greedily by the product of both, as a core-set (Sener and Savarese 2018) weighted by
uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.store.reader import Store

COLUMNS = ("video", "time", "entropy", "flicker", "differ", "looks")

GRID = 4
"""Cells along each side of a frame that its descriptor tells apart."""

FLOOR = 0.1
"""Of the distance in looks that counts even for a frame that looks like another: it may be wrong all the same."""


@dataclass(frozen=True)
class Measures:
    """What is known of N frames, in the order of their addresses.

    Parameters
    ----------
    addresses
        ``<video>/<stem>`` of each.
    videos, times
        (N,) int, number of the video and of the frame in it.
    entropy, flicker
        (N,) float in [0, 1]: mean normalised entropy, and share of pixels whose label leaves and returns.
    disagreement
        (N,) share of pixels that the predictions label differently; `None` for a single one.
    looks
        (N, D) float32, of length 1: distances of rows are Hellinger distances times the square root of 2.
    """

    addresses: tuple[str, ...]
    videos: np.ndarray
    times: np.ndarray
    entropy: np.ndarray
    flicker: np.ndarray
    disagreement: np.ndarray | None
    looks: np.ndarray

    def uncertainty(self) -> np.ndarray:
        """(N,) in (0, 1]: the mean share of frames that are at most as uncertain, over all measures."""
        measures = [self.entropy, self.flicker, *([] if self.disagreement is None else [self.disagreement])]
        return np.mean([_ranks(values) for values in measures], axis=0)


@dataclass(frozen=True)
class Choice:
    """A chosen frame, and what it was chosen for: its figures, and its distance in looks, 0 to 1, to the nearest frame
    labelled or chosen before; `None` if it is the first of all."""

    address: str
    entropy: float
    flicker: float
    disagreement: float | None
    distance: float | None


def measure(stores: Sequence[Store], done: Callable[[int], object] = lambda frames: None) -> Measures:
    """Look at every frame of some predictions, which hold the same frames.

    Parameters
    ----------
    stores
        One prediction, or several of the same frames and classes; entropy and looks are those of the first.
    done
        Called with the number of frames, after some.

    Raises
    ------
    VssError
        No video of the first one is complete.
    """
    first, others = stores[0], stores[1:]
    if not first.videos():
        raise VssError(f"{first.path} holds no complete video yet", "let the command that makes it finish")
    addresses: list[str] = []
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for number, video in enumerate(first.videos()):
        stems = first.stems(video)
        addresses += [f"{video}/{stem}" for stem in stems]
        columns["video"].append(np.full(len(stems), number))
        columns["time"].append(np.arange(len(stems)))
        before = current = None
        flicker = np.zeros(len(stems))
        for t in range(len(stems)):
            after = first.label(video, t)
            if before is not None and current is not None:
                flicker[t - 1] = flicker_of(before, current, after)
            columns["entropy"].append(np.array([first.entropy(video, t).mean()]))
            columns["looks"].append(_look(after, first.header.num_classes)[None])
            differ = [np.mean(other.label(video, t) != after) for other in others]
            columns["differ"].append(np.array([np.mean(differ) if differ else 0.0]))
            before, current = current, after
            done(1)
        columns["flicker"].append(flicker)
    arrays = {name: np.concatenate(parts) for name, parts in columns.items()}
    return Measures(
        tuple(addresses),
        arrays["video"],
        arrays["time"],
        arrays["entropy"],
        arrays["flicker"],
        arrays["differ"] if others else None,
        arrays["looks"],
    )


def flicker_of(before: np.ndarray, label: np.ndarray, after: np.ndarray) -> float:
    """Share of the pixels of labels (H, W) that have another class than in the frames before and after, which agree."""
    return float(np.mean((label != before) & (before == after)))


def choose(
    measures: Measures, count: int, known: Iterable[str] = (), allowed: Iterable[str] | None = None
) -> list[Choice]:
    """Choose frames one after the other.

    Parameters
    ----------
    measures
        Of all frames.
    count
        How many; fewer if there are no more.
    known
        Addresses of frames that have labels; none of them is chosen, and what is like them is worth less.
    allowed
        Addresses of those that may be chosen; `None`: all.

    Returns
    -------
    list of Choice
        The most valuable first.
    """
    numbers = {address: number for number, address in enumerate(measures.addresses)}
    taken = [numbers[address] for address in known if address in numbers]
    free = np.ones(len(numbers), bool)
    if allowed is not None:
        free[:] = False
        free[[numbers[address] for address in allowed if address in numbers]] = True
    uncertainty = measures.uncertainty()
    spread = max(1.0, len(numbers) / max(1, 2 * (count + len(taken))))  # frames, between two that are chosen
    look = np.full(len(numbers), np.inf)
    time = np.ones(len(numbers))
    for number in taken:
        _come_nearer(measures, number, spread, look, time)
    free[taken] = False
    found: list[Choice] = []
    while len(found) < count and free.any():
        value = uncertainty * (FLOOR + np.minimum(look, 1)) * time
        best = int(np.argmax(np.where(free, value, -1)))
        differ = None if measures.disagreement is None else float(measures.disagreement[best])
        distance = float(look[best]) if np.isfinite(look[best]) else None
        figures = float(measures.entropy[best]), float(measures.flicker[best])
        found.append(Choice(measures.addresses[best], *figures, differ, distance))
        free[best] = False
        _come_nearer(measures, best, spread, look, time)
    return found


def _come_nearer(measures: Measures, number: int, spread: float, look: np.ndarray, time: np.ndarray) -> None:
    """Take note of one more frame that is labelled: distances to the nearest one, in looks and in time."""
    overlap = np.clip(measures.looks @ measures.looks[number], 0, 1)
    np.minimum(look, np.sqrt(1 - overlap), out=look)
    same = measures.videos == measures.videos[number]
    apart = np.abs(measures.times - measures.times[number])
    np.minimum(time, np.where(same, 1 - np.exp(-apart / spread), 1), out=time)


def _look(label: np.ndarray, num_classes: int) -> np.ndarray:
    """The square roots of the shares of classes in the cells of a frame, (GRID * GRID * C,) float32, of length 1."""
    height, width = label.shape
    rows = np.minimum(np.arange(height) * GRID // height, GRID - 1)
    columns = np.minimum(np.arange(width) * GRID // width, GRID - 1)
    kept = label != IGNORE
    cells = (rows[:, None] * GRID + columns) * num_classes + np.where(kept, label, 0)
    shares = np.bincount(cells[kept], minlength=GRID * GRID * num_classes).astype(np.float32)
    return np.sqrt(shares / max(1.0, float(shares.sum())))


def _ranks(values: np.ndarray) -> np.ndarray:
    """The share of values that are at most as large, (N,)."""
    ordered = np.sort(values)
    return np.searchsorted(ordered, values, side="right") / len(values)
