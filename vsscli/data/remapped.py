"""What a folder of remapped masks says of itself: what wrote it, and what the source of each mask held.

``remap.json`` names mapping and masks; ``remap.sources`` has a line for each mask. So masks that another mapping wrote
are not taken for finished ones, nor those whose source holds something else now.
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
"""Beside the masks: a line for each, what its source held and its name."""

RULES = 2
"""Raised when sources are read otherwise. 2: by the colours of palettes that were numbered anew, upright, whole."""

NOBODY_KNOWS = "0" * DIGITS
"""Instead of what a source held, while its mask is written anew."""


@dataclass(frozen=True)
class MaskJob:
    """A mask to write. ``made_of`` is what the source of the one that is there held; empty where that is not noted.
    ``doubted``: it may be of a version that read its source otherwise."""

    source: Path
    goal: Path
    made_of: str = ""
    doubted: bool = False


def refuse_foreign(out: Path, masks: Path, mapping: Mapping) -> None:
    """Masks that were written by another mapping or from other masks must not be taken for finished ones."""
    if not out.exists():
        return
    if not out.is_dir():
        raise VssError(f"--out {out} is a file", "choose a folder")
    before = read_remap(out / RECORD)
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


def clear(out: Path, jobs: Sequence[MaskJob], talk: Talk) -> None:
    """Take away what will be written anew, first of all, so that no interrupted run leaves a mixture behind."""
    try:
        inside = Inside(out)
        for job in jobs:
            inside.unlink(job.goal)
        inside.unlink(out / SOURCES)
    except OSError as cause:
        raise VssError(f"--out {out} can't be cleared: {cause.strerror or cause}", "choose another --out") from cause
    left = sum(path.suffix.lower() == ".png" for path in out.rglob("*")) if out.is_dir() else 0
    if left:
        talk.warn(f"{out} holds {left} PNG files of earlier that these masks do not replace; they stay as they are")


def written_by(out: Path) -> int:
    """By which rules the masks that are there were read; `RULES` where there are none."""
    before = read_remap(out / RECORD)
    rules = RULES if before is None else before.get("rules", 1)
    return rules if isinstance(rules, int) else 1


def write_remap(out: Path, masks: Path, mapping: Mapping, rules: int = RULES) -> None:
    """Say in ``out`` what its masks are written from, and by which rules the oldest of them was."""
    told = {
        "rules": rules,
        "mapping": mapping.name,
        "masks": str(masks.resolve()),
        "files": mapping.files,
        "targets": mapping.targets,
        "target": mapping.target.to_dict(),
    }
    write_text(out / RECORD, json.dumps(told) + "\n")


def read_remap(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    values = json_or_none(path)
    return values if isinstance(values, dict) else {}  # whatever it was, it is not what is asked for now


def source_line(goal: Path, held: str) -> str:
    return f"{held} {json.dumps(goal.as_posix())}\n"


def before_writing(out: Path, job: MaskJob) -> None:
    """Note of a mask that is about to be replaced that nobody knows what it is made of, until `source_line` does."""
    with (out / SOURCES).open("a", encoding="utf-8", errors="surrogateescape") as sources:
        sources.write(source_line(job.goal.relative_to(out), NOBODY_KNOWS))


def read_sources(out: Path) -> dict[str, str]:
    """What the sources of masks held that are there, by the masks' names; the last line of a name counts."""
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
    """What an earlier run wrote, if its source held the same; a file is there whole or not at all.

    Where it is not noted what the source held, a mask is kept that was written after its source last changed, and
    after the source came to lie there.
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
    return None if job.doubted and _is_read_otherwise(job.source, mapping, label) else label


def _is_read_otherwise(source: Path, mapping: Mapping, label: np.ndarray) -> bool:
    """Whether a mask is another one by the rules of today: not where somebody corrected it whose source they leave."""
    if mapping.files == "coco-panoptic":
        return False  # its colours are numbers
    decoded = decode_mask(source, getattr(mapping.encoding, "legend", None))
    return (decoded.by_colours or decoded.turned) and not np.array_equal(mapping.read(source), label)
