"""Rewrite the masks of one data set in the classes of another, as a mapping tells.

Masks are written as VSPW's are: class k as value k + 1, everything ignored as 255, with a palette. All cores work;
a file is there whole or not at all; the same call again continues where an earlier one was interrupted.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np

from vsscli.data.folders import some
from vsscli.data.left import PICTURES
from vsscli.data.mapping import FIRST_ID, Mapping, load_mapping
from vsscli.data.masks import UNKNOWN, read_mask, write_mask
from vsscli.data.palettes import legend_of
from vsscli.data.walk import folders_below, kinds, visible
from vsscli.errors import VssError
from vsscli.files import clear_folder, write_text
from vsscli.inside import Inside, require_inside
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk

__all__ = ["Mapping", "RemapReport", "load_mapping", "remap_masks"]

RECORD = "remap.json"
FILES_PER_TASK = 16


@dataclass(frozen=True)
class RemapReport:
    """What a remapping came to, over all masks, those of earlier runs included.

    Parameters
    ----------
    masks, skipped
        Masks in all, and those that an earlier run had finished.
    pixels, kept
        Pixels in all, and those that have a class now.
    counts
        Pixels of every target class that occurs, most frequent first.
    source_classes, kept_classes
        Classes of the source, and those of them that have a class now.
    """

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
class _Job:
    source: Path
    goal: Path


@dataclass(frozen=True)
class _Outcome:
    """Masks done, masks that were there already, and pixels by mask value as written (256,)."""

    masks: int
    skipped: int
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

    The same call again continues where one was interrupted: masks that are there and newer than their source stay.

    Parameters
    ----------
    masks
        Folder of PNG masks; folders in it are kept.
    out
        Folder to write to, with ``remap.json`` in it that says what was written.
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
        No masks, a damaged one, a value that the mapping is silent on, or ``out`` was written from something else.
    """
    masks, out = Path(masks), Path(out)
    files = _mask_files(masks, mapping, talk)
    if out.resolve() == masks.resolve() or masks.resolve() in out.resolve().parents:
        raise VssError(f"--out {out} lies in the folder of masks {masks}", "choose a folder outside of it")
    jobs = [_Job(masks / source, out / goal) for goal, source in files]
    folders = dict.fromkeys(job.goal.parent for job in jobs)
    for folder in folders:
        require_inside(out, folder)
    if force:
        _clear(out, jobs, talk)
    else:
        _refuse_foreign(out, masks, mapping)
    for folder in folders:
        clear_folder(folder, ".png")
    _write_record(out, masks, mapping)
    counts, skipped = np.zeros(256, np.int64), 0
    with talk.track("remap", len(jobs), "mask") as advance:
        for outcome in _run(jobs, mapping, workers or os.cpu_count() or 1):
            counts += outcome.counts
            skipped += outcome.skipped
            advance(outcome.masks)
    if skipped:
        talk.say(f"remap: {skipped} of {len(jobs)} masks were there from an earlier run")
    return _report(len(jobs), skipped, counts, mapping)


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


def _refuse_foreign(out: Path, masks: Path, mapping: Mapping) -> None:
    """Masks that were written by another mapping or from other masks must not be taken for finished ones."""
    if not out.exists():
        return
    if not out.is_dir():
        raise VssError(f"--out {out} is a file", "choose a folder")
    before = _read_record(out / RECORD)
    if before is None:
        if any(not name.startswith(".") for name in os.listdir(out)):
            raise VssError(f"--out {out} holds files that no remapping wrote", "choose another --out, or give --force")
        return
    if not any(path.suffix.lower() == ".png" for path in out.rglob("*")):
        return  # whatever run was here stopped before its first mask
    anew = "choose another --out, or give --force to write everything anew"
    if not _agrees(before, mapping):
        raise VssError(f"--out {out} was written with another mapping ({before.get('mapping')})", anew)
    if before.get("masks") != str(masks.resolve()):
        raise VssError(f"--out {out} was written from other masks ({before.get('masks')})", anew)


