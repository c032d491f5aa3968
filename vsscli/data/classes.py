"""Class tables: the names and colours of a data set's classes.

A table is a JSON or YAML file in one of these forms::

    [road, sky, car]                                             names; colours are generated, always the same ones

    [{id: 0, name: road, colour: [128, 64, 128]}, ...]           names with colours

    {dataset: my-streets, classes: [...]}                        either of the above, with a name

So are the tables of other programs, see `data.classfiles`. A table may say what its classes were called before, and
which ones were dropped (`vss classes`). Masks that name their classes, and stores, are then read as before::

    {classes: [{name: vehicle, was: [car, truck]}, ...], dropped: [bird]}

Classes are numbered in the order of the list; 255 is never a class.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from vsscli.data.classfiles import read_class_file
from vsscli.errors import VssError

IGNORE = 255
"""Label of a pixel without a class (void)."""

MAX_CLASSES = 254
"""Leaves 255 for void and one more value that marks unknown ids while masks are read."""

SHIPPED = Path(__file__).parent / "tables"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class ClassTable:
    """Names and colours of C classes.

    Parameters
    ----------
    name
        Name of the table in messages and in stores.
    names
        C distinct names.
    colours
        C colours, red, green, blue, 0..255.
    former
        Names that classes had before, each with the index of its class, or 255 if it was dropped.

    Raises
    ------
    VssError
        There are no classes, more than 254, two with one name, or invalid colours.
    """

    name: str
    names: tuple[str, ...]
    colours: tuple[Colour, ...]
    former: tuple[tuple[str, int], ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        count = len(self.names)
        if count == 0:
            raise VssError(f"class table {self.name} has no classes", "list at least one class name")
        if count > MAX_CLASSES:
            raise VssError(
                f"class table {self.name} has {count} classes; labels have 8 bits, enough for {MAX_CLASSES}",
                f"merge or drop classes (`vss remap` rewrites masks) until there are at most {MAX_CLASSES}",
            )
        names = [*self.names, *(name for name, _ in self.former)]
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice:
            raise VssError(
                f"class table {self.name} has more than one class named {', '.join(map(repr, twice[:5]))}",
                "give every class a different name",
            )
        if len(self.colours) != count:
            raise VssError(f"class table {self.name} has {count} names but {len(self.colours)} colours")

    @property
    def num_classes(self) -> int:
        """C."""
        return len(self.names)

    def translation(self, names: Sequence[str]) -> tuple[int, ...] | None:
        """The classes of a table with other names: for each of 256 values the class or 255; `None` if a name is
        unknown."""
        known = {name: index for index, name in enumerate(self.names)} | dict(self.former)
        if not all(name in known for name in names):
            return None
        return (*(known[name] for name in names), *[IGNORE] * (256 - len(names)))

    def to_dict(self) -> dict[str, Any]:
        """The table as plain JSON values, ``{"name", "classes": [{"id", "name", "colour"}]}``, without former names."""
        rows = zip(self.names, self.colours, strict=True)
        return {
            "name": self.name,
            "classes": [{"id": i, "name": name, "colour": list(colour)} for i, (name, colour) in enumerate(rows)],
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ClassTable:
        """The table that `to_dict` wrote."""
        name = str(values.get("name", "classes")) if isinstance(values, dict) else "classes"
        return class_table_of(name, parse_classes(values, "class table"))

    def palette(self, first_id: int = 0) -> bytes:
        """Palette for PNGs in which value ``first_id + k`` is class k; every other value is black.

        Returns
        -------
        bytes
            768 bytes, red, green, blue of the values 0..255.
        """
        values = bytearray(768)
        for value, colour in enumerate(self.colours, start=first_id):
            if value < IGNORE:
                values[3 * value : 3 * value + 3] = bytes(colour)
        return bytes(values)


@dataclass(frozen=True)
class ClassEntry:
    """One entry of a class table file."""

    id: int
    name: str
    colour: Colour | None
    was: tuple[str, ...] = ()


def load_class_table(source: str, root: Path | None = None) -> ClassTable:
    """Read a class table.

    Parameters
    ----------
    source
        Name of a table that ships with vss (``vspw124``), or a JSON, YAML or text file: under ``root`` if it exists
        there, otherwise relative to the working directory, or absolute.
    root
        Folder of the data set.

    Returns
    -------
    ClassTable
        Classes in the order of the file; missing colours are generated, the same ones every time.

    Raises
    ------
    VssError
        There is no such table, or the file is not a class table.
    """
    path = find_class_table(source, root)
    values = read_class_file(path)
    entries = parse_classes(values, str(path))
    dropped = values.get("dropped", []) if isinstance(values, dict) else []
    return class_table_of(_name(path, values), entries, _names(dropped, f"{path}: dropped"))


def read_class_entries(source: str, root: Path | None = None) -> tuple[str, tuple[ClassEntry, ...]]:
    """Read the name of a class table, and its entries with the ids of the file, which may have gaps, like COCO's."""
    path = find_class_table(source, root)
    values = read_class_file(path)
    return _name(path, values), parse_classes(values, str(path))


