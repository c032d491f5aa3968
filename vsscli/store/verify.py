"""Checking that every byte of a store is as it was written, and repairing what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from vsscli.errors import VssError
from vsscli.names import is_name
from vsscli.store.arrays import check_array, shard_name, specs_of
from vsscli.store.encode import ArraySpec
from vsscli.store.files import disk, file_digest, group_bytes
from vsscli.store.header import Header
from vsscli.store.reader import Store
from vsscli.store.record import VideoRecord, read_video_record
from vsscli.store.remote import is_remote, work_for
from vsscli.store.work import WorkFolder
from vsscli.talk import SILENCE, Talk


class Damage(NamedTuple):
    """A damaged segment; if ``segment`` is `None`, the whole video is damaged."""

    video: str
    segment: int | None
    what: str


class Repair(NamedTuple):
    """What a repair removed from a store: whole videos, and segments of others by number."""

    videos: tuple[str, ...]
    segments: Mapping[str, tuple[int, ...]]


def verify(store: Store, talk: Talk = SILENCE) -> list[Damage]:
    """Compare the file of every recorded segment with the digest in its record, and the arrays with the header.

    Parameters
    ----------
    store
        The store.
    talk
        Called with the progress, by segment.

    Returns
    -------
    list
        One entry for each damaged video or segment, in order; empty for a sound store. Segments that were never
        recorded are not damage; arrays of a video without a record are.
    """
    damaged = []
    work = work_for(store.path)
    records: dict[str, VideoRecord] = {}
    for video in videos_of(store.path):
        try:
            record = read_video_record(store.path, video, store.header)
        except VssError as error:
            damaged.append(Damage(video, None, error.message))
            continue
        if record is not None:
            records[video] = record
        elif work.leads_out(store.path / video):
            damaged.append(Damage(video, None, f"{store.path / video} is a link, which stores never contain"))
        elif has_lost_record(store.path, store.header, video):
            damaged.append(Damage(video, None, f"{store.path / video / 'zarr.json'} is missing"))
    with talk.track("verify", sum(len(record.segments) for record in records.values()), "segment") as done:
        for video, record in records.items():
            specs = specs_of(store.header, record.size)
            what = _damaged_arrays(store.path / video, specs, record, work)
            if what is not None:
                damaged.append(Damage(video, None, what))
                done(len(record.segments))
                continue
            for number, digests in record.segments.items():
                what = _damage(store.path / video, specs, number, digests, work)
                if what is not None:
                    damaged.append(Damage(video, number, what))
                done(1)
    return sorted(damaged, key=lambda damage: (damage.video, -1 if damage.segment is None else damage.segment))


def repair(store: Store, damaged: Sequence[Damage]) -> Repair:
    """Remove what is damaged, so that the command that made the store makes only that again.

    A segment is removed from its video's record; a video whose record or arrays are damaged is removed as a whole.
    Nothing sound is touched, and neither is a video that a running process is writing.

    Parameters
    ----------
    store
        The store.
    damaged
        What `verify` found in it.

    Raises
    ------
    VssError
        A running process is writing one of the videos, or the disk refuses.
    """
    work = work_for(store.path)
    whole: list[str] = []
    segments: dict[str, tuple[int, ...]] = {}
    try:
        with disk(f"cannot repair {store.path}", "fix the cause and repair again"):
            for video in sorted({damage.video for damage in damaged}):
                numbers = [damage.segment for damage in damaged if damage.video == video]
                work.lock(video)
                try:
                    if None in numbers:
                        work.remove_folder(video, store.path / video)
                        whole.append(video)
                    else:
                        segments[video] = tuple(number for number in numbers if number is not None)
                        _forget_segments(store, video, segments[video], work)
                finally:
                    work.release(video)
    finally:
        work.tidy()
    return Repair(tuple(whole), segments)


def videos_of(path: Path) -> list[str]:
    """Names of all folders of a store that may be videos, sorted, whatever they hold."""
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and is_name(entry.name))


def require_complete(store: Store) -> tuple[str, ...]:
    """The videos of a store, refused while it is unfinished, so that nothing is made from a part of it.

    Raises
    ------
    VssError
        Frames or the record of a video are missing, or it holds no videos.
    """
    videos = store.videos()
    unfinished = sorted({*store.videos(complete=False)} - {*videos})
    if unfinished:
        others = f" and {len(unfinished) - 1} more" if len(unfinished) > 1 else ""
        raise VssError(
            f"{store.path} lacks frames of video {unfinished[0]}{others}",
            "finish it first: run the command that makes it again",
        )
    for video in videos_of(store.path):
        if has_lost_record(store.path, store.header, video):
            raise VssError(
                f"{store.path} holds arrays of video {video} but no record of them",
                "`vss cache repair`, then run the command that makes it again",
            )
    if not videos:
        raise VssError(f"{store.path} holds no videos", "run the command that makes it")
    return videos


def has_lost_record(path: Path, header: Header, video: str) -> bool:
    """Whether a store has arrays of a video but no record of them."""
    folder = path / video
    if (folder / "zarr.json").is_file():
        return False
    # At a URL a video's arrays are created before its record: if the writer died in between, they are still empty.
    begun = "c" if is_remote(path) else ""
    return any((folder / name / begun).is_dir() for name in specs_of(header, (1, 1)))


def _damaged_arrays(folder: Path, specs: Mapping[str, ArraySpec], record: VideoRecord, work: WorkFolder) -> str | None:
    """What is wrong with the folders and metadata of a video's arrays."""
    for place in (folder, *(folder / name for name in specs), *(folder / name / "c" for name in specs)):
        if work.leads_out(place):
            return f"{place} is a link, and its target is not part of the store"
    try:
        for name, spec in specs.items():
            check_array(folder / name, spec, len(record.stems), record.segment)
    except VssError as error:
        return error.message
    return None


def _damage(
    folder: Path, specs: Mapping[str, ArraySpec], number: int, digests: Mapping[str, str], work: WorkFolder
) -> str | None:
    for name, spec in specs.items():
        shard = folder / name / shard_name(number, spec)
        if not shard.is_file():
            return f"{shard} is missing"
        if work.leads_out(shard):
            return f"{shard} is a link, and its target is not part of the store"
        if file_digest(shard) != digests.get(name):
            return f"{shard} was changed since it was written"
    return None


def _forget_segments(store: Store, video: str, numbers: tuple[int, ...], work: WorkFolder) -> None:
    record = read_video_record(store.path, video, store.header)
    if record is None:
        return
    specs = specs_of(store.header, record.size)
    # Checked again under the lock: it may have been repaired in the meantime.
    bad = [
        n for n in numbers if n in record.segments and _damage(store.path / video, specs, n, record.segments[n], work)
    ]
    kept = {number: digests for number, digests in record.segments.items() if number not in bad}
    kept_record = group_bytes(replace(record, segments=kept).to_dict())
    work.put(video, {store.path / video / "zarr.json": kept_record})
    for name, spec in specs.items():
        for number in bad:
            work.drop(store.path / video / name / shard_name(number, spec))
