"""Checks before anything runs: nothing that stages need is missing, and nothing is scored that was trained on."""

from __future__ import annotations

from collections.abc import Sequence

from vsscli.data.sound import check_once
from vsscli.errors import VssError
from vsscli.stages.job import Job
from vsscli.stages.key import Frames
from vsscli.stages.kind import Reads


def missing(job: Job, names: Sequence[str], frames: Frames, *, drawing: bool = True) -> list[str]:
    """Missing data, class tables and files of weights that stages need, with where to get them.

    Without ``drawing``, missing drawn videos are neither drawn nor listed.
    """
    found: dict[str, list[str]] = {}
    hints: dict[str, str] = {}
    for name in names:
        for one in job.kind(name).reads():
            if one.data.scene is not None and not drawing:
                continue
            try:
                frames.open(one.data, one.split)
            except VssError as error:
                # Recipes of one data set may give different hints; one of them is enough.
                found.setdefault(error.message, []).append(name)
                hints.setdefault(error.message, f": {error.hint}" if error.hint else "")
        for what in job.kind(name).lacks():
            found.setdefault(what, []).append(name)
    return [f"{what}{hints.get(what, '')} (for {', '.join(dict.fromkeys(names))})" for what, names in found.items()]


def refuse_missing(job: Job, names: Sequence[str], frames: Frames) -> None:
    """Raise an error that names everything that is `missing`."""
    found = missing(job, names, frames)
    if found:
        lines = [f"pipeline {job.pipeline.name} can't run, something is missing", *(f"  {line}" for line in found)]
        raise VssError("\n".join(lines), "provide it, and run the same command again")


def require_sound(job: Job, names: Sequence[str], frames: Frames) -> None:
    """Check every file of the data that stages read, before the first of them runs.

    Raises an error if files are damaged or missing, or if masks to train on or to score have no labels. Data that was
    found sound is recorded in `Job.checked`, which training reads too.
    """
    wanted: dict[tuple[str, str], Reads] = {}
    for one in (one for name in names for one in job.kind(name).reads()):
        key = (one.data.model_dump_json(), one.split)
        wanted[key] = one._replace(masks=one.masks or (key in wanted and wanted[key].masks))
    for _, data, split, masks in wanted.values():
        dataset, videos = frames.open(data, split)
        check_once(
            videos,
            dataset.meaning,
            masks=masks,
            sparse=masks and split != "labelled",
            record=job.checked,
            what=f"split {split!r} of {data.name}",
            digests=frames.files,
            talk=job.context.talk,
        )
    frames.files.save()


def refuse_leaks(job: Job, names: Sequence[str]) -> None:
    """Raise an error if a split is scored that a network behind it was trained on, or a held-out one is trained on."""
    found = list(dict.fromkeys(leak for name in names for leak in job.kind(name).leaks()))
    if found:
        lines = [f"pipeline {job.pipeline.name} would score what it was trained on", *(f"  {line}" for line in found)]
        raise VssError("\n".join(lines), "set `holdout` to the split, or score another one")
