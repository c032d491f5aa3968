"""Fusing prediction stores: the weighted mean of their distributions, from the cache alone.

Two rules keep the lists' losses out of the result (measured in specs/store_measurements.md): where the stored labels of
all sources agree, theirs is the fused label (exact, since the class that leads in every source leads in their mean);
and the fused entropy is the weighted mean of the stored entropies, which are dense, plus the divergence of the sources,
which alone is computed from the lists. A temperature changes a source's distribution, so its stored entropy no longer
holds: the entropy is computed from the list, with the remainder to 1 spread evenly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.engine.engine import LOCAL, Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.errors import VssError
from vsscli.fusion.grid import enlarge, neighbours
from vsscli.fusion.mix import Dense, Lists, Mean, Method, mean_of, mean_of_dense, mix, plain_entropy, rebuild
from vsscli.fusion.sources import data_of, frames_digest, read_source, require_alike, source_note, stacked
from vsscli.store.encode import IGNORE, SHARE, quantise, score_size
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store
from vsscli.store.remote import place_of
from vsscli.store.writer import StoreWriter
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

NUMERICS = 2
"""Raised only when a change here alters fused stores."""

TEMPERED = 2
"""Raised only when a change here alters fusions with temperatures; recorded in their headers only."""

WORTH = 64
"""Frames that justify a process."""

THREADS = 4
"""Most threads of a process: more would wait for Python's lock."""

LABEL_PIXELS = 2**13
"""Pixels whose dense means are in memory at a time if the score grid is coarser than the frame."""


def fuse(
    stores: Sequence[Store],
    weights: Sequence[float] | Sequence[Sequence[float]],
    out: str | Path,
    *,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    chosen_on: Mapping[str, Any] | None = None,
    talk: Talk = SILENCE,
    engine: Engine = LOCAL,
    part: Part = WHOLE,
    force: bool = False,
) -> Path:
    """Average prediction stores into a new one, or continue it.

    Parameters
    ----------
    stores
        The sources; each may itself be a fusion.
    weights
        One non-negative number for each source, normalised by their sum. Or one list for each source, with a number for
        each class, normalised class by class.
    out
        The store to write. Segments that are already in it are not computed again.
    method
        ``arithmetic`` mean of the distributions, or ``geometric``.
    temperatures
        One for each source, or none; see `Mean`.
    chosen_on
        Data set and split that weights and temperatures were fitted on, for the header.
    talk
        Called with the progress, by frame.
    engine
        Where videos are fused; each worker has one frame in memory at a time.
    part
        Which share of the videos; others may be written to the same store at the same time.
    force
        As for `StoreWriter`.

    Returns
    -------
    Path
        The store that was written: ``out``, or with ``force`` possibly one beside it.

    Raises
    ------
    VssError
        Invalid weights, sources that differ in classes, score grid, videos, frames or sizes, a video that another
        process is writing, or an ``out`` that holds something else.
    """
    shares = normalised_weights(weights, len(stores), stores[0].header.num_classes if stores else 0)
    if temperatures and (len(temperatures) != len(stores) or not all(0.01 <= t <= 100 for t in temperatures)):
        raise VssError(f"temperatures {list(temperatures)} for {len(stores)} stores", "give one for each, 0.01 to 100")
    videos = require_alike(stores)
    header = fused_header(stores, shares, place_of(out), method, temperatures, chosen_on)
    encoding = header.parsed_encoding()
    mine = part.of(videos, [len(stores[0].stems(video)) for video in videos])
    lengths = [len(stores[0].stems(video)) for video in mine]
    # A source of weight 0 is not read, and its labels need not agree.
    rows = np.asarray(shares, np.float32)
    used = tuple(index for index, share in enumerate(rows) if share.any())
    how = Mean(rows[[*used]], tuple(temperatures[index] for index in used if temperatures), method)
    with StoreWriter(out, header, force=force) as writer:
        task = _Fusing(tuple(stores), used, how, encoding, writer)
        with closing(engine.map("fuse", task, mine, lengths, talk, worth=WORTH)) as there:
            skipped = sum(there)
    if skipped:
        talk.say(f"{skipped} of {sum(lengths)} frames were already in {writer.path}")
    return writer.path


