"""Reading a store: only what its records list."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.store.arrays import check_array, read_frames, read_index, shard_name, specs_of
from vsscli.store.encode import ArraySpec, decode_lists, decode_logits, dequantise
from vsscli.store.header import Encoding, Header, read_header
from vsscli.store.record import VideoRecord, read_video_record
from vsscli.store.remote import URL, is_remote, place_of
from vsscli.structured import digest_of

__all__ = ["Store", "open_source", "open_store", "read_header"]

REMEMBERED = 1024
"""Most arrays or indexes of shards that a store keeps in memory."""


class Store:
    """A store opened for reading; use `open_store`.

    Parameters
    ----------
    path
        The store.
    header
        Its header.
    """

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.header = header
        self._records: dict[str, VideoRecord] = {}
        self._arrays: dict[tuple[str, str], ArraySpec] = {}
        self._indexes: dict[tuple[str, str, int], np.ndarray] = {}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that determines the values."""
        return self.header.fingerprint

    @property
    def encoding(self) -> Encoding:
        """How distributions are kept. Pseudo-label stores have no encoding."""
        return self.header.parsed_encoding()

    def videos(self, *, complete: bool = True) -> tuple[str, ...]:
        """Names of the complete videos, sorted; with ``complete=False`` also of those that lack segments."""
        names = sorted(entry.name for entry in self.path.iterdir() if entry.is_dir())
        found = [name for name in names if self._look_up(name) is not None]
        return tuple(name for name in found if not complete or self._records[name].is_complete)

    def record(self, video: str) -> VideoRecord:
        """The record of a video. It is read again until it is complete, since a process may be writing it.

        Raises
        ------
        VssError
            The store has no such video, or its record is damaged.
        """
        record = self._look_up(video)
        if record is None:
            raise VssError(f"{self.path} has no video {video}", "run the command that made the store again")
        return record

    def stems(self, video: str) -> tuple[str, ...]:
        """Names of the frames of a video."""
        return self.record(video).stems

    def size(self, video: str) -> tuple[int, int]:
        """H, W of a video."""
        return self.record(video).size

    def digest(self, video: str) -> str:
        """SHA-256 that changes with any byte of the video's arrays."""
        return self.record(video).digest

    def content(self) -> str:
        """SHA-256 that changes with anything that determines the values, and with any byte of the complete videos."""
        return digest_of({"header": self.fingerprint, "videos": {name: self.digest(name) for name in self.videos()}})

    def read(self, video: str, name: str, index: int | slice) -> np.ndarray:
        """Stored frames of an array of a video.

        Parameters
        ----------
        video, name
            Names of the video and of the array.
        index
            Number of a frame, or a slice of frames without a step.

        Returns
        -------
        ndarray
            The frame, or (t, ...) for a slice.

        Raises
        ------
        VssError
            A frame is not recorded, the store has no such array, or its file is damaged.
        IndexError
            The video has no such frame.
        """
        record = self._records.get(video) or self.record(video)
        frames = range(len(record.stems))
        if isinstance(index, slice):
            chosen = frames[index]
            if chosen.step != 1:
                raise IndexError("a slice of frames can't have a step")
        elif -len(frames) <= index < len(frames):
            chosen = frames[frames[index] : frames[index] + 1]
        else:
            raise IndexError(f"video {video} has {len(frames)} frames and no frame {index}")
        start, stop = chosen.start, max(chosen.start, chosen.stop)
        spec = self._spec(video, name)
        parts = []
        for number in range(start // record.segment, -(-stop // record.segment)):
            first, last = number * record.segment, (number + 1) * record.segment
            parts.append((number, max(start, first), min(stop, last), self._index(video, name, spec, number)))
        values = np.empty((stop - start, *spec.tail), spec.dtype)
        for number, first, last, rows in parts:
            shard = self.path / video / name / shard_name(number, spec)
            within = slice(first - number * record.segment, last - number * record.segment)
            try:
                read_frames(shard, spec, rows[within], values[first - start : last - start])
            except (OSError, ValueError) as error:
                raise _damaged(f"{shard}: frames {first} to {last - 1} are damaged ({error})") from error
        return values if isinstance(index, slice) else values[0]

    def label(self, video: str, t: int | slice) -> np.ndarray:
        """Most likely class of frame t, (H, W) uint8; of several frames (t, H, W)."""
        return self.read(video, "label", t)

    def entropy(self, video: str, t: int | slice) -> np.ndarray:
        """Normalised entropy of frame t, (H, W) float32 in [0, 1]; of several frames (t, H, W)."""
        return dequantise(self.read(video, "entropy", t))

    def lists(self, video: str, t: int) -> tuple[np.ndarray, np.ndarray]:
        """Most likely classes of frame t on the score grid, most likely first.

        Returns
        -------
        tuple
            Classes (K, h, w) uint8, 255 behind the last that is listed, and their probabilities (K, h, w) float32.
            If every class is kept, K is C.
        """
        if self.encoding.keep == "all":
            mean = self.probabilities(video, t)
            order = np.argsort(-mean, axis=0, kind="stable")
            return order.astype(np.uint8), np.take_along_axis(mean, order, axis=0)
        return self.read(video, "top_class", t), dequantise(self.read(video, "top_probability", t))

    def probabilities(self, video: str, t: int) -> np.ndarray:
        """Distribution of frame t rebuilt on the score grid, (C, h, w) float32 that sums to 1."""
        if self.encoding.keep == "all":
            return decode_logits(self.read(video, "logits", t))
        top_class, top_probability = self.read(video, "top_class", t), self.read(video, "top_probability", t)
        return decode_lists(top_class, top_probability, self.header.num_classes)

    def _look_up(self, video: str) -> VideoRecord | None:
        record = self._records.get(video)
        if record is None or not record.is_complete:
            record = read_video_record(self.path, video, self.header)
            if record is not None:
                self._records[video] = record
        return record

    def _spec(self, video: str, name: str) -> ArraySpec:
        """An array of a video, checked before anything is allocated for it."""
        spec = self._arrays.get((video, name))
        if spec is None:
            record = self.record(video)
            specs = specs_of(self.header, record.size)
            if name not in specs:
                raise VssError(f"{self.path} has no {name}, only {', '.join(specs)}", "name a store that has it")
            spec = specs[name]
            check_array(self.path / video / name, spec, len(record.stems), record.segment)
            _remember(self._arrays, (video, name), spec)
        return spec

    def _index(self, video: str, name: str, spec: ArraySpec, number: int) -> np.ndarray:
        """Offsets and lengths of a segment's frames in its file; refused unless the segment is recorded."""
        index = self._indexes.get((video, name, number))
        if index is not None:
            return index
        record = self.record(video)
        if number not in record.segments:
            bounds = record.bounds(number)
            raise VssError(
                f"{self.path}: frames {bounds.start} to {bounds.stop - 1} of video {video} are not there yet",
                "run the command that makes the store again; it continues where it stopped",
            )
        shard = self.path / video / name / shard_name(number, spec)
        if name not in record.segments[number] or not shard.is_file():
            raise _damaged(f"{shard} is missing")
        try:
            index = read_index(shard, record.segment)
        except (OSError, ValueError) as error:
            raise _damaged(f"{shard} is damaged ({error})") from error
        _remember(self._indexes, (video, name, number), index)
        return index


def _damaged(message: str) -> VssError:
    return VssError(message, "`vss cache repair`, then run the command that made the store again")


def _remember(cache: dict[Any, Any], key: Any, value: Any) -> None:
    """Keep a value in a cache that is emptied once it is large: memory must not grow with the number of videos."""
    if len(cache) >= REMEMBERED:
        cache.clear()
    cache[key] = value


def open_store(path: str | Path) -> Store:
    """Open a store for reading.

    Raises
    ------
    VssError
        There is no store, it is damaged, or a later version wrote it.
    """
    place = place_of(path)
    return Store(place, read_header(place))


def _neighbour(path: Path, address: str) -> Path:
    """The store at an address that another store records: on this machine's disk, or below the same place at a URL.

    The recording store may come from a stranger, so URLs elsewhere are not fetched. On the disk that is no risk: a
    folder is opened only as a store, and accepted only with the recorded fingerprint.
    """
    if is_remote(path):
        if address.startswith(f"{path.parent}/") and ".." not in address.split("/"):
            return place_of(address)
    elif URL.fullmatch(address) is None and "\0" not in address:
        return Path(os.path.normpath(Path(os.path.abspath(path)).parent / address))
    raise VssError(
        f"{path} was made from predictions at {address}, which is not beside it",
        "put both stores in one folder, or make pseudo-labels there: vss pseudo --store PREDICTIONS",
    )


def open_source(store: Store) -> Store:
    """Open the prediction store that a pseudo-label store was read from.

    Raises
    ------
    VssError
        It is not a pseudo-label store, or the predictions are gone or have changed.
    """
    note = store.header.source.get("store")
    if store.header.kind != "pseudo" or not isinstance(note, dict) or not isinstance(note.get("address"), str):
        raise VssError(f"{store.path} is not a pseudo-label store", "name one that vss pseudo wrote")
    source = open_store(_neighbour(store.path, note["address"]))
    if source.fingerprint != note.get("fingerprint"):
        raise VssError(
            f"{source.path} does not hold the predictions that {store.path} was made from",
            "run vss pseudo again",
        )
    return source
