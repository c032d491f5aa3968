"""The stores that another store is made from: whether they match, what they keep of a frame, how they are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.fusion.mix import Dense, Lists
from vsscli.store.header import Header
from vsscli.store.reader import Store
from vsscli.store.remote import relative_address
from vsscli.store.verify import require_complete


def require_alike(stores: Sequence[Store]) -> tuple[str, ...]:
    """The videos of stores that can be fused pixel by pixel.

    Raises
    ------
    VssError
        There are no stores, or they differ in classes, score grid, videos, frames or sizes; names the first difference.
    """
    if not stores:
        raise VssError("no stores to fuse", "name them: --stores a.zarr b.zarr")
    first = stores[0]
    for store in stores:
        if store.header.kind == "pseudo":
            raise VssError(f"{store.path} holds pseudo-labels, which can't be fused", "name prediction stores")
        require_complete(store)
    videos = first.videos()
    for store in stores[1:]:
        both = f"{first.path} and {store.path}"
        for name, one, other in (
            ("classes", first.header.table.names, store.header.table.names),
            ("score grids", first.encoding.grid, store.encoding.grid),
        ):
            if one != other:
                raise VssError(f"{both} have different {name}: {_unlike(one, other)}", "fuse stores of like recipes")
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
                raise VssError(f"{both} have different sizes of video {video}: {sizes}", "predict the same frames")
            if first.stems(video) != store.stems(video):
                stems = _unlike(first.stems(video), store.stems(video))
                raise VssError(f"{both} have different frames of video {video}: {stems}", "predict the same frames")
            if len({one.record(video).frames for one in (first, store)} - {""}) > 1:
                raise VssError(
                    f"{both} were predicted from different images of video {video} with the same names",
                    "predict the current frames with every model: run the same predict commands again",
                )
    return videos


def require_size(mask: np.ndarray, store: Store, video: str, t: int) -> None:
    """Refuse a mask whose size differs from that of the predicted frame."""
    height, width = store.size(video)
    if mask.shape != (height, width):
        raise VssError(
            f"the mask of {video}/{store.stems(video)[t]} is {mask.shape[1]}x{mask.shape[0]}, its prediction "
            f"{width}x{height} (width x height)",
            "give the folder of the predicted data with --data",
        )


def read_source(store: Store, video: str, t: int) -> Lists | Dense:
    """A store's distribution of a frame as stored, with its pixels flattened."""
    if store.encoding.keep == "all":
        logits = store.read(video, "logits", t)
        return Dense(logits.reshape(len(logits), -1))
    lists = store.read(video, "top_class", t), store.read(video, "top_probability", t)
    return Lists(*(array.reshape(len(array), -1) for array in lists))


def stacked(
    frames: Iterable[Mapping[str, np.ndarray]], count: int, done: Callable[[int], object]
) -> dict[str, np.ndarray]:
    """The arrays of ``count`` frames, stacked; ``done`` is called after each frame."""
    arrays: dict[str, np.ndarray] = {}
    for i, frame in enumerate(frames):
        for name, values in frame.items():
            if i == 0:
                arrays[name] = np.empty((count, *values.shape), values.dtype)
            arrays[name][i] = values
        done(1)
    return arrays


def frames_digest(stores: Sequence[Store], video: str) -> str:
    """Digest of the frames of a video that stores were predicted from; empty if one of them did not record it."""
    return min(store.record(video).frames for store in stores)


def source_note(store: Store, out: Path) -> dict[str, str]:
    """How the header of a store at ``out`` records one that it is made from."""
    return {"address": relative_address(store.path, out), "fingerprint": store.fingerprint}


def data_of(header: Header, *others: Header) -> dict[str, Any]:
    """`Header.data` of a store made from others: the first one's, with what any learned from or was chosen on."""
    data = dict(header.data)
    for key in ("learned", "chosen_on"):
        noted: list[Any] = []
        for source in (header, *others):
            noted += [one for one in source.data.get(key, []) if one not in noted]
        if noted:
            data[key] = noted
    return data


def _unlike(one: Any, other: Any) -> str:
    """How two values differ, in a few words."""
    if isinstance(one, tuple) and len(one) != len(other):
        return f"{len(one)} and {len(other)}"
    if isinstance(one, tuple) and len(one) > 2:
        return next(f"entry {i} is {a!r} and {b!r}" for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)
    return f"{one} and {other}"
