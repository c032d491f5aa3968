"""Writing a store so that nothing can break it.

The protocol: a segment is written to the work folder, synced, renamed into place file by file, and only then listed in
its video's record, which is replaced atomically. A writer that is killed loses at most the segment it was writing; the
next one continues and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.inside import require_no_dead_link
from vsscli.store.arrays import array_json, encode_chunk, encode_shard, shard_name, specs_of
from vsscli.store.encode import segment_frames
from vsscli.store.files import disk, group_bytes, json_bytes
from vsscli.store.header import Header, first_difference, read_header
from vsscli.store.record import Segment, VideoRecord, check_video, read_video_record
from vsscli.store.remote import is_remote, place_of, work_for
from vsscli.store.verify import has_lost_record
from vsscli.threads import cores, results_in_order

__all__ = ["Segment", "StoreWriter"]

ROOT = "__root__"
"""Staging name of the root group; no video can have it."""

MOST_ENCODERS = 8
"""Threads that compress a segment: one alone takes longer than a GPU takes for a light network."""

OTHER_IMAGES = "was predicted from images that have changed since"


class StoreWriter:
    """Writes a store, or continues one.

    ``pending`` and ``write`` may be called from several threads as long as each works on different videos. A writer may
    be used again after it was closed, and sent to another process.

    Parameters
    ----------
    path
        The store, usually ``<name>.zarr``; or a URL (`vsscli.store.remote`).
    header
        Header of the store.
    force
        If the path holds something else, write beside it, with the first eight digits of the fingerprint in the name,
        instead of refusing; `path` then says where. A video with other frames, made from other predictions, or whose
        record does not say from which frames it was predicted, is replaced.
    renew
        Replace videos with other frames even without ``force``.

    Raises
    ------
    VssError
        The path holds a store with another header (the message names the field and both values), or is not a store.
    """

    def __init__(self, path: str | Path, header: Header, *, force: bool = False, renew: bool = False) -> None:
        self.path = place_of(path)
        self.header = header
        self._force, self._renew = force, renew or force
        self._records: dict[str, VideoRecord] = {}
        try:
            there = self._agrees()
        except VssError:
            if not force:
                raise
            self.path = self.path.with_name(f"{self.path.stem}-{header.fingerprint[:8]}{self.path.suffix}")
            there = self._agrees()
        self._work = work_for(self.path)
        if there is not None and there.noted() != header.noted():
            # The same predictions, but the recipe now describes the data set differently: the latest description holds.
            with self._disk(), self._work.guard():
                self._work.put(ROOT, {self.path / "zarr.json": group_bytes(header.to_dict())})

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process it is the same store, opened again; claimed videos stay with this one.
        again = partial(StoreWriter, force=self._force, renew=self._renew)
        return again, (self.path, self.header)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def pending(
        self, video: str, stems: Sequence[str], size: tuple[int, int], sources: Sequence[str] = (), frames: str = ""
    ) -> list[Segment]:
        """The segments of a video that are still to be written; claims the video if there are any.

        Parameters
        ----------
        video
            Its name.
        stems
            Names of its T frames, in order.
        size
            H, W.
        sources
            In a store made from others: the digests of their records of this video.
        frames
            Digest of the frames, as `VideoRecord.frames`; empty if unknown.

        Raises
        ------
        VssError
            The video was recorded with other frames or sources, or a running process is writing it.
        """
        made_from, store = tuple(sources), self.header.fingerprint
        wanted = VideoRecord(tuple(stems), (int(size[0]), int(size[1])), 1, {}, made_from, frames, video, store)
        check_video(video, stems, wanted.size)
        with self._disk():
            self._create_root()
            record = self._recorded(video, wanted)
            if record is not None and record.is_complete:
                self._work.bury(video)
                return []
            if video not in self._records:
                self._records[video] = self._claim(video, wanted)
            record = self._records[video]
        missing = [number for number in range(record.num_segments) if number not in record.segments]
        if not missing:
            self._release(video)
        return [record.bounds(number) for number in missing]

    def write(self, video: str, segment: Segment, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one pending segment and record it.

        Parameters
        ----------
        video
            A video that `pending` claimed.
        segment
            One that `pending` returned.
        arrays
            Encoded frames for every array of the store, (t, ...).

        Raises
        ------
        VssError
            The disk refuses, or another process has taken the video over; the segment is not recorded then.
        ValueError
            The video is not claimed, the segment not pending, or the arrays are not those of the store.
        """
        if video not in self._records:
            raise ValueError(f"video {video} was not claimed: call `pending` first")
        record = self._records[video]
        number = segment.start // record.segment
        if record.bounds(number) != segment or number in record.segments:
            raise ValueError(f"{segment} is not a pending segment of video {video}")
        specs = specs_of(self.header, record.size)
        if set(arrays) != set(specs):
            raise ValueError(f"arrays {sorted(arrays)} where the store has {sorted(specs)}")
        for name, spec in specs.items():
            found, right = (arrays[name].shape, arrays[name].dtype), ((len(segment), *spec.tail), np.dtype(spec.dtype))
            if found != right:
                raise ValueError(f"{name} of video {video} is {found}, the store has {right}")
        jobs = [partial(encode_chunk, spec, frame) for name, spec in specs.items() for frame in arrays[name]]
        with self._disk(), closing(results_in_order(jobs, min(cores(), MOST_ENCODERS))) as chunks:
            self._work.require_held(video)
            shards, digests = {}, {}
            for name, spec in specs.items():
                shard = encode_shard(list(islice(chunks, len(segment))), record.segment)
                shards[self.path / video / name / shard_name(number, spec)] = shard
                digests[name] = hashlib.sha256(shard).hexdigest()
            self._work.put(video, shards)
            record = record.with_segment(number, digests)
            self._work.put(video, {self.path / video / "zarr.json": group_bytes(record.to_dict())})
        self._records[video] = record
        if record.is_complete:
            self._release(video)

    def close(self) -> None:
        """Release all claimed videos and remove the work folder."""
        for video in list(self._records):
            self._release(video)
        self._work.tidy()

    def _release(self, video: str) -> None:
        self._work.release(video)
        del self._records[video]

    def _agrees(self) -> Header | None:
        """The header of the store at the path, `None` if nothing is there. Raises if it is something else."""
        if not (self.path / "zarr.json").exists():
            if not is_remote(self.path):
                require_no_dead_link(self.path)
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
            # Checked again: another process may have put the store there in the meantime.
            if taken and not (self.path / "zarr.json").exists():
                raise VssError(f"{self.path} exists and is not a store", "move it away, or give another --out")
            if not taken:
                return None
        header = read_header(self.path)
        remedy = "--force writes a new store beside it; or move it away, or give another --out"
        if header.format != self.header.format:
            raise VssError(f"{self.path} has format {header.format}, which vss reads but does not continue", remedy)
        difference = first_difference(header, self.header)
        if difference is not None:
            name, there, wanted = difference
            raise VssError(f"{self.path} was made with {name} = {there}, not {wanted}", remedy)
        return header

    def _recorded(self, video: str, wanted: VideoRecord) -> VideoRecord | None:
        """The record of a video, if there is one of the wanted frames."""
        record = read_video_record(self.path, video, self.header)
        unlike = "" if record is None else unlike_frames(record, wanted, unknown=self._force)
        # Made from the same predictions, it comes out the same, and quickly.
        renew = self._renew or (unlike == OTHER_IMAGES and len(wanted.sources) > 0)
        if unlike and not renew:
            raise VssError(
                f"video {video} in {self.path} {unlike}",
                f"--force replaces that video; or remove {self.path / video}",
            )
        return None if unlike else record

    def _claim(self, video: str, wanted: VideoRecord) -> VideoRecord:
        self._work.lock(video)
        try:
            # Read again: the previous holder may have been writing until just now.
            record = self._recorded(video, wanted)
            if record is None and read_video_record(self.path, video, self.header) is not None:
                self._work.remove_folder(video, self.path / video)
            return replace(record, video=video, store=wanted.store) if record else self._create_video(video, wanted)
        except BaseException:
            self._work.release(video)
            raise

    def _create_root(self) -> None:
        if (self.path / "zarr.json").exists():
            return
        # Under the guard, so that only one of two processes creates it; the other finds it and compares.
        with self._work.guard():
            if self._agrees() is None:
                try:
                    root = {"zarr.json": group_bytes(self.header.to_dict())}
                    self._work.put_folder(ROOT, self.path, root)
                finally:
                    self._work.clear(ROOT)
        self._agrees()

    def _create_video(self, video: str, wanted: VideoRecord) -> VideoRecord:
        if not is_remote(self.path) and has_lost_record(self.path, self.header, video):
            raise VssError(
                f"{self.path / video} holds arrays but no record of them",
                "`vss cache repair` removes them; then run the same command to write that video again",
            )
        specs = specs_of(self.header, wanted.size)
        record = replace(wanted, segment=segment_frames(specs))
        files = {"zarr.json": group_bytes(record.to_dict())}
        for name, spec in specs.items():
            files[f"{name}/zarr.json"] = json_bytes(array_json(spec, len(record.stems), record.segment))
        self._work.put_folder(video, self.path / video, files)
        return record

    def _disk(self) -> AbstractContextManager[None]:
        remedy = "what is recorded is intact; make room or fix the cause, then run the same command to continue"
        return disk(f"cannot write {self.path}", remedy)


