"""Rewrite the masks of one data set in the classes of another, as a mapping tells.

Masks are written as VSPW's are: class k as value k + 1, everything ignored as 255, with a palette. All cores work,
in threads: what takes the time holds no lock of Python's (468 masks of CamVid, two workers: 7 s; as processes 18 s).
A file is there whole or not at all; the same call again continues where an earlier one was interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from vsscli.errors import VssError
from vsscli.files import clear_folder
from vsscli.inside import require_inside
from vsscli.talk import SILENCE, Talk
from vsscli.threads import results_in_order

__all__ = ["Mapping", "RemapReport", "load_mapping", "remap_masks"]

LOOKED_AT = 16
"""Masks whose values are told where none of all has a class."""


@dataclass(frozen=True)
class RemapReport:
    """What a remapping came to, over all masks, those of earlier runs included: masks in all, and those that an earlier
    run had finished; pixels in all, and those that have a class now; pixels of every target class that occurs, most
    frequent first; classes of the source, and those of them that have a class now."""

    masks: int
    skipped: int
    pixels: int
    kept: int
    counts: dict[str, int]
    source_classes: int
    kept_classes: int

    @property
    def share(self) -> float:
        """Share of the pixels that have a class, 0..1."""
        return self.kept / self.pixels if self.pixels else 0.0

    @property
    def classes(self) -> int:
        """Target classes that occur."""
        return len(self.counts)


class _Outcome(NamedTuple):
    """A mask that is done, what its source held, whether it was there already, or as an earlier version read it, and
    its pixels by value (256,)."""

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

    The same call again continues where one was interrupted: masks whose source holds what it held stay.

    Parameters
    ----------
    masks
        Folder of PNG masks; folders in it are kept.
    out
        Folder to write to, with ``remap.json`` and ``remap.sources`` in it that say what was written.
    mapping
        What becomes of each value.
    force
        Write everything anew, whatever ``out`` holds. Files in it that these masks do not replace stay.
    workers
        Threads; none: one per core.
    talk
        Hears of progress.

    Returns
    -------
    RemapReport
        Shares of pixels and classes kept.

    Raises
    ------
    VssError
        No masks, a damaged one, a value that the mapping is silent on, ``out`` was written from something else, or no
        pixel has a class in the end.
    """
    masks, out = Path(masks), Path(out)
    files = _mask_files(masks, mapping, talk)
    if out.resolve() == masks.resolve() or masks.resolve() in out.resolve().parents:
        raise VssError(f"--out {out} lies in the folder of masks {masks}", "choose a folder outside of it")
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
        talk.track("remap", len(jobs), "mask") as advance,
        closing(results_in_order((partial(_remap, job, mapping, out) for job in jobs), workers)) as outcomes,
    ):
        for outcome in outcomes:
            made_before = outcome.job.made_of
            if outcome.held != made_before:
                # After the mask: of what is not noted, times tell (`finished`).
                sources.write(source_line(outcome.job.goal.relative_to(out), outcome.held))
                sources.flush()
            counts += outcome.counts
            skipped += outcome.skipped
            again += made_before not in ("", outcome.held)
            otherwise += outcome.otherwise
            advance(1)
    if rules != RULES:
        write_remap(out, masks, mapping)
    if otherwise:
        talk.warn(
            f"remap: {otherwise} of {len(jobs)} masks were written again: an earlier version took what their source "
            "stores for values, though a program that makes PNGs smaller had numbered its palette anew, or turned it"
        )
    if again:
        talk.say(f"remap: {again} of {len(jobs)} masks were written again: their source holds something else now")
    if skipped:
        talk.say(f"remap: {skipped} of {len(jobs)} masks were there from an earlier run")
    report = _report(len(jobs), skipped, counts, mapping)
    if not report.kept and any(index < UNKNOWN for index in mapping.targets):
        raise _nothing_kept(jobs, mapping)
    return report


def _nothing_kept(jobs: Sequence[MaskJob], mapping: Mapping) -> VssError:
    """What to say where no pixel has a class: which values there are, which the mapping speaks of."""
    census = Census()
    for job in jobs[:LOOKED_AT]:
        census.count(mapping.encoding.read(job.source))
    spoken = [value for value, index in enumerate(mapping.targets) if index < UNKNOWN]
    return VssError(
        f"no pixel of {len(jobs)} masks has a class of {mapping.target.name}: the first hold "
        f"{describe_values(census.values)}, mapping {mapping.name} makes classes of {describe_values(spoken)}",
        "say in its `map:` which class each value of the masks is, or give the masks that it is for",
    )


def _mask_files(masks: Path, mapping: Mapping, talk: Talk) -> list[tuple[Path, Path]]:
    """All masks below a folder, what they become and what they are, relative to it; see `folders_below`."""
    if not masks.is_dir():
        raise VssError(f"folder of masks {masks} is not there", "check the path")
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
        left = f" ({kinds(pictures)} lie there)" if pictures else ""
        raise VssError(f"folder {masks} holds {what}{left}", "give the folder whose sub-folders hold them")
    if others:
        talk.warn(f"remap: files that are no PNGs are left out of {masks}: {kinds(others)}")
    if folders.again:
        links = some([str(link) for link in folders.again])
        talk.warn(f"remap: {masks}: {links} left out, links to what is read already")
    return files


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
