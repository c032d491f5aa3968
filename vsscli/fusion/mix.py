"""The arithmetic mean of distributions, taken from their lists and never from dense C x H x W.

A source says of a pixel: these K classes have these probabilities, every other class has the same small one. The mean
of such sources differs from its own small probability only in the classes that some source lists, so a pixel needs a
place for each of those few; all that is left is told by how many classes are in none of the lists.

Letters: S sources, C classes, K kept, N candidates (all lists together), P pixels, n pixels of a band.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vsscli.store.encode import decode_lists, decode_logits, list_mass, quantise_probability

BAND_CELLS = 2**20
"""Cells (n x C) of the table in which a band is added up: what stays in a processor's cache."""

BAND_PIXELS = 2**14

TINY = np.float32(1e-30)
"""Keeps ln finite where its factor is 0."""

TAKEN = np.float32(-2)
"""Marks a candidate whose class an earlier list has named: no sum is that small."""


class Lists(NamedTuple):
    """What one source keeps of P pixels: ``top_class`` and ``top_logit``, (K, P) uint8 as stored."""

    top_class: np.ndarray
    top_logit: np.ndarray


class Dense(NamedTuple):
    """A source that keeps all: ``logits``, (C, P) float16 as stored."""

    logits: np.ndarray


class Mixed(NamedTuple):
    """The mean of P pixels.

    ``top_class`` and ``top_logit``, (K, P) uint8, are its own lists as they are stored. ``divergence``, (P,) float32,
    is its entropy less the weighted mean of the sources' entropies, both rebuilt, in nats: the Jensen-Shannon
    divergence of the sources.
    """

    top_class: np.ndarray
    top_logit: np.ndarray
    divergence: np.ndarray


def mix(
    sources: Sequence[Lists | Dense],
    weights: Sequence[float],
    num_classes: int,
    kept: int,
    agreed: np.ndarray | None = None,
) -> Mixed:
    """Average the distributions of P pixels.

    Parameters
    ----------
    sources
        What each of the S sources keeps.
    weights
        S positive numbers that sum to 1.
    num_classes
        C.
    kept
        K of the result, at most that of the longest list.
    agreed
        (P,) uint8: a class that is to lead the list of its pixel (rounding may have put it level with another), 255
        where the mean decides.

    Returns
    -------
    Mixed
        Of classes equally likely the lower comes first.
    """
    pixels = sources[0][0].shape[1]
    band = max(1, min(BAND_PIXELS, BAND_CELLS // num_classes, pixels))
    cells = np.zeros(num_classes * band, np.float32)
    mixed = Mixed(np.empty((kept, pixels), np.uint8), np.empty((kept, pixels), np.uint8), np.empty(pixels, np.float32))
    for start in range(0, pixels, band):
        part = slice(start, min(start + band, pixels))
        cut = [type(source)(*(array[:, part] for array in source)) for source in sources]
        table = cells[: num_classes * (part.stop - start)].reshape(num_classes, -1)
        lead = None if agreed is None else agreed[part]
        _mix_band(cut, weights, table, lead, Mixed(*(array[..., part] for array in mixed)))
    return mixed


def mean_of(sources: Sequence[Lists | Dense], weights: Sequence[float], num_classes: int) -> np.ndarray:
    """The dense mean of a few pixels, (C, P) float32. Parameters as for `mix`."""
    mean = np.zeros((num_classes, sources[0][0].shape[1]), np.float32)
    for source, weight in zip(sources, np.asarray(weights, np.float32), strict=True):
        if isinstance(source, Dense):
            mean += weight * decode_logits(source.logits)
        else:
            mean += weight * decode_lists(source.top_class, source.top_logit, num_classes)
    return mean


def plain_entropy(mean: np.ndarray) -> np.ndarray:
    """-sum p ln p over the first axis, in nats. (C, ...) to (...)."""
    return -(mean * np.log(np.maximum(mean, TINY))).sum(axis=0)


def _mix_band(
    sources: Sequence[Lists | Dense],
    weights: Sequence[float],
    table: np.ndarray,
    agreed: np.ndarray | None,
    out: Mixed,
) -> None:
    """`mix` for the n pixels of a band; ``table`` (C, n) is zero before and after."""
    num_classes, pixels = table.shape
    cells = table.reshape(-1)
    base = np.zeros(pixels, np.float32)  # what the mean gives to a class in no list
    entropies = np.zeros(pixels, np.float32)
    places = []
    for source, weight in zip(sources, np.asarray(weights, np.float32), strict=True):
        if isinstance(source, Dense):
            dense = decode_logits(source.logits)
            entropies += weight * plain_entropy(dense)
            table += weight * dense
            continue
        listed, each = list_mass(source.top_logit, num_classes)
        entropies += weight * (plain_entropy(listed) + (num_classes - len(listed)) * _part(each))
        base += weight * each
        # What a listed class has beyond the rest is added up class by class; no list names a class twice.
        listed -= each
        listed *= weight
        places.append(source.top_class.astype(np.intp) * pixels + np.arange(pixels))
        cells[places[-1]] += listed

    if any(isinstance(source, Dense) for source in sources):
        classes: np.ndarray = np.arange(num_classes, dtype=np.uint8)[:, None]
        mean = table + base
        table[...] = 0
        unlisted = np.zeros(pixels, np.float32)
    else:
        classes = np.concatenate([source.top_class for source in sources if isinstance(source, Lists)])
        mean = _collect(cells, places)
        unlisted = num_classes - (mean > TAKEN).sum(axis=0, dtype=np.float32)
        mean += base
        np.maximum(mean, 0, out=mean)
    out.divergence[...] = plain_entropy(mean) + unlisted * _part(base) - entropies
    if agreed is not None:
        # A step of stored log-probability is 3 %, so this decides the order and nothing else.
        np.copyto(mean, mean.max(axis=0) * np.float32(1.0001), where=(classes == agreed) & (mean > 0))
    out.top_class[...], out.top_logit[...] = _rank(mean, classes, len(out.top_class))


def _collect(cells: np.ndarray, places: Sequence[np.ndarray]) -> np.ndarray:
    """Read the sum of every candidate back and clear the table, (N, n).

    A class that several lists name counts with the first; where the others name it stands `TAKEN`.
    """
    sums = []
    for place in places:
        sums.append(cells[place])
        cells[place] = TAKEN
    for place in places:
        cells[place] = 0
    return np.concatenate(sums)


def _part(probability: np.ndarray) -> np.ndarray:
    return -probability * np.log(np.maximum(probability, TINY))


def _rank(mean: np.ndarray, classes: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``kept`` most likely of N candidates of n pixels, as they are stored; two arrays (K, n) uint8.

    Bits of a positive float are in the order of its value, so 24 of them with the class behind make a whole number
    that sorts by probability (to 1 in 65,000), then by class; the sorting is a network of minimum and maximum.
    """
    keys = (mean.view(np.uint32) >> 7 << 8) | (255 - classes)
    rows = list(keys)
    spare = np.empty_like(rows[0])
    for upper, lower in _network(len(rows), kept):
        np.minimum(rows[upper], rows[lower], out=spare)
        np.maximum(rows[upper], rows[lower], out=rows[upper])
        rows[lower], spare = spare, rows[lower]
    top = np.stack(rows[:kept])
    return (255 - (top & 255)).astype(np.uint8), quantise_probability((top >> 8 << 7).view(np.float32))


@lru_cache
def _network(count: int, kept: int) -> tuple[tuple[int, int], ...]:
    """Comparators that bring the ``kept`` largest of ``count`` values to the front, in order.

    Batcher's merge exchange (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M) without what only the later
    places need.
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
