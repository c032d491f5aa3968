"""Rewriting the masks of one data set in the classes of another, by a mapping.

Masks are written like VSPW's: class k as value k + 1, everything ignored as 255, with a palette. All cores work, in
threads, since most of the time is spent without Python's lock (468 masks of CamVid, two workers: 7 s; as processes
18 s). Files are written atomically; the same call again continues an interrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vsscli.data.census import Census
from vsscli.data.content import Digests, digest_of_frames
from vsscli.data.folders import some
from vsscli.data.left import PICTURES
from vsscli.data.mapping import FIRST_ID, Mapping, load_mapping
from vsscli.data.masks import UNKNOWN, describe_values, write_mask
from vsscli.data.remapped import (
    RULES,
    SOURCES,
    MaskJob,
    before_writing,
    clear,
    finished,
    read_sources,
    refuse_foreign,
    source_line,
    write_remap,
    written_by,
)
from vsscli.data.walk import folders_below, kinds, visible
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.files import clear_folder
from vsscli.inside import require_inside
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

__all__ = ["Mapping", "RemapReport", "load_mapping", "remap_masks"]

EXAMPLES = 16
"""Number of masks whose values are reported if no mask has a class."""


@dataclass(frozen=True)
class RemapReport:
    """The result of a remapping over all masks, including those of earlier runs: the number of masks, and of those that
    an earlier run had finished; of pixels, and of those with a class; pixels of every target class that occurs, most
    frequent first; the number of the source's classes, and of those with a target class."""

    masks: int
    skipped: int
    pixels: int
    kept: int
    counts: dict[str, int]
    source_classes: int
    kept_classes: int

    @property
    def share(self) -> float:
        """Share of the pixels with a class, in [0, 1]."""
        return self.kept / self.pixels if self.pixels else 0.0

    @property
    def classes(self) -> int:
        """Number of target classes that occur."""
        return len(self.counts)


class _Outcome(NamedTuple):
    """A finished mask, the digest of its source, whether an earlier run had written it, whether it was written again
    because an earlier version read the source differently, and its pixels by value (256,)."""

    job: MaskJob
    held: str
    skipped: bool
    otherwise: bool
    counts: np.ndarray


