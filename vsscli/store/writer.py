"""Writing a store so that nothing can break it.

The protocol: a segment is written in the work folder, synced, renamed to its place file by file, and only then stands
in its video's record, which is replaced in one step. Killed at any moment, a writer loses the segment in hand; the
next one goes on and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np

from vsscli.errors import VssError
from vsscli.inside import require_no_dead_link
from vsscli.store.arrays import array_json, encode_chunk, encode_shard, shard_name, specs_of
from vsscli.store.encode import segment_frames
from vsscli.store.files import disk, group_bytes, json_bytes
from vsscli.store.header import Header, first_difference, read_header
from vsscli.store.record import Segment, VideoRecord, check_video, read_record
from vsscli.store.remote import is_remote, place_of, work_for
from vsscli.store.verify import has_lost_record

__all__ = ["Segment", "StoreWriter"]

ROOT = "__root__"
"""Where the root group is staged; no video can be called so."""

OTHER_IMAGES = "was predicted from other images than are there now"


class StoreWriter:
    """Makes a store, or goes on with one.

    ``pending`` and ``write`` may be called from two threads as long as they are about different videos.

    Parameters
    ----------
    path
        The store, usually ``<name>.zarr``; or a URL (`vsscli.store.remote`).
    header
        What is being made.
    force
        Where the path holds something else, write beside it, with the first eight digits of the fingerprint in the
        name, instead of refusing; `path` then says where. A video of it that has other frames, or was made from other
        predictions, is made anew in its place, and so is one of which it is not noted from what frames.
    renew
        Make videos that have other frames anew also without ``force``.

    Raises
    ------
    VssError
        The path holds a store with another header (the field and both values are named), or no store.
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
            # The same predictions, of a data set that is told otherwise now: what comes last holds.
            with self._disk(), self._work.guard():
                self._work.put(ROOT, {self.path / "zarr.json": group_bytes(header.to_dict())})

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pending(
        self, video: str, stems: Sequence[str], size: tuple[int, int], sources: Sequence[str] = (), frames: str = ""
    ) -> list[Segment]:
        """The segments of a video that are not there yet; claims the video if there are any.

        Parameters
        ----------
        video
            Its name.
        stems
            Names of its T frames, in order.
        size
            H, W.
        sources
            Of a store made from others: the digests of their records of this video.
        frames
            What the frames hold, as `VideoRecord.frames`; empty where that is not known.

        Raises
        ------
        VssError
            What is recorded of the video differs, or a living process is writing it.
        """
        wanted = VideoRecord(tuple(stems), (int(size[0]), int(size[1])), 1, {}, tuple(sources), frames, video)
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
            One that `pending` named.
        arrays
            The encoded frames of every array of the store, (t, ...).

        Raises
        ------
        VssError
            The disk refuses. Nothing is recorded then that is not whole.
        ValueError
            The call does not fit the store.
        """
        if video not in self._records:
            raise ValueError(f"video {video} was not claimed: ask `pending` first")
        record = self._records[video]
        number = segment.start // record.segment
        if record.bounds(number) != segment or number in record.segments:
            raise ValueError(f"{segment} is no pending segment of video {video}")
        specs = specs_of(self.header, record.size)
        if set(arrays) != set(specs):
            raise ValueError(f"arrays {sorted(arrays)} where the store has {sorted(specs)}")
        for name, spec in specs.items():
            found, right = (arrays[name].shape, arrays[name].dtype), ((len(segment), *spec.tail), np.dtype(spec.dtype))
            if found != right:
                raise ValueError(f"{name} of video {video} is {found}, the store has {right}")
        with self._disk():
            shards, digests = {}, {}
            for name, spec in specs.items():
                shard = encode_shard([encode_chunk(spec, frame) for frame in arrays[name]], record.segment)
                shards[self.path / video / name / shard_name(number, spec)] = shard
                digests[name] = hashlib.sha256(shard).hexdigest()
            self._work.put(video, shards)
            record = record.with_segment(number, digests)
            self._work.put(video, {self.path / video / "zarr.json": group_bytes(record.to_dict())})
        self._records[video] = record
        if record.is_complete:
            self._release(video)

    def close(self) -> None:
        """Give back what is claimed and leave nothing beside the store."""
        for video in list(self._records):
            self._release(video)
        self._work.tidy()

    def _release(self, video: str) -> None:
        self._work.release(video)
        del self._records[video]

    def _agrees(self) -> Header | None:
        """The header of the store that is there already, if one is. Raises when it is something else."""
        if not (self.path / "zarr.json").exists():
            if not is_remote(self.path):
                require_no_dead_link(self.path)
            taken = self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir()))
            # Looked at twice: another process may have put the store there in between.
            if taken and not (self.path / "zarr.json").exists():
                raise VssError(f"{self.path} is there and is no store", "move it away, or give another --out")
            if not taken:
                return None
        header = read_header(self.path)
        remedy = "--force writes a new store beside it; or move it away, or give another --out"
        if header.format != self.header.format:
            raise VssError(f"{self.path} has format {header.format}, which is read but not gone on with", remedy)
        difference = first_difference(header, self.header)
        if difference is not None:
            name, there, wanted = difference
            raise VssError(f"{self.path} was made with {name} = {there}, not {wanted}", remedy)
        return header

    def _recorded(self, video: str, wanted: VideoRecord) -> VideoRecord | None:
        """What is there of a video, if anything of these frames is."""
        record = read_record(self.path, video, self.header.format)
        unlike = "" if record is None else unlike_frames(record, wanted, unknown=self._force)
        # What is made of the same predictions comes out the same, and is soon made.
        renew = self._renew or (unlike == OTHER_IMAGES and len(wanted.sources) > 0)
        if unlike and not renew:
            raise VssError(
                f"video {video} in {self.path} {unlike}",
                f"--force makes that video anew in its place; or remove {self.path / video}",
            )
        return None if unlike else record

    def _claim(self, video: str, wanted: VideoRecord) -> VideoRecord:
        self._work.lock(video)
        try:
            # Read again: the previous holder may have gone on until just now.
            record = self._recorded(video, wanted)
            if record is None and read_record(self.path, video, self.header.format) is not None:
                self._work.remove_folder(video, self.path / video)
            return replace(record, video=video) if record else self._create_video(video, wanted)
        except BaseException:
            self._work.release(video)
            raise

    def _create_root(self) -> None:
        if (self.path / "zarr.json").exists():
            return
        # The guard, so that of two processes one makes it; the loser finds it made and compares.
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
                f"{self.path / video} holds arrays and no record of them",
                "`vss cache repair` drops them; then run the same command to make that video again",
            )
        specs = specs_of(self.header, wanted.size)
        record = replace(wanted, segment=segment_frames(specs))
        files = {"zarr.json": group_bytes(record.to_dict())}
        for name, spec in specs.items():
            files[f"{name}/zarr.json"] = json_bytes(array_json(spec, len(record.stems), record.segment))
        self._work.put_folder(video, self.path / video, files)
        return record

    def _disk(self) -> AbstractContextManager[None]:
        remedy = "what is recorded is whole; make room or mend the cause, then run the same command to go on"
        return disk(f"cannot write {self.path}", remedy)


def unlike_frames(record: VideoRecord, wanted: VideoRecord, *, unknown: bool = False) -> str:
    """In what a video's record differs from what is to be written, in words; empty when in nothing.

    ``segment`` and ``segments`` do not count. ``unknown``: whether it is a difference not to note what frames held.
    """
    if record.size != wanted.size:
        return f"has frames of {record.size[0]}x{record.size[1]}, not {wanted.size[0]}x{wanted.size[1]}"
    if record.stems != wanted.stems:
        if sorted(record.stems) == sorted(wanted.stems):
            there, now = next(pair for pair in zip(record.stems, wanted.stems, strict=True) if pair[0] != pair[1])
            return (
                f"was made in another order of the same frames, {there!r} where {now!r} comes: "
                "earlier versions took names as strings, not their numbers"
            )
        pairs = zip(record.stems, wanted.stems, strict=False)
        first = next((f"{there!r}, not {now!r}" for there, now in pairs if there != now), "the same as far as both")
        return f"has {len(record.stems)} frames, not {len(wanted.stems)}; the first unlike: {first}"
    if record.sources != wanted.sources:
        return "was made from other predictions than are there now"
    if wanted.frames and record.frames != wanted.frames and (record.frames or unknown):
        return OTHER_IMAGES if record.frames else "does not say from which images it was predicted"
    return ""