@dataclass(frozen=True)
class _Fusing:
    """The task of fusing some videos, `used` of the stores; yields how many frames of each were there already."""

    stores: Sequence[Store]
    used: Sequence[int]
    how: Mean
    encoding: Encoding
    writer: StoreWriter

    def __call__(self, videos: Sequence[str], threads: int, talk: Talk) -> Iterator[int]:
        sources = [self.stores[index] for index in self.used]
        with self.writer as writer, talk.track("fuse", 0) as done:
            for video in videos:
                stems, size = self.stores[0].stems(video), self.stores[0].size(video)
                digests = [store.digest(video) for store in self.stores]
                segments = writer.pending(video, stems, size, digests, frames_digest(self.stores, video))
                there = len(stems) - sum(map(len, segments))
                done(there)
                for segment in segments:
                    frames = range(segment.start, segment.stop)
                    jobs = (partial(fuse_frame, sources, self.how, self.encoding, video, t) for t in frames)
                    fused = results_in_order(jobs, min(threads, THREADS))
                    writer.write(video, segment, stacked(fused, len(segment), done))
                yield there


def fuse_frame(stores: Sequence[Store], how: Mean, encoding: Encoding, video: str, t: int) -> dict[str, np.ndarray]:
    """Frame t of the fusion in stored form: ``label``, ``entropy`` (H, W), and its lists (K, h, w), uint8."""
    num_classes = stores[0].header.num_classes
    size = stores[0].size(video)
    h, w = score_size(encoding, size)
    labels = [store.label(video, t) for store in stores]
    # The class that leads in every source leads in their mean, unless weights differ by class.
    agree = np.logical_and.reduce([(label == labels[0]) & (how.weights.ndim == 1) for label in labels])
    sources = [read_source(store, video, t) for store in stores]
    same_grid = encoding.grid == 1
    most = np.float32(math.log(max(num_classes, 2)))  # of a single class, entropy is 0 but for rounding
    agreed = np.where(agree, labels[0], IGNORE).astype(np.uint8)
    mixed = mix(sources, how, num_classes, encoding, agreed.reshape(-1) if same_grid else None)
    divergence = mixed.divergence.reshape(h, w)
    top_class = mixed.top_class.reshape(-1, h, w)
    label = labels[0].copy()
    if same_grid:
        label = np.where(agree, label, top_class[0])
    elif how.is_tempered:
        # Powers and interpolation between cells don't commute.
        where = np.indices(size).reshape(2, -1)
        likeliest, divergence = pixels_at(sources, how, num_classes, (h, w), size, *where)
        label, divergence = np.where(agree, label, likeliest.reshape(size)), divergence.reshape(size)
    else:
        divergence = enlarge(divergence, size)
        rows, columns = np.nonzero(~agree)
        label[rows, columns] = labels_at(sources, how, num_classes, (h, w), size, rows, columns)
    entropy = divergence / most
    for index, (store, weight) in enumerate(zip(stores, how.weights, strict=True)):
        if how.temperature(index) == 1:
            entropy += np.take(np.float32(weight.mean()) * SHARE, store.read(video, "entropy", t))
    return {
        "label": label,
        "entropy": quantise(entropy, encoding.entropy_step),
        "top_class": top_class,
        "top_probability": mixed.top_probability.reshape(-1, h, w),
    }


Sources = Sequence[Lists | Dense]
Size = tuple[int, int]


