"""The folder of a report: written beside its place, and moved there when it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vsscli.errors import VssError
from vsscli.files import clear_parts, part_of
from vsscli.inside import Inside, require_folder

MARKER = "vss-report.txt"
"""By this file a folder is known as a report, which may be replaced."""

PAGE, SUMMARY, VIDEOS = "index.html", "summary.json", "videos"

PARTS = frozenset({MARKER, PAGE, SUMMARY, VIDEOS, "report.css", "report.js"})
"""Everything that a report's folder contains; with anything else in it, it is not replaced."""


@contextmanager
def fresh_report(out: Path) -> Iterator[Inside]:
    """An empty folder beside a report's place, which takes that place when the block succeeds.

    If the block fails, it is removed, and an earlier report stays.

    Raises
    ------
    VssError
        The place holds something that is not a report, or the disk refuses.
    """
    require_replaceable(out)
    place = Path(os.path.realpath(out))
    part, old = part_of(place), part_of(place.with_name(f"{place.name}.old"))
    parent = Inside(place.parent)
    try:
        clear_parts(place)
        parent.remove(part)
        parent.make(part)
        inside = Inside(part)
        inside.write(
            part / MARKER, b"This folder was written by vss report, which replaces it as a whole.\n", sync=False
        )
        yield inside
        parent.remove(old)
        if place.exists():
            parent.move_folder(place, old)
        parent.move_folder(part, place)
        parent.remove(old)
    except OSError as cause:
        what = f"report {out} can't be written: {cause.strerror or cause}"
        raise VssError(what, "free some space, or choose another folder with --out") from cause
    finally:
        parent.remove(part)


def require_replaceable(out: Path) -> None:
    """Refuse a place that holds anything but a report.

    Raises
    ------
    VssError
        It does; names what is there.
    """
    require_folder(out, "report")
    there = sorted(entry.name for entry in out.iterdir()) if out.exists() else []
    if there and MARKER not in there:
        raise VssError(f"{out} is a folder of something else: it has {there[0]}", "name another folder with --out")
    strange = [name for name in there if name not in PARTS]
    if strange:
        what = f"{out} is a report in which somebody put {strange[0]}; a report is replaced as a whole"
        raise VssError(what, "move that file elsewhere, or name another folder with --out")