def unlike_frames(record: VideoRecord, wanted: VideoRecord, *, unknown: bool = False) -> str:
    """How a video's record differs from the one that is to be written, in words; empty if it does not.

    ``segment`` and ``segments`` do not count. With ``unknown`` a record without a digest of its frames differs, too.
    """
    if record.size != wanted.size:
        return f"has frames of {record.size[0]}x{record.size[1]}, not {wanted.size[0]}x{wanted.size[1]}"
    if record.stems != wanted.stems:
        if sorted(record.stems) == sorted(wanted.stems):
            there, now = next(pair for pair in zip(record.stems, wanted.stems, strict=True) if pair[0] != pair[1])
            return (
                f"has the same frames in another order, {there!r} in the place of {now!r}: "
                "earlier versions sorted names as strings, not by their numbers"
            )
        pairs = zip(record.stems, wanted.stems, strict=False)
        first = next(
            (f"; the first that differs is {one!r}, not {other!r}" for one, other in pairs if one != other), ""
        )
        return f"has {len(record.stems)} frames, not {len(wanted.stems)}{first}"
    if record.sources != wanted.sources:
        return "was made from predictions that have changed since"
    if wanted.frames and record.frames != wanted.frames and (record.frames or unknown):
        return OTHER_IMAGES if record.frames else "does not say which images it was predicted from"
    return ""
