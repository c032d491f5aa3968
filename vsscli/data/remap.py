"""Rewrite the masks of one data set in the classes of another, as a mapping tells.

Masks are written as VSPW's are: class k as value k + 1, everything ignored as 255, with a palette. All cores work;
a file is there whole or not at all; the same call again continues where an earlier one was interrupted.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread

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
from vsscli.data.workers import SIGNALS, in_peace_no_more, start_tracker, started_in_peace
from vsscli.errors import VssError
from vsscli.files import clear_folder
from vsscli.inside import require_inside
from vsscli.talk import SILENCE, Talk

__all__ = ["Mapping", "RemapReport", "load_mapping", "remap_masks"]

FILES_PER_TASK = 16

PATIENCE = 3.0
"""Seconds that a process which is asked to end gives the one that started it to say so itself."""


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


@dataclass(frozen=True)
class _Outcome:
    """Masks done with what their sources held, masks that were there already, those that an earlier version read
    otherwise, and pixels by mask value (256,)."""

    done: tuple[tuple[MaskJob, str], ...]
    skipped: int
    otherwise: int
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
        Processes; none: one per core.
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
    ):
        for outcome in _run(jobs, mapping, out, workers or os.cpu_count() or 1):
            # After the masks: of what is not noted, times tell (`finished`).
            sources.writelines(
                source_line(job.goal.relative_to(out), held) for job, held in outcome.done if held != job.made_of
            )
            sources.flush()
            counts += outcome.counts
            skipped += outcome.skipped
            again += sum(job.made_of not in ("", held) for job, held in outcome.done)
            otherwise += outcome.otherwise
            advance(len(outcome.done))
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
    for job in jobs[:FILES_PER_TASK]:
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


def _run(jobs: Sequence[MaskJob], mapping: Mapping, out: Path, workers: int) -> Iterator[_Outcome]:
    batches = [jobs[start : start + FILES_PER_TASK] for start in range(0, len(jobs), FILES_PER_TASK)]
    if workers == 1 or len(batches) == 1:
        for batch in batches:
            yield _remap_files(batch, mapping, out)
        return
    # Processes, because half of the work holds Python's lock; started afresh, because forking a process that has
    # threads (a progress bar's, say) can hang.
    start_tracker()
    with started_in_peace():
        pool = ProcessPoolExecutor(
            min(workers, len(batches)), multiprocessing.get_context("spawn"), initializer=_start_worker
        )
    try:
        running: set[Future[_Outcome]] = set()
        for batch in batches:
            with started_in_peace():
                running.add(pool.submit(_remap_files, batch, mapping, out))
            if len(running) >= 4 * workers:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in running)
    except BrokenProcessPool as cause:
        raise VssError(
            "a process that remaps masks was killed or could not start",
            "run again with fewer workers, it continues; a script calls this under `if __name__ == '__main__':`",
        ) from cause
    finally:
        pool.shutdown(cancel_futures=True)


_writing = Lock()


def _start_worker() -> None:
    """Leave signals to the parent, and end when it is gone: a pool's process that is waiting for work would stay.

    SIGTERM reaches all processes of a job, and the parent must be the first to end; the pool itself sends it to what is
    left when one of its processes died. So it counts after a while.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: Thread(target=_end_soon, daemon=True).start())
    in_peace_no_more()
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        _end()


def _end_soon() -> None:
    time.sleep(PATIENCE)
    _end()


def _end() -> None:
    with _writing:  # not in the middle of a file, whose half would stay under its temporary name
        os._exit(1)


def _remap_files(jobs: Sequence[MaskJob], mapping: Mapping, out: Path) -> _Outcome:
    palette = mapping.target.palette(FIRST_ID)
    counts, skipped, otherwise = np.zeros(256, np.int64), 0, 0
    digests, done = Digests(), []
    for job in jobs:
        held = digest_of_frames(digests.of_all(mapping.parts(job.source)))
        label = finished(job, mapping, held)
        skipped += label is not None
        if label is None:
            otherwise += job.doubted and job.made_of in ("", held) and job.goal.exists()
            if job.made_of not in ("", held) and job.goal.exists():
                before_writing(out, job)
            label = mapping.read(job.source)
            with _writing:
                write_mask(job.goal, label, palette, FIRST_ID)
        done.append((job, held))
        counts += np.bincount(label.ravel(), minlength=256)
    return _Outcome(tuple(done), skipped, otherwise, counts)


def _report(masks: int, skipped: int, counts: np.ndarray, mapping: Mapping) -> RemapReport:
    target = mapping.target
    by_class = counts[FIRST_ID : FIRST_ID + target.num_classes]
    order = np.argsort(-by_class, kind="stable")
    occurring = {target.names[k]: int(by_class[k]) for k in order if by_class[k] > 0}
    pixels, kept = int(counts.sum()), int(by_class.sum())
    return RemapReport(masks, skipped, pixels, kept, occurring, len(mapping.classes), mapping.kept)
