"""Look at every file of a data set before anything long starts.

Every pixel of every image and mask is decoded, so damage shows now and not after hours of training. All faults are
gathered, each with its remedy. `check_once` remembers which data it found sound.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vsscli.data.classes import ClassTable
from vsscli.data.content import Digests
from vsscli.data.left import unread_mask
from vsscli.data.masks import UNKNOWN_REMEDY, MaskIds, describe_values, unknown_values
from vsscli.data.pixels import read_image
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk

RULES = 2
"""Raised when this file learns to see more, so that data found sound by an earlier version is looked at again."""

REMEMBERED = 64
FRAMES_PER_TASK = 8


@dataclass(frozen=True)
class Fault:
    """What is wrong with one file, and what to do about it."""

    path: Path
    what: str
    remedy: str


class _Finding(NamedTuple):
    frame: Frame
    size: tuple[int, int] | None
    faults: tuple[Fault, ...]


def check_videos(
    videos: Sequence[FolderVideo],
    table: ClassTable,
    ids: MaskIds,
    *,
    masks: bool,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> list[Fault]:
    """Decode every frame, and every mask if asked, and gather all that is wrong.

    Parameters
    ----------
    videos
        What to look at.
    table, ids
        The classes, and what the values of masks mean.
    masks
        Whether every frame must have a mask.
    workers
        Threads (Pillow decodes without holding Python's lock); none: one per core.
    talk
        Hears of progress.

    Returns
    -------
    list of Fault
        Missing, empty, damaged or truncated files, masks of another size than their image or with values outside the
        table, frames that differ in size from the first of their video. In the order of the frames.
    """
    ids.lookup(table.num_classes)
    faults: list[Fault] = []
    sizes: dict[int, tuple[int, int]] = {}  # of the first frame of each video that can be read
    frames = sum(len(video) for video in videos)
    with talk.track("check data", frames) as advance:
        for video, findings in _look_at_videos(videos, table, ids, masks, workers or os.cpu_count() or 1):
            for finding in findings:
                faults += finding.faults
                if finding.size is not None:
                    expected = sizes.setdefault(id(video), finding.size)
                    faults += _odd_size(video, finding, expected)
            advance(len(findings))
    return faults


def check_once(
    videos: Sequence[FolderVideo],
    table: ClassTable,
    ids: MaskIds,
    *,
    masks: bool,
    record: Path,
    what: str = "data",
    digests: Digests | None = None,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> None:
    """Make sure that data is sound: `check_videos`, unless the same files were found sound before.

    Parameters
    ----------
    record
        A small JSON file that remembers digests of sound data: of the content of all files, and of what was asked of
        them. It is made when it isn't there, and ignored when it is damaged.
    what
        What to call the data.
    digests
        Tell what files hold. None: all are read for it.

    Raises
    ------
    VssError
        There are faults; see `raise_faults`.
    """
    frames = sum(len(video) for video in videos)
    digests = digests or Digests()
    digest = _digest(videos, table, ids, masks, digests, talk)
    remembered = _read_record(record)
    if digest in remembered:
        talk.say(f"{what}: {frames} frames unchanged since they were found sound, not checked again ({record})")
        return
    raise_faults(check_videos(videos, table, ids, masks=masks, workers=workers, talk=talk))
    # The digest is taken again: files that changed while they were looked at are not vouched for.
    if _digest(videos, table, ids, masks, digests, talk) == digest:
        write_text(record, json.dumps({"sound": [*remembered, digest][-REMEMBERED:]}, indent=1) + "\n")


def raise_faults(faults: Sequence[Fault]) -> None:
    """Turn faults into the error that stops a run; without faults nothing happens.

    Raises
    ------
    VssError
        Names the first few, and how many there are.
    """
    if not faults:
        return
    if len(faults) == 1:
        raise VssError(_in_words(faults[0]), faults[0].remedy)
    shown = [f"  {_in_words(fault)}; {fault.remedy}" for fault in faults[:4]]
    if len(faults) > len(shown):
        shown.append(f"  and {len(faults) - len(shown)} more")
    raise VssError("\n".join([f"{len(faults)} faults in the data", *shown]), "`vss doctor --data ROOT` lists them all")


def _in_words(fault: Fault) -> str:
    return f"{fault.path}: {fault.what}"


def _look_at_videos(
    videos: Sequence[FolderVideo], table: ClassTable, ids: MaskIds, masks: bool, workers: int
) -> Iterator[tuple[FolderVideo, list[_Finding]]]:
    """Look at all frames in parallel; findings come back in order, a few frames at a time."""
    waiting: deque[tuple[FolderVideo, Future[list[_Finding]]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for video in videos:
            for start in range(0, len(video), FRAMES_PER_TASK):
                frames = video.frames[start : start + FRAMES_PER_TASK]
                waiting.append((video, pool.submit(_look_at_frames, frames, table, ids, masks)))
                if len(waiting) >= 4 * workers:  # so that a large data set does not become a large queue
                    video_done, future = waiting.popleft()
                    yield video_done, future.result()
        for video_done, future in waiting:
            yield video_done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _look_at_frames(frames: Sequence[Frame], table: ClassTable, ids: MaskIds, masks: bool) -> list[_Finding]:
    return [_look_at(frame, table, ids, masks) for frame in frames]


def _look_at(frame: Frame, table: ClassTable, ids: MaskIds, masks: bool) -> _Finding:
    faults: list[Fault] = []
    size: tuple[int, int] | None = None
    if frame.image is None:
        faults.append(
            Fault(frame.mask or Path(frame.address), "there is no image for this mask", "add it, or remove the mask")
        )
    else:
        try:
            size = read_image(frame.image).shape[:2]
        except VssError as error:
            faults.append(_as_fault(frame.image, error))
    if masks and frame.mask is None:
        other = unread_mask(frame)
        what = "the frame has no mask" + ("" if other is None else f", only {other.name}, which is no PNG")
        faults.append(Fault(frame.image or Path(frame.address), what, _mask_remedy(frame)))
    elif masks and frame.mask is not None:
        faults += _look_at_mask(frame.mask, size, table, ids)
    return _Finding(frame, size, tuple(faults))


def _look_at_mask(path: Path, size: tuple[int, int] | None, table: ClassTable, ids: MaskIds) -> list[Fault]:
    try:
        raw = ids.read(path)
    except VssError as error:
        return [_as_fault(path, error)]
    faults: list[Fault] = []
    if size is not None and raw.shape != size:
        what = f"the mask is {_in_pixels(raw.shape)}, its image {_in_pixels(size)} (width x height)"
        faults.append(Fault(path, what, "label the image at its own size, or scale the mask with nearest neighbour"))
    unknown = unknown_values(raw, ids, table.num_classes)
    if unknown:
        last = ids.first + table.num_classes - 1
        what = f"the mask holds {describe_values(unknown)}, outside the {table.num_classes} classes of {table.name}"
        faults.append(Fault(path, f"{what} ({ids.first}..{last})", UNKNOWN_REMEDY))
    return faults


def _odd_size(video: FolderVideo, finding: _Finding, expected: tuple[int, int]) -> list[Fault]:
    if finding.frame.image is None or finding.size is None or finding.size == expected:
        return []
    what = f"the frame is {_in_pixels(finding.size)}, video {video.name} starts with {_in_pixels(expected)}"
    return [Fault(finding.frame.image, what, "split the video, or bring its frames to one size")]


def _as_fault(path: Path, error: VssError) -> Fault:
    # The error names the file first; a fault has a place of its own for that.
    what = error.message.replace(f" {path}", "", 1)
    return Fault(path, what, error.hint)


def _mask_remedy(frame: Frame) -> str:
    return f"add mask/{frame.stem}.png to the video, or list the frames that have labels in data.labelled"


def _in_pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"


def _digest(
    videos: Sequence[FolderVideo], table: ClassTable, ids: MaskIds, masks: bool, digests: Digests, talk: Talk
) -> str:
    """SHA-256 of what was asked and of every file's name and content."""
    digest = hashlib.sha256(repr((RULES, table.num_classes, ids, masks)).encode())
    frames = [frame for video in videos for frame in video.frames]
    contents = digests.known((path for frame in frames for path in (frame.image, frame.mask if masks else None)), talk)
    for video in videos:
        for frame in video.frames:
            for path in (frame.image, frame.mask if masks else None):
                content = "none" if path is None else f"{path.name}\0{contents.get(path, 'unreadable')}"
                digest.update(f"{video.name}\0{content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _read_record(path: Path) -> list[str]:
    values = json_or_none(path)
    known = values.get("sound") if isinstance(values, dict) else None
    return [str(digest) for digest in known] if isinstance(known, list) else []
