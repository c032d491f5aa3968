"""Checking a submission as a server would, without trusting it: nothing is unpacked to disk.

Any zip is treated as a stranger's file. Names are checked first. Claimed sizes are compared with what a label image can
need before anything is inflated, and inflating stops at that bound.
"""

from __future__ import annotations

import io
import stat
import struct
import zlib
from collections.abc import Container, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

import numpy as np

from vsscli.data.masks import describe_values
from vsscli.data.palettes import Legend, read_palette
from vsscli.data.png import SIGNATURE, parse_png
from vsscli.data.spelling import composed, respelled
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.submission.faults import EntryFault, Faults, in_pixels
from vsscli.submission.layout import Layout, entry_fault
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

ENCRYPTED = 0x1
"""Bit of an entry's flags."""

NAME_BYTES = 1024
SPARE_BYTES = 16 * 2**20
"""Most bytes of a zip's list of entries: for each frame, and in addition."""

END_BYTES = 2**17
"""A zip is recognised by the record at its end, which has at most 65,557 bytes."""


@dataclass(frozen=True)
class Checked:
    """The result of a check: frames of the split; files in the zip, and its size; classes that occur in the sound
    frames; the number of faults by kind, the first of each kind, and a hint at their cause."""

    path: Path
    frames: int
    entries: int
    bytes: int
    classes: int
    counts: dict[str, int]
    faults: tuple[EntryFault, ...]
    hint: str

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.counts

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "ok": self.ok,
            "file": str(self.path),
            "frames": self.frames,
            "entries": self.entries,
            "bytes": self.bytes,
            "classes": self.classes,
            "counts": self.counts,
            "faults": [fault.to_json() for fault in self.faults],
        }


@dataclass(frozen=True)
class _Finding:
    """What is wrong with an entry, or its pixel counts by value (256,)."""

    kind: str = ""
    what: str = ""
    values: np.ndarray | None = None


