"""Smoothing a store along time: every frame becomes the mean of itself and its neighbours, from the cache alone.

If the images are available, neighbours are first moved by the optical flow, so that a pixel is averaged with the same
point of the scene; pixels that the flow can't explain keep their own. Letters: N reach, H W frame, P pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from math import comb
from pathlib import Path

import numpy as np

from vsscli.data.flow import flow, small_grey
from vsscli.data.numbering import is_in_time, say_gaps
from vsscli.engine.engine import LOCAL, Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.errors import VssError
from vsscli.fusion.mix import Dense, Lists, Mean, mix
from vsscli.fusion.sources import read_source, source_note, stacked
from vsscli.store.encode import IGNORE, SHARE, quantise
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store
from vsscli.store.record import Segment
from vsscli.store.remote import place_of
from vsscli.store.verify import require_complete
from vsscli.store.writer import StoreWriter
from vsscli.talk import SILENCE, Talk

NUMERICS = 1
"""Raised only when a change here or in `data.flow` alters smoothed stores."""

WORTH = 64
"""Frames that justify a process."""

Reader = Callable[[str, int], np.ndarray]
"""Frame (H, W, 3) uint8 by video and number."""


class CachedFrame:
    """What smoothing needs of one frame, with flattened pixels: label, entropy, lists, and grey values."""

    def __init__(self, store: Store, video: str, t: int, reader: Reader | None) -> None:
        source = read_source(store, video, t)
        if isinstance(source, Dense):
            raise VssError(f"{store.path} keeps all classes", "smooth a store with lists, such as a fusion of it")
        self.lists = source
        self.label = store.label(video, t).reshape(-1)
        self.entropy = store.read(video, "entropy", t).reshape(-1)
        self.grey = None if reader is None else small_grey(reader(video, t))

    def moved(self, places: np.ndarray, trusted: np.ndarray, own: CachedFrame) -> CachedFrame:
        """This frame's pixels at ``places`` (P,), and those of ``own`` where ``trusted`` is false."""
        moved = object.__new__(CachedFrame)
        moved.label = np.where(trusted, self.label[places], own.label)
        moved.entropy = np.where(trusted, self.entropy[places], own.entropy)
        pairs = zip(self.lists, own.lists, strict=True)
        moved.lists = Lists(*(np.where(trusted, np.take(mine, places, axis=1), theirs) for mine, theirs in pairs))
        moved.grey = None
        return moved


def smooth(
    store: Store,
    reach: int,
    out: str | Path,
    *,
    reader: Reader | None = None,
    talk: Talk = SILENCE,
    engine: Engine = LOCAL,
    part: Part = WHOLE,
    force: bool = False,
) -> Path:
    """Average every frame with its neighbours into a new store, or continue it.

    Parameters
    ----------
    store
        Predictions or a fusion, with lists on a score grid of stride 1.
    reach
        N: from N frames before to N after, weighted by binomial coefficients (1 2 1 for N = 1).
    out
        The store to write.
    reader
        Reads the images, so that neighbours are moved by the optical flow; `None`: they are not moved.
    talk
        Hears of gaps in time, and of progress by frame.
    engine
        Where videos are smoothed.
    part
        Which share of the videos.
    force
        As for `StoreWriter`.

    Raises
    ------
    VssError
        A store that can't be smoothed or is not finished, or an ``out`` that holds something else.
    """
    if not 1 <= reach <= 8:
        raise VssError(f"a reach of {reach} frames", "give 1 to 8")
    if store.header.kind == "pseudo" or store.encoding.grid != 1 or store.encoding.keep != "top":
        raise VssError(f"{store.path} has no lists at frame size", "name a prediction or fusion on a score grid of 1")
    header = smoothed_header(store, reach, place_of(out), motion=reader is not None)
    videos = require_complete(store)
    _require_order(store, videos)
    say_gaps({name: store.stems(name) for name in videos}, "smoothing along time treats", talk)
    with StoreWriter(out, header, force=force) as writer:
        mine = part.of(videos, [len(store.stems(video)) for video in videos])
        task, lengths = _Smoothing(store, reach, reader, writer), [len(store.stems(video)) for video in mine]
        with closing(engine.map("smooth", task, mine, lengths, talk, worth=WORTH)) as finished:
            for _ in finished:
                pass
    return writer.path