def _agrees(before: dict[str, Any], mapping: Mapping) -> bool:
    """Whether masks of an earlier run would come out the same now.

    They do also when lines were added for values on which the mapping was silent: no mask written had any of those.
    """
    targets = before.get("targets")
    if before.get("files", "values") != mapping.files:
        return False
    if before.get("target") != mapping.target.to_dict() or not isinstance(targets, list) or len(targets) != 256:
        return False
    return all(old in (UNKNOWN, new) for old, new in zip(targets, mapping.targets, strict=True))


def _clear(out: Path, jobs: Sequence[_Job], talk: Talk) -> None:
    """Take away what will be written anew, first of all, so that no interrupted run leaves a mixture behind."""
    try:
        inside = Inside(out)
        for job in jobs:
            inside.unlink(job.goal)
    except OSError as cause:
        raise VssError(f"--out {out} can't be cleared: {cause.strerror or cause}", "choose another --out") from cause
    left = sum(path.suffix.lower() == ".png" for path in out.rglob("*")) if out.is_dir() else 0
    if left:
        talk.warn(f"{out} holds {left} PNG files of earlier that these masks do not replace; they stay as they are")


def _write_record(out: Path, masks: Path, mapping: Mapping) -> None:
    """Say in ``out`` what its masks are written from."""
    told = {
        "mapping": mapping.name,
        "masks": str(masks.resolve()),
        "files": mapping.files,
        "targets": mapping.targets,
        "target": mapping.target.to_dict(),
    }
    write_text(out / RECORD, json.dumps(told) + "\n")


def _read_record(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    values = json_or_none(path)
    return values if isinstance(values, dict) else {}  # whatever it was, it is not what is asked for now


def _run(jobs: Sequence[_Job], mapping: Mapping, workers: int) -> Iterator[_Outcome]:
    batches = [jobs[start : start + FILES_PER_TASK] for start in range(0, len(jobs), FILES_PER_TASK)]
    if workers == 1 or len(batches) == 1:
        for batch in batches:
            yield _remap_files(batch, mapping)
        return
    # Processes, because half of the work holds Python's lock; started afresh, because forking a process that has
    # threads (a progress bar's, say) can hang.
    pool = ProcessPoolExecutor(
        min(workers, len(batches)), multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    try:
        running: set[Future[_Outcome]] = set()
        for batch in batches:
            running.add(pool.submit(_remap_files, batch, mapping))
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
    """Leave Ctrl-C to the parent, and end when it is gone: a pool's process that is waiting for work would stay."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        with _writing:  # not in the middle of a file, whose half would stay under its temporary name
            os._exit(1)


def _remap_files(jobs: Sequence[_Job], mapping: Mapping) -> _Outcome:
    palette = mapping.target.palette(FIRST_ID)
    counts, skipped = np.zeros(256, np.int64), 0
    for job in jobs:
        label = _finished(job, mapping)
        skipped += label is not None
        if label is None:
            label = mapping.read(job.source)
            with _writing:
                write_mask(job.goal, label, palette)
        counts += np.bincount(label.ravel(), minlength=256)
    return _Outcome(len(jobs), skipped, counts)


def _finished(job: _Job, mapping: Mapping) -> np.ndarray | None:
    """What an earlier run wrote, if it is newer than its source; a file is there whole or not at all."""
    try:
        if job.goal.stat().st_mtime_ns < mapping.encoding.changed(job.source):
            return None
        return read_mask(job.goal, legend_of(mapping.target, FIRST_ID))
    except (OSError, VssError):
        return None


def _report(masks: int, skipped: int, counts: np.ndarray, mapping: Mapping) -> RemapReport:
    target = mapping.target
    by_class = counts[FIRST_ID : FIRST_ID + target.num_classes]
    order = np.argsort(-by_class, kind="stable")
    occurring = {target.names[k]: int(by_class[k]) for k in order if by_class[k] > 0}
    pixels, kept = int(counts.sum()), int(by_class.sum())
    return RemapReport(masks, skipped, pixels, kept, occurring, len(mapping.classes), mapping.kept)