def check_submission(
    path: Path,
    videos: Sequence[FolderVideo],
    layout: Layout,
    *,
    legend: Legend | None = None,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Checked:
    """Compare a zip with its split.

    Parameters
    ----------
    path
        The zip.
    videos
        The split; only the sizes of its frames are read.
    layout
        The expected names and values.
    legend
        The colours of these values, if known, to detect a renumbered palette.
    workers
        Threads that inflate and decode; `None`: one per core.
    talk
        Receives progress.

    Raises
    ------
    VssError
        The file is not a readable zip, or a frame of the split is damaged. All other faults are in the result.
    """
    faults = Faults()
    wanted = {layout.entry(frame): frame for video in videos for frame in video.frames}
    with _opened(path, NAME_BYTES * len(wanted) + SPARE_BYTES) as archive:
        size = path.stat().st_size
        infos = archive.infolist()
        there = _look_at_names(infos, wanted, size, faults)
        for entry in wanted:
            if entry not in there:
                faults.add("missing", entry, "is not in the zip")
        pixels = np.zeros(256, np.int64)
        foreign: set[int] = set()
        jobs = (partial(_check_entry, archive, info, wanted[name], layout, legend) for name, info in there.items())
        with talk.track("check", len(there)) as advance, closing(results_in_order(jobs, workers)) as findings:
            for name, finding in zip(there, findings, strict=True):
                if finding.values is not None:
                    pixels += finding.values
                    foreign.update(layout.foreign(finding.values))
                if finding.kind:
                    faults.add(finding.kind, name, finding.what)
                advance(1)
    classes = int((pixels[layout.offset : layout.last + 1] > 0).sum())
    hint = _hint(infos, wanted, foreign, layout) if faults else ""
    entries = sum(not info.orig_filename.endswith("/") for info in infos)
    return Checked(path, len(wanted), entries, size, classes, dict(faults.counts), tuple(faults.listed), hint)


def _look_at_names(infos: Sequence[ZipInfo], wanted: dict[str, Frame], size: int, faults: Faults) -> dict[str, ZipInfo]:
    """The entries for frames of the split, each once, in the order of the split; all others are faults."""
    found: dict[str, ZipInfo] = {}
    spelled = respelled(wanted)
    packed = sum(info.compress_size for info in infos)
    if packed > size:
        faults.add("bomb", "", f"the entries claim {packed} packed bytes, the whole file has {size}: they overlap")
    for info in infos:
        name = info.orig_filename  # `filename` is cut at a null byte
        fault = entry_fault(name.removesuffix("/"))
        if fault:
            faults.add("path", name, fault)
        elif stat.S_ISLNK(info.external_attr >> 16):
            faults.add("path", name, "is a symbolic link")
        elif name.endswith("/"):
            continue  # folders, as most programs that pack a folder write them
        elif name in found:
            faults.add("duplicate", name, "is in the zip more than once")
        elif name not in wanted:
            other = "" if name.isascii() or composed(name) not in spelled else "; one differs only in Unicode form"
            faults.add("surplus", name, f"is not a frame of the split ({info.file_size} bytes){other}")
        else:
            found[name] = info
    return {name: found[name] for name in wanted if name in found}


def _check_entry(archive: ZipFile, info: ZipInfo, frame: Frame, layout: Layout, legend: Legend | None) -> _Finding:
    """Check the entry of a frame."""
    size = frame.size
    # Most bytes of a label image as PNG: twice its uncompressed pixels, and 64 KiB of palette and notes.
    limit = 2 * size[0] * (1 + size[1]) + 2**16
    if info.file_size > limit or info.compress_size > limit:
        claimed = max(info.file_size, info.compress_size)
        return _Finding("bomb", f"claims {claimed} bytes, a label image of {in_pixels(size)} has at most {limit}")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return _Finding("packing", f"is packed by method {info.compress_type}, not stored (0) or deflated (8)")
    if info.flag_bits & ENCRYPTED:
        return _Finding("packing", "is encrypted")
    try:
        with archive.open(info) as file:
            data = file.read(limit + 1)
    except (BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError, zlib.error) as cause:
        return _Finding("damaged", f"can't be unpacked: {cause or type(cause).__name__}")
    if len(data) != info.file_size:
        return _Finding("damaged", f"unpacks to {len(data)} bytes instead of {info.file_size}")
    if not data.startswith(SIGNATURE):
        return _Finding("mode", "is not a PNG")
    try:
        png = parse_png(data)
        if png.depth != 8 or png.colour not in (0, 3):
            return _Finding("mode", f"is a {png.mode} PNG, not one of 8-bit class indices")
        if (png.height, png.width) != size:
            there = in_pixels((png.height, png.width))
            return _Finding("size", f"is {there}, its frame is {in_pixels(size)} (width x height)")
        label = png.numbers()  # the stored values, which servers read
    except Exception as cause:  # damaged data can make a decoder raise almost anything
        return _Finding("damaged", f"does not decode: {cause or type(cause).__name__}")
    if png.palette and png.colour == 3:
        try:
            meant = read_palette(label, png.palette, png.alpha, legend, "it")
        except VssError as error:
            return _Finding("values", error.message.removeprefix("it "))
        if not np.array_equal(meant, label):
            return _Finding("values", "has a renumbered palette, but a server reads the numbers")
    values = np.bincount(label.ravel(), minlength=256)
    foreign = layout.foreign(values)
    if foreign:
        return _Finding("values", f"holds {describe_values(foreign)}, outside {layout.offset}..{layout.last}", values)
    return _Finding(values=values)


def _hint(infos: Sequence[ZipInfo], wanted: Container[str], foreign: set[int], layout: Layout) -> str:
    """A likely cause of the faults: the two things in which servers differ."""
    for info in infos:
        name = info.orig_filename
        if name in wanted:
            break
        *folders, video, file = ["", *name.split("/")][-99:]
        entry = layout.entry(Frame(video, file.removesuffix(".png"), None))
        if entry_fault(name) or not name.endswith(".png") or entry not in wanted:
            continue
        folder = "/".join(folders).removeprefix("/")
        if folder:
            return f"the videos are in a folder of the zip; if the server wants that, add --prefix {folder}"
        return f"the videos are not in {layout.prefix}; leave --prefix out if the server wants that"
    if foreign == {layout.last + 1}:
        shifted = layout.offset + 1
        return f"values seem to count from {shifted}; if the server wants that, add --label-offset {shifted}"
    if foreign and max(foreign) < layout.offset:
        return "values seem to count from 0; leave --label-offset out if the server wants that"
    return "pack it again with `vss submit`, from predictions of every frame of the split"


class _Wary(io.BufferedReader):
    """A file that refuses reads of more than ``limit`` bytes, because a zip may claim any length for its list of
    entries."""

    def __init__(self, path: Path, limit: int) -> None:
        super().__init__(io.FileIO(path))
        self.limit: int | None = limit

    def read(self, size: int | None = -1, /) -> bytes:
        if self.limit is None:
            return super().read(size)
        if size is not None and size > self.limit:
            raise BadZipFile(f"its list of entries takes {size} bytes, for this split at most {self.limit}")
        return super().read(END_BYTES if size is None or size < 0 else size)


@contextmanager
def _opened(path: Path, limit: int) -> Iterator[ZipFile]:
    if path.is_dir():
        raise VssError(f"submission {path} is a folder", "name the zip that was made of it")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_Wary(path, limit))
            archive = stack.enter_context(ZipFile(file))
        except OSError as cause:
            raise VssError(f"submission {path} can't be read: {cause.strerror or cause}", "check the path") from cause
        except (BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error) as cause:
            raise VssError(f"submission {path} is not a readable zip: {cause}", "pack or copy it again") from cause
        file.limit = None
        yield archive
