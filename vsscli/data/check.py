"""Checking every file of a data set before anything long starts.

Every pixel of every image and mask is decoded, so damage shows now and not after hours of training. All faults are
collected, each with its remedy, and the values of masks are counted. `data.sound` remembers data that was found sound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vsscli.data.census import VALUES, Census
from vsscli.data.left import unread_mask
from vsscli.data.masks import MaskIds, describe_values, noted_first
from vsscli.data.verdict import Meaning, Remark, counted_remedy, judge, unknown_remedy
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

RULES = 5
"""Raised when the checks here get stricter, so that data found sound by an earlier version is checked again."""

NAMED = 3
"""Masks with unknown values are reported one by one up to this number; more are one fault of the split."""


@dataclass(frozen=True)
class FileFault:
    """What is wrong with one file, and what to do about it."""

    path: Path
    what: str
    remedy: str


@dataclass(frozen=True)
class Look:
    """The result of a check: faults in the order of the frames, those of the whole split last; a census of the masks
    that could be read; and remarks that are not faults."""

    faults: tuple[FileFault, ...]
    census: Census
    remarks: tuple[Remark, ...]


class _Finding(NamedTuple):
    frame: Frame
    size: tuple[int, int] | None
    faults: tuple[FileFault, ...]
    values: np.ndarray | None = None  # histogram of the mask
    by_colours: bool = False
    first: int | None = None  # value of class 0 according to the mask, if it differs from the expected one


def check_videos(
    videos: Sequence[FolderVideo],
    meaning: Meaning,
    *,
    masks: bool,
    sparse: bool = False,
    what: str = "the split",
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Look:
    """Decode every frame, and every mask if requested, and collect all faults.

    Parameters
    ----------
    videos
        The videos to check.
    meaning
        The classes, and what the values of masks mean.
    masks
        Whether to check masks.
    sparse
        Whether frames may lack a mask as long as some frame has one; otherwise a missing mask is a fault.
    what
        Name of the videos in messages.
    workers
        Processes, as for `Engine`.
    talk
        Called with the progress, by frame.

    Returns
    -------
    Look
        Its faults are missing, empty, damaged or truncated files, masks that differ in size from their image or have
        unknown values, masks without any labelled pixel, and frames that differ in size from the first of their video.
    """
    meaning.ids.lookup(meaning.table.num_classes)
    faults: list[tuple[int, FileFault]] = []  # with the number of the frame
    sizes: dict[int, tuple[int, int]] = {}  # of the first frame of each video that can be read
    census = Census(frames=sum(len(video) for video in videos))
    strange: list[tuple[int, Path, list[int]]] = []  # masks with unknown values
    bare: list[tuple[int, Frame]] = []
    foreign: list[tuple[int, Path, int]] = []  # masks that say they count classes from another number
    number = 0
    task, lengths = _Looking(meaning.ids, masks), [len(video) for video in videos]
    within = (which for which, length in enumerate(lengths) for _ in range(length))
    with closing(Engine(workers).map("check data", task, videos, lengths, talk)) as looked:
        for which, finding in zip(within, looked, strict=True):
            number, mask = number + 1, finding.frame.mask
            faults += [(number, fault) for fault in finding.faults]
            if mask is not None and finding.values is not None:
                census.count_values(finding.values)
                census.by_colours += finding.by_colours
                unknown = meaning.unknown(Census(pixels=finding.values))
                strange += [(number, mask, unknown)] if unknown and meaning.ids.unknown == "error" else []
            elif mask is not None and finding.first is not None:
                foreign.append((number, mask, finding.first))
            elif masks and mask is None:
                bare.append((number, finding.frame))
            if finding.size is not None:
                expected = sizes.setdefault(which, finding.size)
                faults += [(number, fault) for fault in _odd_size(finding, expected)]
    faults += _unmasked(bare, census, sparse=sparse)
    faults += _foreign(foreign, census, meaning)
    remarks = judge(census, meaning, what)
    if len(strange) <= NAMED:
        faults += [(at, _strange(path, values, census, meaning)) for at, path, values in strange]
        remarks = [said for said in remarks if said.weight != "fault" or not strange]
    faults.sort(key=lambda pair: pair[0])
    place = strange[0][1] if strange else next((f.mask for v in videos for f in v.frames if f.mask), Path())
    of_all = [FileFault(place, said.what, said.remedy) for said in remarks if said.weight == "fault"]
    others = tuple(said for said in remarks if said.weight != "fault")
    return Look((*(fault for _, fault in faults), *of_all), census, others)


def raise_faults(faults: Sequence[FileFault]) -> None:
    """Raise an error that names the first few faults, if there are any."""
    if not faults:
        return
    if len(faults) == 1:
        raise VssError(_in_words(faults[0]), faults[0].remedy)
    shown = [f"  {_in_words(fault)}; {fault.remedy}" for fault in faults[:4]]
    if len(faults) > len(shown):
        shown.append(f"  and {len(faults) - len(shown)} more")
    raise VssError("\n".join([f"{len(faults)} faults in the data", *shown]), "`vss doctor --data ROOT` lists them all")


def _in_words(fault: FileFault) -> str:
    return f"{fault.path}: {fault.what}"


@dataclass(frozen=True)
class _Looking:
    """The task of checking the frames of some videos."""

    ids: MaskIds
    masks: bool

    def __call__(self, videos: Sequence[FolderVideo], threads: int, talk: Talk) -> Iterator[_Finding]:
        jobs = (partial(_look_at, frame, self.ids, self.masks) for video in videos for frame in video.frames)
        with talk.track("check data", 0) as done, closing(results_in_order(jobs, threads)) as looked:
            for finding in looked:
                done(1)
                yield finding


def _look_at(frame: Frame, ids: MaskIds, masks: bool) -> _Finding:
    faults: list[FileFault] = []
    size: tuple[int, int] | None = None
    values: np.ndarray | None = None
    by_colours = False
    if frame.image is None:
        faults.append(
            FileFault(frame.mask or Path(frame.address), "this mask has no image", "add the image, or remove the mask")
        )
    else:
        try:
            size = frame.read().shape[:2]
        except VssError as error:
            faults.append(_as_fault(frame.image, error))
    if masks and frame.mask is not None:
        first = noted_first(frame.mask) if ids.reader is None else None
        if first not in (None, ids.first):
            return _Finding(frame, size, tuple(faults), first=first)
        try:
            raw, by_colours, _ = ids.decode(frame.mask)
        except VssError as error:
            faults.append(_as_fault(frame.mask, error))
        else:
            values = np.bincount(raw.reshape(-1), minlength=VALUES)
            if size is not None and raw.shape != size:
                what = f"the mask is {_in_pixels(raw.shape)}, its image {_in_pixels(size)} (width x height)"
                remedy = "label the image at its own size, or scale the mask with nearest neighbour"
                faults.append(FileFault(frame.mask, what, remedy))
    return _Finding(frame, size, tuple(faults), values, by_colours)


def _strange(path: Path, values: list[int], census: Census, meaning: Meaning) -> FileFault:
    what = f"the mask holds {describe_values(values)}, outside of the {meaning.table.num_classes} classes of"
    return FileFault(
        path, f"{what} {meaning.table.name} ({meaning.ids.first}..{meaning.last})", unknown_remedy(census, meaning)
    )


def _foreign(found: Sequence[tuple[int, Path, int]], census: Census, meaning: Meaning) -> list[tuple[int, FileFault]]:
    """One fault for all masks that say they count classes from another number, like predictions used as labels."""
    if not found:
        return []
    at, path, first = found[0]
    some = f"{len(found)} of {census.masks + len(found)} masks" if len(found) > 1 else "the mask"
    what = f"{some}, by the note of vss in the file, count classes from {first}; data.first_id is {meaning.ids.first}"
    return [(at, FileFault(path, what, counted_remedy(first, meaning)))]


def _unmasked(bare: Sequence[tuple[int, Frame]], census: Census, *, sparse: bool) -> list[tuple[int, FileFault]]:
    """One fault for all frames without a mask: labels are sparse, or a folder is somewhere else."""
    if not bare or (sparse and len(bare) < census.frames):
        return []
    at, first = bare[0]
    path = first.image or Path(first.address)
    if len(bare) == census.frames and len(bare) > 1:
        what = f"none of the {census.frames} frames has a mask; this is the first"
    else:
        have = census.frames - len(bare)
        several = f"{have} of {census.frames} frames have masks; this is the first without"
        what = "the frame has no mask" if len(bare) == 1 else several
    other = unread_mask(first)
    what += "" if other is None else f"; there is only {other.name}, which is not a PNG"
    return [(at, FileFault(path, what, _mask_remedy(first)))]


def _odd_size(finding: _Finding, expected: tuple[int, int]) -> list[FileFault]:
    if finding.frame.image is None or finding.size is None or finding.size == expected:
        return []
    what = (
        f"the frame is {_in_pixels(finding.size)}, the first of video {finding.frame.video} is {_in_pixels(expected)}"
    )
    return [FileFault(finding.frame.image, what, "split the video, or resize its frames to one size")]


def _as_fault(path: Path, error: VssError) -> FileFault:
    # The error names the file, which a fault keeps separately.
    what = error.message.replace(f" {path}", "", 1)
    return FileFault(path, what, error.hint)


def _mask_remedy(frame: Frame) -> str:
    return f"add mask/{frame.stem}.png to the video, or leave the frame out of training (data.labelled)"


def _in_pixels(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
