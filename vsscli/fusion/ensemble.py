"""Fusing prediction stores: the weighted mean of their distributions, from the cache alone.

Two rules keep what the lists lose out of the result (measured in specs/store_measurements.md): where all sources'
stored labels agree, theirs is the fused label (exact, since the class that leads in every source leads in their mean);
and the fused entropy is the weighted mean of the stored entropies, which are dense, plus the divergence of the sources,
which is all that is taken from the lists.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.fusion.mix import Dense, Lists, mean_of, mix
from vsscli.store.encode import IGNORE, dequantise_entropy, quantise_entropy, score_size
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store
from vsscli.store.writer import StoreWriter
from vsscli.talk import SILENCE, Talk

NUMERICS = 1
"""Raised only when a change here alters fused stores."""

LABEL_PIXELS = 2**13
"""Pixels whose dense means are in memory at a time where the score grid is coarser than the frame."""


def fuse(
    stores: Sequence[Store],
    weights: Sequence[float],
    out: str | Path,
    *,
    talk: Talk = SILENCE,
    workers: int | None = None,
    force: bool = False,
) -> Path:
    """Average prediction stores into a new one, or go on with it.

    Parameters
    ----------
    stores
        The sources; each may itself be a fusion.
    weights
        One number per source, not negative; they are divided by their sum.
    out
        The store to write. What is there of it is not made again.
    talk
        Is told how far it is, by frame.
    workers
        Threads, each with a frame in hand; by default one per processor, at most four.
    force
        As for `StoreWriter`.

    Returns
    -------
    Path
        The store written: ``out``, or with ``force`` perhaps one beside it.

    Raises
    ------
    VssError
        Weights that are none, sources that differ in classes, score grid, videos, frames or sizes, a video that a
        living process is writing, or an ``out`` that holds something else.
    """
    shares = normalised_weights(weights, len(stores))
    videos = require_alike(stores)
    header = fused_header(stores, shares, Path(out))
    encoding = Encoding.from_dict(header.encoding)
    total = sum(len(stores[0].stems(video)) for video in videos)
    threads = workers or min(4, os.cpu_count() or 1)
    skipped = 0
    with (
        StoreWriter(out, header, force=force) as writer,
        talk.track("fuse", total) as done,
        ThreadPoolExecutor(threads) as pool,
    ):
        # A source of weight 0 is not read: it has no say in whether the labels agree.
        heard = [store for store, share in zip(stores, shares, strict=True) if share > 0]
        said = [share for share in shares if share > 0]
        for video in videos:
            stems, size = stores[0].stems(video), stores[0].size(video)
            segments = writer.pending(video, stems, size, [store.digest(video) for store in stores])
            there = len(stems) - sum(map(len, segments))
            skipped += there
            done(there)
            for segment in segments:
                arrays: dict[str, np.ndarray] = {}
                fused = partial(fuse_frame, heard, said, encoding, video)
                for i, frame in enumerate(pool.map(fused, range(segment.start, segment.stop))):
                    for name, values in frame.items():
                        if i == 0:
                            arrays[name] = np.empty((len(segment), *values.shape), values.dtype)
                        arrays[name][i] = values
                    done(1)
                writer.write(video, segment, arrays)
    if skipped:
        talk.say(f"{skipped} of {total} frames were in {writer.path} already")
    return writer.path


def fuse_frame(
    stores: Sequence[Store], weights: Sequence[float], encoding: Encoding, video: str, t: int
) -> dict[str, np.ndarray]:
    """Fuse one frame.

    Parameters
    ----------
    stores
        The S sources.
    weights
        S positive numbers that sum to 1.
    encoding
        How the fusion is kept: lists on the sources' score grid.
    video, t
        The frame.

    Returns
    -------
    dict
        The frame's ``label``, ``entropy`` (H, W), ``top_class`` and ``top_logit`` (K, h, w), uint8 as stored.
    """
    num_classes = stores[0].header.num_classes
    size = stores[0].size(video)
    h, w = score_size(encoding, size)
    labels = [store.label(video, t) for store in stores]
    agree = np.logical_and.reduce([label == labels[0] for label in labels])
    sources = [read_source(store, video, t) for store in stores]
    same_grid = encoding.grid == 1
    agreed = np.where(agree, labels[0], IGNORE).astype(np.uint8)
    kept = min(encoding.kept, num_classes)
    mixed = mix(sources, weights, num_classes, kept, agreed.reshape(-1) if same_grid else None)
    divergence = mixed.divergence.reshape(h, w)
    top_class = mixed.top_class.reshape(kept, h, w)
    if same_grid:
        label = np.where(agree, labels[0], top_class[0])
    else:
        divergence = enlarge(divergence, size)
        label = labels[0].copy()
        rows, columns = np.nonzero(~agree)
        label[rows, columns] = labels_at(sources, weights, num_classes, (h, w), size, rows, columns)
    entropy = divergence / np.float32(max(math.log(num_classes), 1e-9))
    for store, weight in zip(stores, weights, strict=True):
        entropy += np.float32(weight) * dequantise_entropy(store.read(video, "entropy", t))
    return {
        "label": label,
        "entropy": quantise_entropy(entropy),
        "top_class": top_class,
        "top_logit": mixed.top_logit.reshape(kept, h, w),
    }


def read_source(store: Store, video: str, t: int) -> Lists | Dense:
    """What a store keeps of the distribution of a frame, its pixels in one row."""
    if store.encoding.keep == "all":
        logits = store.read(video, "logits", t)
        return Dense(logits.reshape(len(logits), -1))
    top_class, top_logit = store.read(video, "top_class", t), store.read(video, "top_logit", t)
    return Lists(top_class.reshape(len(top_class), -1), top_logit.reshape(len(top_logit), -1))


def labels_at(
    sources: Sequence[Lists | Dense],
    weights: Sequence[float],
    num_classes: int,
    grid: tuple[int, int],
    size: tuple[int, int],
    rows: np.ndarray,
    columns: np.ndarray,
) -> np.ndarray:
    """Most likely class of the mean at some pixels of the frame, the mean enlarged from the score grid.

    Parameters
    ----------
    sources, weights, num_classes
        As for `mix`, of the whole score grid.
    grid
        h, w.
    size
        H, W.
    rows, columns
        Of P pixels of the frame.

    Returns
    -------
    ndarray
        (P,) uint8.
    """
    (up, down, rise), (left, right, run) = neighbours(grid[0], size[0]), neighbours(grid[1], size[1])
    label = np.empty(len(rows), np.uint8)
    for start in range(0, len(label), LABEL_PIXELS):
        y, x = rows[start : start + LABEL_PIXELS], columns[start : start + LABEL_PIXELS]
        mean = np.zeros((num_classes, len(y)), np.float32)
        for row, vertical in ((up[y], 1 - rise[y]), (down[y], rise[y])):
            for column, horizontal in ((left[x], 1 - run[x]), (right[x], run[x])):
                places = row * grid[1] + column
                cut = [type(source)(*(array[:, places] for array in source)) for source in sources]
                mean += vertical * horizontal * mean_of(cut, weights, num_classes)
        label[start : start + LABEL_PIXELS] = mean.argmax(axis=0)
    return label


def neighbours(grid: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of the pixels along a side: the two cells of the score grid it lies between, and how far along.

    Bilinear, ``align_corners=False``, as torch.nn.functional.interpolate places them.

    Returns
    -------
    tuple
        Lower and upper cell (frame,) int, and the upper one's share (frame,) float32.
    """
    place = np.maximum((np.arange(frame) + 0.5) * (grid / frame) - 0.5, 0.0)
    lower = np.minimum(place.astype(np.intp), grid - 1)
    return lower, np.minimum(lower + 1, grid - 1), (place - lower).astype(np.float32)


