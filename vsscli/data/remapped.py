"""The record in a folder of remapped masks: how it was written, and the digest of each mask's source.

``remap.json`` names mapping and masks; ``remap.sources`` has a line for each mask. So masks of another mapping are not
taken for finished ones, nor those whose source has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.data.content import DIGITS
from vsscli.data.mapping import FIRST_ID, Mapping
from vsscli.data.masks import UNKNOWN, decode_mask, read_mask
from vsscli.data.palettes import legend_of
from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.inside import Inside
from vsscli.structured import json_or_none, parse_json
from vsscli.talk import Talk

RECORD = "remap.json"
SOURCES = "remap.sources"
"""In the folder of masks: a line for each, with the digest of its source and its name."""

RULES = 2
"""Raised when sources are read differently. 2: by the colours of renumbered palettes, upright, complete."""

BEING_WRITTEN = "0" * DIGITS
"""In place of a source's digest while its mask is being written again."""


@dataclass(frozen=True)
class MaskJob:
    """A mask to write. ``made_of`` is the recorded digest of the source of the existing mask, if any. ``doubted``: the
    existing mask may be from a version that read its source differently."""

    source: Path
    goal: Path
    made_of: str = ""
    doubted: bool = False


def refuse_foreign(out: Path, masks: Path, mapping: Mapping) -> None:
    """Refuse a folder of masks that were written with another mapping or from other masks."""
    if not out.exists():
        return
    if not out.is_dir():
        raise VssError(f"--out {out} is a file", "choose a folder")
    before = read_remap(out / RECORD)
    if before is None:
        if any(not name.startswith(".") for name in os.listdir(out)):
            raise VssError(f"--out {out} holds files that vss remap did not write", "give another --out, or --force")
        return
    if not any(path.suffix.lower() == ".png" for path in out.rglob("*")):
        return  # the earlier run stopped before its first mask
    anew = "choose another --out, or give --force to write everything again"
    if not _agrees(before, mapping):
        raise VssError(f"--out {out} was written with another mapping ({before.get('mapping')})", anew)
    if before.get("masks") != str(masks.resolve()):
        raise VssError(f"--out {out} was written from other masks ({before.get('masks')})", anew)


def _agrees(before: dict[str, Any], mapping: Mapping) -> bool:
    """Whether the masks of an earlier run would be the same now.

    That is so even if lines were added for values that the mapping did not mention: no written mask had any of those.
    """
    targets = before.get("targets")
    if before.get("files", "values") != mapping.files:
        return False
    if before.get("target") != mapping.target.to_dict() or not isinstance(targets, list) or len(targets) != 256:
        return False
    return all(old in (UNKNOWN, new) for old, new in zip(targets, mapping.targets, strict=True))


def clear(out: Path, jobs: Sequence[MaskJob], talk: Talk) -> None:
    """Remove everything that will be written again, so that an interrupted run leaves no mixture."""
    try:
        inside = Inside(out)
        for job in jobs:
            inside.unlink(job.goal)
        inside.unlink(out / SOURCES)
    except OSError as cause:
        raise VssError(f"--out {out} can't be cleared: {cause.strerror or cause}", "choose another --out") from cause
    left = sum(path.suffix.lower() == ".png" for path in out.rglob("*")) if out.is_dir() else 0
    if left:
        talk.warn(f"{out} holds {left} older PNG files that these masks do not replace; they are kept")


def written_by(out: Path) -> int:
    """The rules by which the existing masks were read; `RULES` if there are none."""
    before = read_remap(out / RECORD)
    rules = RULES if before is None else before.get("rules", 1)
    return rules if isinstance(rules, int) else 1


def write_remap(out: Path, masks: Path, mapping: Mapping, rules: int = RULES) -> None:
    """Record in ``out`` what its masks are written from, and the rules of the oldest of them."""
    values = {
        "rules": rules,
        "mapping": mapping.name,
        "masks": str(masks.resolve()),
        "files": mapping.files,
        "targets": mapping.targets,
        "target": mapping.target.to_dict(),
    }
    write_text(out / RECORD, json.dumps(values) + "\n")


def read_remap(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    values = json_or_none(path)
    return values if isinstance(values, dict) else {}  # a damaged record matches nothing


def source_line(goal: Path, held: str) -> str:
    return f"{held} {json.dumps(goal.as_posix())}\n"


def before_writing(out: Path, job: MaskJob) -> None:
    """Record that a mask is about to be replaced, so that it is not taken for finished until `source_line` follows."""
    with (out / SOURCES).open("a", encoding="utf-8", errors="surrogateescape") as sources:
        sources.write(source_line(job.goal.relative_to(out), BEING_WRITTEN))


def read_sources(out: Path) -> dict[str, str]:
    """The recorded digests of the masks' sources, by the masks' names; the last line of a name counts."""
    found: dict[str, str] = {}
    try:
        with (out / SOURCES).open(encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            for line in file:
                held, _, name = line.partition(" ")
                if len(held) == DIGITS and name.endswith("\n"):  # a kill may have cut off the last line
                    found[parse_json(name, SOURCES)] = held
    except (OSError, VssError, TypeError):
        return {}
    return found


def finished(job: MaskJob, mapping: Mapping, held: str) -> np.ndarray | None:
    """The mask that an earlier run wrote, if its source has not changed; files are written atomically.

    If the source's digest was not recorded, a mask counts if it is newer than the last change of its source's content
    and status.
    """
    try:
        if job.made_of not in ("", held):
            return None
        times = [os.stat(path) for path in mapping.parts(job.source)]
        if not job.made_of and job.goal.stat().st_mtime_ns < max(max(t.st_mtime_ns, t.st_ctime_ns) for t in times):
            return None
        label = read_mask(job.goal, legend_of(mapping.target, FIRST_ID))
    except (OSError, VssError):
        return None
    return None if job.doubted and _is_read_differently(job.source, mapping, label) else label


def _is_read_differently(source: Path, mapping: Mapping, label: np.ndarray) -> bool:
    """Whether the current rules read the source differently, and the mask is not yet the result."""
    if mapping.files == "coco-panoptic":
        return False  # its colours are numbers
    decoded = decode_mask(source, getattr(mapping.encoding, "legend", None))
    return (decoded.by_colours or decoded.turned) and not np.array_equal(mapping.read(source), label)