@dataclass(frozen=True)
class _Smoothing:
    """The task of smoothing some videos."""

    store: Store
    reach: int
    reader: Reader | None
    writer: StoreWriter

    def __call__(self, videos: Sequence[str], threads: int, talk: Talk) -> Iterator[str]:
        store = self.store
        with self.writer as writer, talk.track("smooth", 0) as done:
            for video in videos:
                stems, size = store.stems(video), store.size(video)
                pending = writer.pending(video, stems, size, [store.digest(video)], store.record(video).frames)
                done(len(stems) - sum(map(len, pending)))
                for segment in pending:
                    frames = _smoothed(store, video, segment, self.reach, self.reader)
                    writer.write(video, segment, stacked(frames, len(segment), done))
                yield video


def _smoothed(
    store: Store, video: str, segment: Segment, reach: int, reader: Reader | None
) -> Iterator[dict[str, np.ndarray]]:
    known: dict[int, CachedFrame] = {}
    for t in range(segment.start, segment.stop):
        near = range(max(0, t - reach), min(len(store.stems(video)), t + reach + 1))
        known = {u: known.get(u) or CachedFrame(store, video, u, reader) for u in near}
        yield smooth_frame(known, t, reach, store.header.num_classes, store.encoding, store.size(video))


def _require_order(store: Store, videos: tuple[str, ...]) -> None:
    """Refuse a store whose frames are not in the order of time, since its neighbours are not neighbours in time."""
    for video in videos:
        if not is_in_time(store.stems(video)):
            raise VssError(
                f"{store.path} has the frames of video {video} in alphabetical order, as earlier versions sorted them, "
                "not in the order of time",
                "predict them again with --force, and smooth the new store",
            )


def smooth_frame(
    known: dict[int, CachedFrame], t: int, reach: int, num_classes: int, encoding: Encoding, size: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The mean of frame t and its neighbours in ``known``, in stored form; beyond the ends frame t counts again."""
    own = known[t]
    shares: dict[int, int] = {}
    for offset in range(-reach, reach + 1):
        u = t + offset if t + offset in known else t
        shares[u] = shares.get(u, 0) + comb(2 * reach, reach + offset)
    weights = np.array(list(shares.values()), np.float32) / 4**reach
    near = [own if u == t else known[u].moved(*motion(own, known[u], size), own) for u in shares]
    agree = np.logical_and.reduce([frame.label == own.label for frame in near])
    agreed = np.where(agree, own.label, IGNORE).astype(np.uint8)
    mixed = mix([frame.lists for frame in near], Mean(weights), num_classes, encoding, agreed)
    entropy = mixed.divergence / np.float32(np.log(max(num_classes, 2)))
    for frame, weight in zip(near, weights, strict=True):
        entropy += np.take(weight * SHARE, frame.entropy)
    return {
        "label": np.where(agree, own.label, mixed.top_class[0]).reshape(size),
        "entropy": quantise(entropy, encoding.entropy_step).reshape(size),
        "top_class": mixed.top_class.reshape(-1, *size),
        "top_probability": mixed.top_probability.reshape(-1, *size),
    }


def motion(frame: CachedFrame, other: CachedFrame, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels of a frame are in another: flat indices (P,) int, and which to trust, (P,) bool.

    Without grey values no pixel moves.
    """
    if frame.grey is None or other.grey is None:
        pixels = size[0] * size[1]
        return np.arange(pixels), np.ones(pixels, bool)
    return flow(frame.grey, other.grey, size)


def smoothed_header(store: Store, reach: int, out: Path, *, motion: bool) -> Header:
    """The header of a store smoothed along time."""
    return Header(
        kind="fusion",
        table=store.header.table,
        scores="probabilities",
        source={
            "method": "temporal",
            "numerics": NUMERICS,
            "reach": reach,
            "motion": motion,
            "stores": [source_note(store, out)],
        },
        encoding=store.encoding.to_dict(),
        data=store.header.data,
    )