def enlarge(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize (h, w) to (H, W) between the cells of the score grid, as `neighbours` places them."""
    (up, down, rise), (left, right, run) = (neighbours(g, s) for g, s in zip(values.shape, size, strict=True))
    rows = values[up] * (1 - rise[:, None]) + values[down] * rise[:, None]
    return rows[:, left] * (1 - run) + rows[:, right] * run


def normalised_weights(weights: Sequence[float], count: int) -> list[float]:
    """Weights divided by their sum.

    Raises
    ------
    VssError
        Not one per store, negative, not finite, or all 0.
    """
    hint = "give one weight per store, for example --weights 0.6 0.4"
    if count == 0:
        raise VssError("no stores to fuse", "name them: --stores a.zarr b.zarr")
    if len(weights) != count:
        raise VssError(f"{len(weights)} weights for {count} stores", hint)
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise VssError(f"weight {weight} is not a number from 0 up", hint)
    total = math.fsum(weights)
    if total == 0:
        raise VssError("all weights are 0", hint)
    return [float(weight) / total for weight in weights]


def require_alike(stores: Sequence[Store]) -> tuple[str, ...]:
    """Make sure that stores can be fused pixel by pixel.

    Returns
    -------
    tuple
        Names of their videos.

    Raises
    ------
    VssError
        They differ in classes, score grid, videos, frames or sizes; the first difference is named.
    """
    first = stores[0]
    for store in stores:
        if store.header.kind == "pseudo":
            raise VssError(f"{store.path} holds pseudo-labels, which can't be fused", "name prediction stores")
        unfinished = sorted({*store.videos(complete=False)} - {*store.videos()})
        if unfinished:
            raise VssError(
                f"{store.path} lacks frames of video {unfinished[0]} and {len(unfinished) - 1} more",
                "finish it first: run the command that makes it again",
            )
    videos = first.videos()
    if not videos:
        raise VssError(f"{first.path} holds no videos", "run the command that makes it")
    for store in stores[1:]:
        both = f"{first.path} and {store.path}"
        for name, one, other in (
            ("classes", first.header.table.names, store.header.table.names),
            ("score grids", first.encoding.grid, store.encoding.grid),
        ):
            if one != other:
                raise VssError(f"{both} have different {name}: {_unlike(one, other)}", "fuse stores of equal recipes")
        lonely = sorted({*videos} ^ {*store.videos()})
        if lonely:
            owner = first if lonely[0] in videos else store
            raise VssError(
                f"{both} have different videos: {lonely[0]} is only in {owner.path} ({len(lonely)} such)",
                "predict the same split with every model",
            )
        for video in videos:
            if first.size(video) != store.size(video):
                sizes = _unlike(first.size(video), store.size(video))
                raise VssError(f"{both} have video {video} in different sizes: {sizes}", "predict the same frames")
            if first.stems(video) != store.stems(video):
                stems = _unlike(first.stems(video), store.stems(video))
                raise VssError(f"{both} have different frames of video {video}: {stems}", "predict the same frames")
    return videos


def fused_header(stores: Sequence[Store], weights: Sequence[float], out: Path) -> Header:
    """The header of a fusion."""
    first = stores[0].header
    lists = [store.encoding.kept for store in stores if store.encoding.keep == "top"]
    noted: list[dict[str, Any]] = [
        {"address": relative_address(store.path, out), "fingerprint": store.fingerprint} for store in stores
    ]
    return Header(
        kind="fusion",
        table=first.table,
        scores="probabilities",
        source={"method": "arithmetic", "numerics": NUMERICS, "weights": list(weights), "stores": noted},
        encoding=Encoding(stores[0].encoding.grid, max(lists, default=Encoding.kept)).to_dict(),
        data=first.data,
        summary=data_note(first),
    )


def data_note(header: Header) -> dict[str, Any]:
    """The recipe's data section, if the source's header notes it: how what is made of it finds the frames."""
    return {"data": header.summary["data"]} if "data" in header.summary else {}


def relative_address(path: Path, out: Path) -> str:
    """Where a store lies, seen from the folder of another, so that both can move together."""
    try:
        return Path(os.path.relpath(path.absolute(), out.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


def _unlike(one: Any, other: Any) -> str:
    """Where two values differ, in few words."""
    if isinstance(one, tuple) and len(one) != len(other):
        return f"{len(one)} and {len(other)}"
    if isinstance(one, tuple) and len(one) > 2:
        return next(f"number {i} is {a!r} and {b!r}" for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return f"{one} and {other}"
