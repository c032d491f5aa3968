"""The mean of distributions, computed from their lists and never from dense C x H x W arrays.

A source gives a pixel the listed probabilities for a few classes and the same small one for every other class. In the
mean, only the classes that some source lists differ from its own small probability, so a pixel needs one place for each
of those few, and the number of classes in no list. Most pixels are sure and list one class, so pixels are grouped by
the length of their lists.

Letters: S sources, C classes, K kept, N candidates (all lists together), P pixels, n pixels of a band.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from vsscli.store.encode import IGNORE, SHARE, decode_lists, decode_logits, list_mass, quantise_list
from vsscli.store.header import Encoding

Method = Literal["arithmetic", "geometric"]

BAND_PIXELS = 2**13
"""Pixels that are processed together: their data stay in a processor's cache."""

TINY = np.float32(1e-30)
"""Keeps ln finite where it is multiplied by 0."""

FLOOR = np.float32(1e-4)
"""Least probability of a class in a geometric mean: a list can't distinguish less from 0."""

TAKEN = np.float32(-2)
"""Marks places without a candidate: empty ones, and classes counted in an earlier list. Every sum is larger."""

GROUPS = (1, 2, 4)
"""Longest list of each group of pixels; longer ones are one more group."""


class Lists(NamedTuple):
    """The lists of P pixels in one source: ``top_class`` and ``top_probability``, (K, P) uint8 as stored."""

    top_class: np.ndarray
    top_probability: np.ndarray


class Dense(NamedTuple):
    """P pixels of a source that keeps all classes: ``logits``, (C, P) float16 as stored."""

    logits: np.ndarray


@dataclass(frozen=True)
class Mean:
    """How S sources are averaged.

    Parameters
    ----------
    weights
        Positive numbers, (S,), that sum to 1; or (S, C), one for each class, that sum to 1 for every class. float32.
    temperatures
        S positive numbers, or empty: before the mean, a source's probabilities are raised to the power of 1 / T and
        divided by their sum. T above 1 makes it less sure, below 1 surer. The remainder of a list is spread evenly
        first.
    method
        ``arithmetic``, or ``geometric``: the product of powers, divided by its sum.
    """

    weights: np.ndarray
    temperatures: tuple[float, ...] = ()
    method: Method = "arithmetic"

    def temperature(self, source: int) -> np.float32:
        return np.float32(self.temperatures[source] if self.temperatures else 1)

    @property
    def is_tempered(self) -> bool:
        """Whether some source is at another temperature than 1."""
        return any(np.float32(temperature) != 1 for temperature in self.temperatures)

    @property
    def is_simple(self) -> bool:
        """Whether all classes that a source does not list contribute the same to the mean."""
        return self.method == "arithmetic" and self.weights.ndim == 1


class Mixed(NamedTuple):
    """The mean of P pixels: its lists in stored form, (K, P) uint8, and its ``divergence``, (P,) float32, in nats.

    The divergence is the entropy of the mean less the weighted mean of the sources' entropies, all computed from lists;
    for an arithmetic mean it is the Jensen-Shannon divergence. Only the entropies of sources at temperature 1 are
    subtracted, since the caller adds their stored entropies, which do not hold for tempered distributions.
    """

    top_class: np.ndarray
    top_probability: np.ndarray
    divergence: np.ndarray


def mix(
    sources: Sequence[Lists | Dense],
    how: Mean,
    num_classes: int,
    encoding: Encoding,
    agreed: np.ndarray | None = None,
) -> Mixed:
    """Average the distributions of P pixels; of equally likely classes the lower one comes first.

    ``agreed``, (P,) uint8, is the class that is to lead the list of a pixel even if rounding makes another equally
    likely; 255 where the mean decides.
    """
    pixels = sources[0][0].shape[1]
    kept = min(encoding.kept, num_classes)
    mixed = Mixed(
        np.full((kept, pixels), IGNORE, np.uint8), np.zeros((kept, pixels), np.uint8), np.empty(pixels, np.float32)
    )
    for length, places in _by_length(sources, pixels):
        for start in range(0, len(places), BAND_PIXELS):
            here = places[start : start + BAND_PIXELS]
            cut = [_cut(source, here, length) for source in sources]
            lists = [one for one in cut if isinstance(one, Lists)]
            if length == 1 and len(lists) == len(cut) and how.is_simple:
                alike = np.logical_and.reduce([one.top_class[0] == lists[0].top_class[0] for one in lists])
                sure = [Lists(*(array[:, alike] for array in one)) for one in lists]
                _mix_alike(sure, how, num_classes, encoding, mixed, here[alike])
                here = here[~alike]
                cut = [Lists(*(array[:, ~alike] for array in one)) for one in lists]
            mean, classes, divergence = _mix_band(cut, how, num_classes)
            mixed.divergence[here] = divergence
            if agreed is not None:
                lead = agreed[here]
                # Less than a step of the stored probability, so this affects only the order.
                np.copyto(mean, mean.max(axis=0) * np.float32(1.0001), where=(classes == lead) & (mean > 0))
            top_class, probability = _rank(mean, classes, min(kept, len(mean)))
            mixed.top_probability[: len(top_class), here] = quantise_list(top_class, probability, encoding)
            mixed.top_class[: len(top_class), here] = top_class
    return mixed


