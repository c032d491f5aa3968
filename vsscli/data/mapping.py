"""Mappings from the classes of one data set to those of another.

A mapping is a YAML file with these keys::

    source: [Sky, Building, Car]     # names of the source's classes: a list, a class table file, or a shipped table
    first_id: 1                      # mask value of the source's first class (id 0); 1 by default
    files: values                    # how its masks are written (`data.encodings`): values by default, or
                                     # cocostuff, cityscapes, coco-panoptic
    target: vspw124                  # the classes to write: a shipped table or a file
    others: ignore                   # what becomes of values that `map` does not mention; by default, one of
                                     # them in a mask is an error
    map:
      0: ignore                      # left: a mask value, or the name of a source class
      Sky: sky                       # right: the name of a target class, its id (from 0), or `ignore`
      Building: building
      Car: 48

Without ``source`` the left side has only mask values. Files are looked up beside the mapping, then in the working
directory. Mappings that ship with vss are given by name: ``ade20k``, ``camvid``, ….

`Mapping.read` gives masks as `remap_masks` writes them, so masks need not be rewritten to train on them.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.data.classes import (
    IGNORE,
    ClassEntry,
    ClassTable,
    Colour,
    load_class_table,
    parse_classes,
    read_class_entries,
)
from vsscli.data.encodings import CITYSCAPES_IDS, KINDS, MaskEncoding, find_encoding
from vsscli.data.masks import UNKNOWN, describe_values
from vsscli.errors import VssError
from vsscli.structured import read_structured

SHIPPED = Path(__file__).parent / "mappings"
KEYS = ("source", "first_id", "files", "target", "others", "map")

FIRST_ID = 1
"""Mask value of class 0 in converted masks, as in VSPW's."""