def remap_masks(
    masks: Path,
    out: Path,
    mapping: Mapping,
    *,
    force: bool = False,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> RemapReport:
    """Rewrite a folder of masks.

    The same call again continues an interrupted one: masks whose source has not changed are kept.

    Parameters
    ----------
    masks
        Folder of PNG masks; its folders are recreated in ``out``.
    out
        Folder to write to, with ``remap.json`` and ``remap.sources``, which record what was written.
    mapping
        The target of each value.
    force
        Write everything again, whatever ``out`` holds. Files in it that these masks do not replace are kept.
    workers
        Processes, as for `Engine`.
    talk
        Called with the progress, by mask.

    Returns
    -------
    RemapReport
        Numbers of pixels and classes kept.

    Raises
    ------
    VssError
        There are no masks, a mask is damaged or has a value that the mapping does not mention, ``out`` was written from
        something else, or no pixel of the result has a class.
    """
    masks, out = Path(masks), Path(out)
    files = _mask_files(masks, mapping, talk)
    if out.resolve() == masks.resolve() or masks.resolve() in out.resolve().parents:
        raise VssError(f"--out {out} is in the folder of masks {masks}", "choose a folder outside of it")
    made_of, rules = ({}, RULES) if force else (read_sources(out), written_by(out))
    jobs = [
        MaskJob(masks / source, out / goal, made_of.get(goal.as_posix(), ""), rules != RULES) for goal, source in files
    ]
    folders = dict.fromkeys(job.goal.parent for job in jobs)
    for folder in folders:
        require_inside(out, folder)
    if force:
        clear(out, jobs, talk)
    else:
        refuse_foreign(out, masks, mapping)
    for folder in folders:
        clear_folder(folder, ".png")
    write_remap(out, masks, mapping, rules)
    counts, skipped, again, otherwise = np.zeros(256, np.int64), 0, 0, 0
    with (
        (out / SOURCES).open("a", encoding="utf-8", errors="surrogateescape") as sources,
        closing(
            Engine(workers).map("remap", _Remapping(mapping, out), jobs, [1] * len(jobs), talk, unit="mask")
        ) as outcomes,
    ):
        for outcome in outcomes:
            made_before = outcome.job.made_of
            if outcome.held != made_before:
                # After the mask: if its source is not recorded, times decide (`finished`).
                sources.write(source_line(outcome.job.goal.relative_to(out), outcome.held))
                sources.flush()
            counts += outcome.counts
            skipped += outcome.skipped
            again += made_before not in ("", outcome.held)
            otherwise += outcome.otherwise
    if rules != RULES:
        write_remap(out, masks, mapping)
    if otherwise:
        talk.warn(
            f"remap: {otherwise} of {len(jobs)} masks were written again: an earlier version read their source "
            "differently, whose palette an optimiser of PNGs has renumbered, or which is stored turned"
        )
    if again:
        talk.say(f"remap: {again} of {len(jobs)} masks were written again: their source has changed")
    if skipped:
        talk.say(f"remap: {skipped} of {len(jobs)} masks were kept from an earlier run")
    report = _report(len(jobs), skipped, counts, mapping)
    if not report.kept and any(index < UNKNOWN for index in mapping.targets):
        raise _nothing_kept(jobs, mapping)
    return report


def _nothing_kept(jobs: Sequence[MaskJob], mapping: Mapping) -> VssError:
    """The error if no pixel has a class: which values occur, and which the mapping has classes for."""
    census = Census()
    for job in jobs[:EXAMPLES]:
        census.count(mapping.encoding.read(job.source))
    mapped = [value for value, index in enumerate(mapping.targets) if index < UNKNOWN]
    return VssError(
        f"no pixel of {len(jobs)} masks has a class of {mapping.target.name}: the first ones hold "
        f"{describe_values(census.values)}, mapping {mapping.name} has classes for {describe_values(mapped)}",
        "give the class of each value of these masks in its `map:`, or give the masks that it is for",
    )


def _mask_files(masks: Path, mapping: Mapping, talk: Talk) -> list[tuple[Path, Path]]:
    """All masks below a folder: the path to write and the path to read, relative to it; see `folders_below`."""
    if not masks.is_dir():
        raise VssError(f"folder of masks {masks} does not exist", "check the path")
    files: list[tuple[Path, Path]] = []
    pictures: list[str] = []
    folders = folders_below(masks)
    for here in folders.there:
        names = [path.name for path in visible(masks / here) if not path.is_dir()]
        files += [(here / goal, here / name) for goal, name in mapping.masks(names).items()]
        pictures += [name for name in names if Path(name).suffix.lower() in PICTURES]
    others = [name for name in pictures if not name.lower().endswith(".png")]
    if not files:
        what = f"no masks of {mapping.name}" if len(others) < len(pictures) else "no PNG masks"
        left = f", only {kinds(pictures)}" if pictures else ""
        raise VssError(f"folder {masks} holds {what}{left}", "give the folder that holds them or their folders")
    if others:
        talk.warn(f"remap: {masks}: files that are not PNGs are left out: {kinds(others)}")
    if folders.again:
        links = some([str(link) for link in folders.again])
        talk.warn(f"remap: {masks}: {links} left out, links to what is already read")
    return files


@dataclass(frozen=True)
class _Remapping:
    """The task of rewriting some masks."""

    mapping: Mapping
    out: Path

    def __call__(self, jobs: Sequence[MaskJob], threads: int, talk: Talk) -> Iterator[_Outcome]:
        outcomes = results_in_order((partial(_remap, job, self.mapping, self.out) for job in jobs), threads)
        with talk.track("remap", 0, "mask") as done, closing(outcomes):
            for outcome in outcomes:
                done(1)
                yield outcome


def _remap(job: MaskJob, mapping: Mapping, out: Path) -> _Outcome:
    held = digest_of_frames(Digests().of_all(mapping.parts(job.source)))
    label = finished(job, mapping, held)
    skipped, otherwise = label is not None, False
    if label is None:
        otherwise = job.doubted and job.made_of in ("", held) and job.goal.exists()
        if job.made_of not in ("", held) and job.goal.exists():
            before_writing(out, job)
        label = mapping.read(job.source)
        write_mask(job.goal, label, mapping.target, FIRST_ID)
    return _Outcome(job, held, skipped, otherwise, np.bincount(label.ravel(), minlength=256))


def _report(masks: int, skipped: int, counts: np.ndarray, mapping: Mapping) -> RemapReport:
    target = mapping.target
    by_class = counts[FIRST_ID : FIRST_ID + target.num_classes]
    order = np.argsort(-by_class, kind="stable")
    occurring = {target.names[k]: int(by_class[k]) for k in order if by_class[k] > 0}
    pixels, kept = int(counts.sum()), int(by_class.sum())
    return RemapReport(masks, skipped, pixels, kept, occurring, len(mapping.classes), mapping.kept)