def mean_of(sources: Sequence[Lists | Dense], how: Mean, num_classes: int) -> np.ndarray:
    """The dense mean of a few pixels, (C, P) float32. Parameters as for `mix`."""
    return mean_of_dense((rebuild(source, num_classes) for source in sources), how)


def mean_of_dense(distributions: Iterable[np.ndarray], how: Mean) -> np.ndarray:
    """The mean of distributions, (C, P) float32 each, which may be changed in place; (C, P) float32."""
    mean = np.zeros(1, np.float32)
    for index, (dense, weight) in enumerate(zip(distributions, how.weights, strict=True)):
        if how.temperature(index) != 1:
            dense /= dense.max(axis=0)  # otherwise all of them may underflow
            dense **= 1 / how.temperature(index)
            dense /= dense.sum(axis=0)
        share = weight if how.weights.ndim == 1 else weight[:, None]
        mean = mean + share * (dense if how.method == "arithmetic" else np.log(np.maximum(dense, FLOOR)))
    if how.method == "geometric":
        np.exp(mean, out=mean)
    if not how.is_simple:
        mean /= mean.sum(axis=0)
    return mean


def rebuild(source: Lists | Dense, num_classes: int) -> np.ndarray:
    """The dense distribution of a source, (C, P) float32."""
    if isinstance(source, Dense):
        return decode_logits(source.logits)
    return decode_lists(source.top_class, source.top_probability, num_classes)


def plain_entropy(mean: np.ndarray) -> np.ndarray:
    """-sum p ln p over the first axis, in nats. (C, ...) to (...)."""
    return -(mean * np.log(np.maximum(mean, TINY))).sum(axis=0)


def _by_length(sources: Sequence[Lists | Dense], pixels: int) -> list[tuple[int, np.ndarray]]:
    """Groups of pixels by the length of their longest list: the greatest length, and the pixels' indices."""
    longest = max((len(source.top_class) for source in sources if isinstance(source, Lists)), default=1)
    if any(isinstance(source, Dense) for source in sources):
        return [(longest, np.arange(pixels))]
    length = np.zeros(pixels, np.uint8)
    for source in sources:
        np.maximum(length, np.add.reduce(source[0] != IGNORE, axis=0, dtype=np.uint8), out=length)
    bounds = sorted({*(group for group in GROUPS if group < longest), longest})
    groups = []
    for low, high in zip([0, *bounds], bounds, strict=False):
        places = np.flatnonzero((length > low) & (length <= high))
        if len(places):
            groups.append((high, places))
    return groups


def _cut(source: Lists | Dense, places: np.ndarray, length: int) -> Lists | Dense:
    """Some pixels of a source, with lists cut to ``length``."""
    if isinstance(source, Dense):
        return Dense(source.logits[:, places])
    return Lists(*(np.take(array[:length], places, axis=1) for array in source))


def _mix_alike(
    sources: Sequence[Lists],
    how: Mean,
    num_classes: int,
    encoding: Encoding,
    out: Mixed,
    places: np.ndarray,
) -> None:
    """`mix` of pixels for which every source lists the same single class, as nearly all sure pixels do."""
    others = np.float32(max(num_classes - 1, 1))
    alone = SHARE.copy() if num_classes > 1 else np.ones_like(SHARE)
    each = (1 - alone) / others
    entropy = _part(alone) + others * _part(each)  # for each stored level
    levels = [source.top_probability[0] for source in sources]
    mean = np.zeros(len(places), np.float32)
    rebuilt = np.zeros(len(places), np.float32)
    for index, (level, weight) in enumerate(zip(levels, how.weights, strict=True)):
        mean += np.take(weight * _tempered(alone[None], each, others, how.temperature(index))[0][0], level)
        if how.temperature(index) == 1:
            rebuilt += np.take(weight * entropy, level)
    np.minimum(mean, 1, out=mean)
    out.divergence[places] = _part(mean) + others * _part((1 - mean) / others) - rebuilt
    top_class = sources[0].top_class.copy()
    out.top_probability[0, places] = quantise_list(top_class, mean[None], encoding)[0]
    out.top_class[0, places] = top_class[0]


