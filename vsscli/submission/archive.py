"""Writing a submission: every frame of a split in one zip, which is written in full or not at all.

The same labels give the same bytes: entries are sorted by name, with one date and one set of permissions, and the PNGs
are stored without further compression. How they are deflated is in `data.png.encode_label`.

The PNGs are grey, 8 bits, value = class. Palette images, which some public scripts write, have the same values, but
only some readers return these (Pillow does; OpenCV, imageio and torchvision convert to colours). All of them read grey
as class indices.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile, ZipInfo, is_zipfile

import numpy as np

from vsscli.data.masks import describe_values
from vsscli.data.png import encode_label
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import LOCAL, Engine
from vsscli.errors import VssError
from vsscli.evaluation.labels import SizedLabels
from vsscli.files import whole_file
from vsscli.store.files import file_digest
from vsscli.submission.faults import Faults, in_pixels
from vsscli.submission.layout import Layout, entry_fault
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date that a zip can hold."""

PERMISSIONS = stat.S_IFREG | 0o644
UNIX = 3
"""The number by which a zip marks its permissions as those of Unix."""

NAMED = 6
"""Frames that an error names."""


@dataclass(frozen=True)
class Written:
    """A submission: its file, how many videos and frames it holds, its size, and the SHA-256 of its bytes."""

    path: Path
    videos: int
    frames: int
    bytes: int
    sha256: str


def write_submission(
    videos: Sequence[FolderVideo],
    labels: SizedLabels,
    out: Path,
    layout: Layout,
    *,
    engine: Engine = LOCAL,
    talk: Talk = SILENCE,
) -> Written:
    """Write the labels of all frames into a zip.

    Parameters
    ----------
    videos
        The split. Only the sizes of its frames are read; nothing is decoded.
    labels
        Class indices, 0 to C - 1, for every frame, of the frame's size.
    out
        The zip. An existing one is replaced when the new one is complete.
    layout
        Names of the entries and values of the pixels.
    engine
        Where labels are read and encoded. It does not affect the bytes.
    talk
        Receives progress.

    Raises
    ------
    VssError
        Predictions are missing or of another size, which is found before anything is written; a label is not a class;
        ``out`` is a folder or not a zip; or the disk refuses.
    """
    _refuse_other_files(out)
    # By name, regardless of the order in the list, so that equal labels give equal bytes.
    ordered = [_by_name(video) for video in sorted(videos, key=lambda video: video.name)]
    frames = [frame for video in ordered for frame in video.frames]
    for frame in frames:
        fault = entry_fault(layout.entry(frame))
        if fault:
            raise VssError(f"the entry {layout.entry(frame)!r} {fault}", "rename that video or frame")
    require_complete(frames, labels, workers=engine.workers, talk=talk)
    task = _Packing(labels, layout)
    with (
        whole_file(out, "submission") as part,
        closing(engine.map("pack", task, ordered, [len(video.frames) for video in ordered], talk)) as encoded,
        ZipFile(part, "w", ZIP_STORED) as archive,
    ):
        _fill(archive, frames, encoded, layout)
    return Written(out, len(videos), len(frames), out.stat().st_size, file_digest(out))


def _by_name(video: FolderVideo) -> FolderVideo:
    """A video with its frames ordered by the names of their entries, which is not always the order of time."""
    return FolderVideo(video.name, tuple(sorted(video.frames, key=lambda frame: f"{frame.stem}.png")))


def _fill(archive: ZipFile, frames: Sequence[Frame], encoded: Iterable[bytes], layout: Layout) -> None:
    for frame, data in zip(frames, encoded, strict=True):
        info = ZipInfo(layout.entry(frame), DATE)
        info.create_system, info.external_attr = UNIX, PERMISSIONS << 16
        archive.writestr(info, data)


def require_complete(
    frames: Sequence[Frame], labels: SizedLabels, *, workers: int | None = None, talk: Talk = SILENCE
) -> None:
    """Make sure that every frame has a prediction of its size; the error counts those without, and names the first."""
    faults = Faults()
    jobs = (partial(_lacking, frame, labels) for frame in frames)
    with talk.track("check", len(frames)) as advance, closing(results_in_order(jobs, workers)) as findings:
        for frame, (kind, what) in zip(frames, findings, strict=True):
            if kind:
                faults.add(kind, frame.address, what)
            advance(1)
    if faults:
        named = [f"  {fault.entry}: {fault.what}" for fault in faults.listed[:NAMED]]
        more = [f"  … and {len(faults) - NAMED} more"] if len(faults) > NAMED else []
        expected = f"predictions are expected at {labels.place(frames[0].video, frames[0].stem)}"
        head = f"{len(faults)} of {len(frames)} frames can't be submitted: {faults.summary()} ({expected})"
        raise VssError(
            "\n".join([head, *named, *more]),
            "run the predict command again, which adds missing frames; --split names the split to submit",
        )


def _lacking(frame: Frame, labels: SizedLabels) -> tuple[str, str]:
    """Kind and description of what is wrong with a frame's prediction; empty if nothing is."""
    wanted = frame.size
    try:
        there = labels.size(frame.video, frame.stem)
    except VssError as error:
        return "damaged", error.message
    if there is None:
        return "missing", "has no prediction"
    if there != wanted:
        return "of another size", f"the prediction is {in_pixels(there)}, the frame {in_pixels(wanted)}"
    return "", ""


@dataclass(frozen=True)
class _Packing:
    """The task of encoding the labels of some videos; yields the PNG of each frame."""

    labels: SizedLabels
    layout: Layout

    def __call__(self, videos: Sequence[FolderVideo], threads: int, talk: Talk) -> Iterator[bytes]:
        places = ((frame, index) for video in videos for index, frame in enumerate(video.frames))
        jobs = (partial(_encode, frame, index, self.labels, self.layout) for frame, index in places)
        with talk.track("pack", 0) as done, closing(results_in_order(jobs, threads)) as encoded:
            for data in encoded:
                done(1)
                yield data


def _encode(frame: Frame, index: int, labels: SizedLabels, layout: Layout) -> bytes:
    label = labels.label(frame.video, index, frame.stem)
    if label.max() >= layout.num_classes:
        foreign = np.unique(label[label >= layout.num_classes]).tolist()
        raise VssError(
            f"{labels.place(frame.video, frame.stem)} holds {describe_values(foreign)}, "
            f"which is not a class index (0..{layout.num_classes - 1})",
            "every pixel needs a class index, counted from 0; --label-offset shifts the written values",
        )
    return encode_label(label + np.uint8(layout.offset) if layout.offset else label)


def _refuse_other_files(out: Path) -> None:
    if out.is_dir():
        raise VssError(f"--out {out} is a folder", f"name the file: --out {out / 'submission.zip'}")
    if out.is_file() and out.stat().st_size and not is_zipfile(out):
        raise VssError(f"--out {out} exists and is not a zip", "choose another name, or remove it first")