def labels_at(
    sources: Sources, how: Mean, num_classes: int, grid: Size, size: Size, rows: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Most likely class of the mean, enlarged from (h, w) to the frame, at P of its pixels, (P,) uint8."""
    label = np.empty(len(rows), np.uint8)
    for here, corners in _bands(grid, size, rows, columns):
        parts = [share * mean_of(_at(sources, places), how, num_classes) for places, share in corners]
        label[here] = np.add.reduce(parts, axis=0).argmax(axis=0)
    return label


def pixels_at(
    sources: Sources, how: Mean, num_classes: int, grid: Size, size: Size, rows: np.ndarray, columns: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Like `labels_at`, but every source is enlarged before it is tempered; also the divergence, (P,) float32.

    Slower, because all classes of a band are computed.
    """
    label, divergence = np.empty(len(rows), np.uint8), np.empty(len(rows), np.float32)
    for here, corners in _bands(grid, size, rows, columns):
        cells = [(_at(sources, places), share) for places, share in corners]
        dense = [
            np.add.reduce([share * rebuild(cell[index], num_classes) for cell, share in cells], axis=0)
            for index in range(len(sources))
        ]
        own = np.zeros(dense[0].shape[1], np.float32)
        for index, (one, weight) in enumerate(zip(dense, how.weights, strict=True)):
            if how.temperature(index) == 1:
                own += np.float32(weight.mean()) * plain_entropy(one)
        mean = mean_of_dense(dense, how)
        label[here], divergence[here] = mean.argmax(axis=0), plain_entropy(mean) - own
    return label, divergence


def _bands(
    grid: Size, size: Size, rows: np.ndarray, columns: np.ndarray
) -> Iterator[tuple[slice, list[tuple[np.ndarray, np.ndarray]]]]:
    """Bands of pixels of the frame, and the four cells of the score grid around each: flat indices and weights."""
    (up, down, rise), (left, right, run) = neighbours(grid[0], size[0]), neighbours(grid[1], size[1])
    for start in range(0, len(rows), LABEL_PIXELS):
        here = slice(start, start + LABEL_PIXELS)
        y, x = rows[here], columns[here]
        yield (
            here,
            [
                (row * grid[1] + column, vertical * horizontal)
                for row, vertical in ((up[y], 1 - rise[y]), (down[y], rise[y]))
                for column, horizontal in ((left[x], 1 - run[x]), (right[x], run[x]))
            ],
        )


def _at(sources: Sources, places: np.ndarray) -> list[Lists | Dense]:
    return [type(source)(*(array[:, places] for array in source)) for source in sources]


def normalised_weights(
    weights: Sequence[float] | Sequence[Sequence[float]], count: int, num_classes: int | None = None
) -> list[float] | list[list[float]]:
    """Weights divided by their sum: one for each store, or a list for each store with one for each class.

    Any number of classes is accepted if ``num_classes`` is `None`. `VssError` if there is not one for each store, or if
    some are negative or not finite, or all are 0.
    """
    hint = "give one weight for each store, for example --weights 0.6 0.4"
    if count == 0:
        raise VssError("no stores to fuse", "name them: --stores a.zarr b.zarr")
    if len(weights) != count:
        raise VssError(f"{len(weights)} weights for {count} stores", hint)
    try:
        given = np.array(weights, np.float64)
    except ValueError:
        given = np.empty((count, 0))
    if given.ndim == 2 and given.shape[1] != (num_classes or max(given.shape[1], 1)):
        classes = "every class" if num_classes is None else f"each of the {num_classes} classes"
        raise VssError(f"the weights by class do not have one for {classes}", hint)
    for weight in given.flat:
        if not (math.isfinite(weight) and weight >= 0):
            raise VssError(f"weight {weight} is not a number of at least 0", hint)
    total = given.sum(axis=0)
    if not np.all(total > 0):
        raise VssError("all weights are 0", hint)
    shares: list[float] | list[list[float]] = (given / total).tolist()
    return shares


def fused_header(
    stores: Sequence[Store],
    weights: Sequence[float] | Sequence[Sequence[float]],
    out: Path,
    method: Method = "arithmetic",
    temperatures: Sequence[float] = (),
    chosen_on: Mapping[str, Any] | None = None,
) -> Header:
    """The header of a fusion; its encoding is as fine as the finest of its sources'."""
    data = data_of(*(store.header for store in stores))
    if chosen_on is not None:
        data["chosen_on"] = [*data.get("chosen_on", ()), chosen_on]
    first = stores[0].header
    lists = [store.encoding for store in stores if store.encoding.keep == "top"] or [Encoding()]
    encoding = Encoding(
        stores[0].encoding.grid,
        max(one.kept for one in lists),
        drop=min(one.drop for one in lists),
        step=min(one.step for one in lists),
        entropy_step=min(store.encoding.entropy_step for store in stores),
    )
    return Header(
        kind="fusion",
        table=first.table,
        scores="probabilities",
        source={
            "method": method,
            "numerics": NUMERICS,
            **({"tempered": TEMPERED} if any(np.float32(one) != 1 for one in temperatures) else {}),
            "weights": list(weights),
            "temperatures": list(temperatures),
            "stores": [source_note(store, out) for store in stores],
        },
        encoding=encoding.to_dict(),
        data=data,
    )