def _mix_band(
    sources: Sequence[Lists | Dense], how: Mean, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean probabilities (N, n) float32 of a band, their classes (N, n) or (C, 1) uint8, and its divergence (n,)."""
    if not how.is_simple or any(isinstance(source, Dense) for source in sources):
        return _mix_dense(sources, how, num_classes)
    pixels = sources[0][0].shape[1]
    base = np.zeros(pixels, np.float32)  # mean probability of a class in no list
    entropies = np.zeros(pixels, np.float32)
    parts = []
    for index, (source, weight) in enumerate(zip(sources, how.weights, strict=True)):
        assert isinstance(source, Lists)
        listed, each = list_mass(source.top_class, source.top_probability, num_classes)
        there = source.top_class != IGNORE
        others = num_classes - np.add.reduce(there, axis=0, dtype=np.uint8).astype(np.float32)
        if how.temperature(index) == 1:
            entropies += weight * (plain_entropy(listed) + others * _part(each))
        listed, each = _tempered(listed, each, others, how.temperature(index))
        base += weight * each
        # A listed class's excess over an unlisted one is summed class by class.
        listed -= each
        listed *= weight
        listed *= there
        parts.append(listed)
    classes = np.concatenate([source[0] for source in sources])
    mean = _added(parts, classes)
    unlisted = num_classes - (mean > TAKEN).sum(axis=0, dtype=np.float32)
    mean += base
    np.maximum(mean, 0, out=mean)
    return mean, classes, plain_entropy(mean) + unlisted * _part(base) - entropies


def _added(parts: Sequence[np.ndarray], classes: np.ndarray) -> np.ndarray:
    """The lists' parts (K, n) stacked to (N, n), with the sum for each class where it is listed first.

    Every place of a list is compared with every place of the later ones; for lists this short that is faster than a
    table of all classes. No list has a class twice. Other places are `TAKEN`; empty places come in as 0.
    """
    mean, taken = np.concatenate(parts), classes == IGNORE
    ends = np.cumsum([len(part) for part in parts]).tolist()
    rows = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    for earlier, later in combinations(rows, 2):
        for place in range(earlier.start, earlier.stop):
            same = classes[place] == classes[later]
            moved = mean[later] * same
            mean[place] += moved.sum(axis=0)
            mean[later] -= moved
            taken[later] |= same
    mean[taken] = TAKEN
    return mean


def _mix_dense(
    sources: Sequence[Lists | Dense], how: Mean, num_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`_mix_band` over all classes, for means that can't be computed from lists."""
    mean = mean_of(sources, how, num_classes)
    divergence = plain_entropy(mean)
    for index, (source, weight) in enumerate(zip(sources, how.weights, strict=True)):
        if how.temperature(index) == 1:
            divergence -= weight.mean() * plain_entropy(rebuild(source, num_classes))
    return mean, np.arange(num_classes, dtype=np.uint8)[:, None], divergence


def _tempered(
    listed: np.ndarray, each: np.ndarray, others: np.ndarray | np.float32, temperature: np.float32
) -> tuple[np.ndarray, np.ndarray]:
    """Listed probabilities (K, n) and that of each of the ``others`` (n,) under a temperature; 0 stays 0."""
    if temperature == 1:
        return listed, each
    most = np.maximum(listed.max(axis=0), each)  # otherwise all of them may underflow
    listed, each = (listed / most) ** (1 / temperature), (each / most) ** (1 / temperature)
    total = listed.sum(axis=0) + others * each
    return listed / total, each / total


def _part(probability: np.ndarray) -> np.ndarray:
    return -probability * np.log(np.maximum(probability, TINY))


def _rank(mean: np.ndarray, classes: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``kept`` most likely of N candidates of n pixels, (K, n) uint8, and their probabilities, (K, n) float32.

    The bits of positive floats sort like their values, so 24 of them followed by the class make an integer that sorts
    by probability (to 1 in 65,000), then by class. A sorting network of minima and maxima sorts them.
    """
    keys = (mean.view(np.uint32) >> 7 << 8) | (255 - classes)
    rows = list(keys)
    spare = np.empty_like(rows[0])
    for upper, lower in _network(len(rows), kept):
        np.minimum(rows[upper], rows[lower], out=spare)
        np.maximum(rows[upper], rows[lower], out=rows[upper])
        rows[lower], spare = spare, rows[lower]
    top = np.stack(rows[:kept])
    return (255 - (top & 255)).astype(np.uint8), (top >> 8 << 7).view(np.float32)


@lru_cache
def _network(count: int, kept: int) -> tuple[tuple[int, int], ...]:
    """Comparators that bring the ``kept`` largest of ``count`` values to the front, in order.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M) without the comparators that
    only later places need.
    """
    pairs = []
    top = 1 << max(count - 1, 0).bit_length() >> 1
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while True:
            pairs += [(i, i + d) for i in range(count - d) if i & p == r]
            if q == p:
                break
            d, q, r = q - p, q // 2, p
        p //= 2
    needed, used = set(range(kept)), []
    for pair in reversed(pairs):
        if needed.intersection(pair):
            needed.update(pair)
            used.append(pair)
    return tuple(reversed(used))