@dataclass(frozen=True)
class Mapping:
    """The target of each of the 256 values of a mask.

    Parameters
    ----------
    name
        Name of its file.
    target
        The classes that are written.
    targets
        256 numbers: index of a target class, 255 if pixels are ignored, 254 for a value the mapping does not mention.
    classes
        Names of the source's classes, or its mask values if they have no names, in order, each with its target's index
        or 255. Those that the mapping does not mention are left out.
    files, encoding
        How the source's masks are written.
    """

    name: str
    target: ClassTable
    targets: tuple[int, ...]
    classes: tuple[tuple[str, int], ...]
    files: str
    encoding: MaskEncoding

    @property
    def lookup(self) -> np.ndarray:
        """`targets` as (256,) uint8."""
        return np.array(self.targets, np.uint8)

    @property
    def kept(self) -> int:
        """Number of the source's classes that have a target class."""
        return sum(index != IGNORE for _, index in self.classes)

    def to_dict(self) -> dict[str, Any]:
        """The mapping as plain JSON values: ``{"source", "target", "mapping": {source class: class or None}}``."""
        names = self.target.names
        mapping = {name: None if index == IGNORE else names[index] for name, index in self.classes}
        return {"source": self.name, "target": self.target.name, "mapping": mapping}

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files that `read` reads for a mask."""
        return self.encoding.parts(path)

    def meaning(self) -> dict[str, Any]:
        """What determines the result of `read`, apart from the files, as plain JSON values."""
        return {"files": self.files, "targets": list(self.targets), "target": list(self.target.names)}

    def masks(self, names: Iterable[str]) -> dict[str, str]:
        """The files of a folder that are masks of the source, by the names of their frames."""
        return self.encoding.masks(names)

    def read(self, path: Path) -> np.ndarray:
        """Decode one of the source's masks and convert it to the target's classes, as `remap_masks` writes it: (H, W)
        uint8, class k as value k + 1, 255 for none. `VssError` for a value that the mapping does not mention."""
        raw, lookup = self.encoding.read(path), self.lookup
        unmentioned = np.flatnonzero((np.bincount(raw.ravel(), minlength=256) > 0) & (lookup == UNKNOWN)).tolist()
        if unmentioned:
            raise VssError(
                f"mask {path} holds {describe_values(unmentioned)}, which mapping {self.name} does not mention",
                "check that these are the source's masks; in your own mapping, add a line for each to `map:`"
                + (", or `others: ignore`" if (lookup[raw] < UNKNOWN).any() else ""),
            )
        return np.where(lookup == IGNORE, IGNORE, lookup + np.uint8(FIRST_ID)).astype(np.uint8)[raw]


def load_mapping(source: str | Path, root: Path | None = None) -> Mapping:
    """Read a mapping.

    Parameters
    ----------
    source
        Name of a mapping that ships with vss, or a YAML file: under ``root`` if it exists there, otherwise relative to
        the working directory, or absolute.
    root
        Folder of the data set.

    Raises
    ------
    VssError
        The file is missing or invalid, has a key twice, or a value or class on either side does not exist.
    """
    path = _find_mapping(source, root)
    values = read_structured(path, "mapping")
    if not isinstance(values, dict) or not isinstance(values.get("map"), dict) or "target" not in values:
        raise VssError(f"mapping {path} lacks `target:` or `map:`", "`vss remap --help` shows the format")
    unknown = [key for key in values if key not in KEYS]
    if unknown:
        raise VssError(f"mapping {path} has an unknown key {unknown[0]!r}", f"it may have {', '.join(KEYS)}")
    if values.get("others", "ignore") != "ignore":
        raise VssError(f"mapping {path}: others is {values['others']!r}", "write `others: ignore`, or leave it out")
    target = _load_target(values["target"], path)
    source_values, colours = _source_values(values, path)
    left = _Left(path, source_values)
    right = _Right(path, target)
    targets = [IGNORE if "others" in values else UNKNOWN] * 256
    mentioned: dict[int, Any] = {}
    for key, goal in values["map"].items():
        value = left.value(key)
        if value in mentioned:
            raise VssError(
                f"mapping {path}: {mentioned[value]!r} and {key!r} are the same mask value {value}",
                "keep one of the lines",
            )
        mentioned[value] = key
        targets[value] = right.index(goal, key)
    if not source_values:
        source_values = {str(value): value for value in sorted(mentioned)}
    classes = tuple((name, targets[value]) for name, value in source_values.items() if targets[value] != UNKNOWN)
    files = values.get("files", "values")
    if files == "cityscapes" and len(left.values) < len(CITYSCAPES_IDS):
        raise VssError(
            f"mapping {path}: files is 'cityscapes', and `source` names {len(left.values)} of its "
            f"{len(CITYSCAPES_IDS)} classes",
            "write `source: cityscapes19` and `first_id: 0`",
        )
    encoding = find_encoding(files, left.values, colours)
    if encoding is None:
        raise VssError(f"mapping {path}: files is {files!r}", f"it may be {', '.join(KINDS)}")
    return Mapping(path.stem, target, tuple(targets), classes, files, encoding)


def _find_mapping(source: str | Path, root: Path | None) -> Path:
    shipped = SHIPPED / f"{source}.yaml"
    if Path(source).name == str(source) and shipped.is_file():
        return shipped
    for path in (*([] if root is None else [root / source]), Path(os.path.expanduser(source))):
        if path.is_file():
            return path
    names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
    raise VssError(
        f"mapping {source} is neither shipped with vss nor a file", f"name a shipped mapping ({names}) or a file"
    )


def _load_target(value: Any, path: Path) -> ClassTable:
    if not isinstance(value, str):
        raise VssError(f"mapping {path}: target is {value!r}", "name a class table: vspw124, or a file")
    return load_class_table(value, path.parent)


def _source_values(values: dict[str, Any], path: Path) -> tuple[dict[str, int], dict[int, Colour]]:
    """The mask value of every named source class, and their colours if the source gives all of them."""
    source, first = values.get("source"), values.get("first_id", 1)
    if type(first) is not int or not 0 <= first <= 255:
        raise VssError(f"mapping {path}: first_id is {first!r}", "give the mask value of the first class, 0 to 255")
    if source is None:
        return {}, {}
    entries: Sequence[ClassEntry]
    entries = (
        read_class_entries(source, path.parent)[1] if isinstance(source, str) else parse_classes(source, str(path))
    )
    found: dict[str, int] = {}
    for entry in entries:
        if entry.name in found or entry.id + first > 255:
            raise VssError(
                f"mapping {path}: source class {entry.name!r} "
                + ("is listed twice" if entry.name in found else f"would have mask value {entry.id + first}"),
                "8-bit masks hold the values 0 to 255, one class each",
            )
        found[entry.name] = entry.id + first
    colours = {entry.id + first: entry.colour for entry in entries if entry.colour is not None}
    return found, colours if len(colours) == len(entries) else {}


@dataclass(frozen=True)
class _Left:
    """The left side of a mapping's lines: mask values, or names of source classes."""

    path: Path
    values: dict[str, int]

    def value(self, key: Any) -> int:
        if type(key) is int and 0 <= key <= 255:
            return key
        if isinstance(key, str) and key in self.values:
            return self.values[key]
        if isinstance(key, str) and self.values:
            raise VssError(f"mapping {self.path}: the source has no class {key!r}", _nearest(key, self.values))
        names = "a class of `source`" if self.values else "(names need `source:`)"
        raise VssError(f"mapping {self.path}: {key!r} is neither a mask value 0..255 nor {names}", "correct that line")


@dataclass(frozen=True)
class _Right:
    """The right side of a mapping's lines: names or ids of target classes, or `ignore`."""

    path: Path
    target: ClassTable

    def index(self, goal: Any, key: Any) -> int:
        if goal == "ignore":
            return IGNORE
        if type(goal) is int and 0 <= goal < self.target.num_classes:
            return goal
        if isinstance(goal, str) and goal in self.target.names:
            return self.target.names.index(goal)
        what = f"mapping {self.path}: {key!r} becomes {goal!r}, which {self.target.name} does not have"
        if isinstance(goal, str):
            raise VssError(what, _nearest(goal, self.target.names))
        raise VssError(what, f"write a class name, an id 0..{self.target.num_classes - 1}, or ignore")


def _nearest(name: str, names: Iterable[str]) -> str:
    by_lower = {known.lower(): known for known in names}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(by_lower[n] for n in near)}?" if near else "use a name of the class table"