def _name(path: Path, values: Any) -> str:
    if path.parent != SHIPPED and isinstance(values, dict):
        return str(values.get("name") or values.get("dataset") or path.stem)
    return path.stem


def find_class_table(source: str, root: Path | None = None) -> Path:
    """The path of a class table: shipped with vss, under ``root``, or as given."""
    shipped = SHIPPED / f"{source}.json"
    if source and Path(source).name == source and shipped.is_file():
        return shipped
    places = [] if root is None else [Path(root) / source]
    places.append(Path(os.path.expanduser(source)))
    for place in places:
        if place.is_file():
            return place
    names = ", ".join(sorted(path.stem for path in SHIPPED.glob("*.json")))
    looked = " or ".join(dict.fromkeys(str(place) for place in places))
    raise VssError(
        f"class table {source!r} is neither shipped with vss nor a file (looked for {looked})",
        f"name a shipped table ({names}), or a JSON, YAML or text file",
    )


def parse_classes(values: Any, where: str) -> tuple[ClassEntry, ...]:
    """Parse any of the forms in the module's docstring; ``where`` names the values in errors."""
    rows = values.get("classes") if isinstance(values, dict) else values
    if not isinstance(rows, Sequence) or isinstance(rows, str):
        raise VssError(
            f"{where} is not a class table: it is neither a list of classes nor has an entry `classes`",
            'write a list of names, or {"classes": [{"id": 0, "name": "road", "colour": [128, 64, 128]}, …]}',
        )
    entries = tuple(_entry(row, index, where) for index, row in enumerate(rows))
    for before, after in pairwise(entries):
        if after.id <= before.id:
            raise VssError(
                f"{where}: class {after.name!r} with id {after.id} comes after id {before.id}",
                "list the classes by ascending id, each id once",
            )
    return entries


def _entry(row: Any, index: int, where: str) -> ClassEntry:
    if not isinstance(row, dict):
        row = {"name": row}
    name = row.get("name")
    if not isinstance(name, str) or not name.strip():
        raise VssError(f"{where}: class {index} has name {name!r}", "names are text; quote `yes`, `no` or 1")
    number = row.get("id", row.get("category_id", index))
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise VssError(f"{where}: class {name!r} has id {number!r}", "ids are whole numbers of at least 0")
    colour = row.get("colour", row.get("color"))
    was = _names(row.get("was", []), f"{where}: class {name!r}: was")
    return ClassEntry(number, name, None if colour is None else _colour(colour, name, where), was)


def _names(values: Any, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(name, str) and name.strip() for name in values):
        raise VssError(f"{where} is {values!r}", "give a list of names that classes had before")
    return tuple(values)


def _colour(values: Any, name: str, where: str) -> Colour:
    whole = isinstance(values, list | tuple) and all(type(v) is int and 0 <= v <= 255 for v in values)
    if not whole or len(values) != 3:
        raise VssError(f"{where}: class {name!r} has colour {values!r}", "colours are three numbers, 0 to 255")
    return values[0], values[1], values[2]


def class_table_of(name: str, entries: Sequence[ClassEntry], dropped: Sequence[str] = ()) -> ClassTable:
    """A class table of some entries, with a colour for each; ``dropped`` names classes that there were before."""
    colours = tuple(entry.colour or made_up_colour(index) for index, entry in enumerate(entries))
    former = [(old, index) for index, entry in enumerate(entries) for old in entry.was]
    former += [(old, IGNORE) for old in dropped]
    return ClassTable(name, tuple(entry.name for entry in entries), colours, tuple(former))


def made_up_colour(index: int) -> Colour:
    """The colour of a class whose table gives none: for class k, that of k + 1 in PASCAL VOC's colour map.

    The bits of k + 1 are distributed to red, green and blue, from the highest bit down.
    """
    bits, channels = index + 1, [0, 0, 0]
    for shift in range(7, -1, -1):
        for channel in range(3):
            channels[channel] |= (bits >> channel & 1) << shift
        bits >>= 3
    return channels[0], channels[1], channels[2]
