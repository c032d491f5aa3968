"""How much space a store takes, and removing what dead runs left in it and beside it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from vsscli.errors import VssError
from vsscli.store.arrays import shard_name, specs_of
from vsscli.store.files import disk
from vsscli.store.header import Header, read_header
from vsscli.store.record import VideoRecord, read_video_record
from vsscli.store.remote import place_of, work_for
from vsscli.store.verify import videos_of
from vsscli.store.work import WorkFolder

REMOVED = "__store__"
"""Staging name of a store that is being removed; no video can have it."""


@dataclass(frozen=True)
class VideoUsage:
    """One video of a store: recorded frames, all frames, and the bytes of each array's files."""

    name: str
    present: int
    frames: int
    bytes: dict[str, int]


@dataclass(frozen=True)
class Usage:
    """The space a store takes.

    Parameters
    ----------
    videos
        Its videos, by name.
    metadata
        Bytes of all ``zarr.json``.
    leftovers
        Bytes that no record lists, in its arrays and in its work folder.
    """

    videos: tuple[VideoUsage, ...]
    metadata: int
    leftovers: int

    @property
    def arrays(self) -> dict[str, int]:
        """Bytes by array, over all videos."""
        names = dict.fromkeys(name for video in self.videos for name in video.bytes)
        return {name: sum(video.bytes.get(name, 0) for video in self.videos) for name in names}

    @property
    def total(self) -> int:
        return sum(self.arrays.values()) + self.metadata + self.leftovers


def measure(path: Path) -> Usage:
    """Count the bytes of a store's files. All of a video whose record is damaged counts as leftovers."""
    path = place_of(path)
    header = read_header(path)
    videos = []
    metadata = (path / "zarr.json").stat().st_size
    work = work_for(path)
    leftovers = sum(_size(file) for file in work.files(work.path))
    for name in videos_of(path):
        record, known = _recorded(path, header, name)
        files = work.files(path / name)
        metadata += sum(_size(file) for file in files if file.name == "zarr.json")
        leftovers += sum(_size(file) for file in files if file.name != "zarr.json" and file not in known)
        if record is not None:
            by_array = dict.fromkeys(specs_of(header, record.size), 0)
            for file, array in known.items():
                by_array[array] += _size(file)
            present = sum(len(record.bounds(number)) for number in record.segments)
            videos.append(VideoUsage(name, present, len(record.stems), by_array))
    return Usage(tuple(videos), metadata, leftovers)


def collect(path: Path) -> list[Path]:
    """Remove what dead runs left of a store: locks, staged files, and files of segments that were never recorded.

    What a running process has claimed is left alone, and so is everything that a record lists.

    Parameters
    ----------
    path
        The store; it need not exist, as its first writer may have died before creating it.

    Returns
    -------
    list
        What was removed.
    """
    path = place_of(path)
    work = work_for(path)
    with disk(f"cannot clear {path}", "fix the cause and run `vss cache gc` again"):
        removed = work.collect()
        if not (path / "zarr.json").is_file():
            return removed
        header = read_header(path)
        for name in videos_of(path):
            if not _unrecorded(path, header, name, work):
                continue
            try:
                work.lock(name)
            except VssError:
                continue  # it is being written: these files may be about to be recorded
            try:
                # Listed again: another process may have been writing until now.
                for file in _unrecorded(path, header, name, work):
                    work.drop(file)
                    removed.append(file)
            finally:
                work.release(name)
        work.tidy()
        return removed


def remove(path: Path) -> None:
    """Remove a store atomically: a process killed meanwhile leaves no half of it, and `collect` clears the rest."""
    work = work_for(path)
    with disk(f"cannot remove {path}", "fix the cause, or remove it by hand"):
        work.clear(REMOVED)
        work.remove_folder(REMOVED, path)
        work.clear(REMOVED)
        work.tidy()


def remove_video(path: Path, video: str) -> None:
    """Take a video out of a store atomically. `VssError` if a running process is writing it."""
    work = work_for(path)
    try:
        with disk(f"cannot remove {path / video}", "fix the cause, or remove it by hand"):
            work.lock(video)
            try:
                work.remove_folder(video, path / video)
            finally:
                work.release(video)
    finally:
        work.tidy()


def _unrecorded(path: Path, header: Header, video: str, work: WorkFolder) -> list[Path]:
    """Files of a video's arrays that belong to no recorded segment: a writer died before it recorded them."""
    record, known = _recorded(path, header, video)
    if record is None:
        return []  # a damaged or lost record is for `repair`
    folders = [path / video / name / "c" for name in specs_of(header, record.size)]
    return [file for folder in folders for file in work.files(folder) if file not in known]


def _recorded(path: Path, header: Header, video: str) -> tuple[VideoRecord | None, dict[Path, str]]:
    """The record of a video if it is sound, and the files of its segments, each with the array it belongs to."""
    record = None
    with suppress(VssError):
        record = read_video_record(path, video, header)
    if record is None:
        return None, {}
    specs, folder = specs_of(header, record.size), path / video
    return record, {folder / name / shard_name(n, spec): name for name, spec in specs.items() for n in record.segments}


def _size(file: Path) -> int:
    with suppress(FileNotFoundError):  # a writer at work
        return file.stat().st_size
    return 0
