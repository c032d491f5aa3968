"""Class tables as other programs write them, in the shapes that `data.classes` knows.

- ``labelmap.txt`` (PASCAL VOC as CVAT writes it): ``road:128,64,128::`` a line; ``background`` in black is no class;
- any other ``.txt``: a name a line;
- YOLO's ``data.yaml``: ``names``, a list or names by number;
- COCO's JSON: ``categories``, by rising id;
- CVAT's labels ("Raw" in its constructor): a list of ``{"name", "color": "#80ff00", "attributes"}``.

Classes are counted in the order in which they stand, but COCO's keep ids that have gaps, which whoever counts on
numbers then refuses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.structured import read_structured, read_text

LABELMAP = re.compile(r"(?P<name>[^:#]+):(?P<colour>\d+\s*,\s*\d+\s*,\s*\d+)?:[^:]*:[^:]*")
"""``name:r,g,b:parts:actions``."""

VOID = ("background", "0,0,0")
"""What labelmaps begin with: pixels that nobody labelled."""


def read_class_file(path: Path) -> Any:
    """The values of a class table's file, as `data.classes.parse_classes` takes them.

    Raises
    ------
    VssError
        The file can't be read.
    """
    if path.suffix.lower() == ".txt":
        return parse_class_lines(read_text(path, "class table"), str(path))
    values = read_structured(path, "class table")
    if isinstance(values, dict) and "classes" not in values:
        if isinstance(values.get("names"), list | dict):
            return _numbered(values["names"], str(path))
        if isinstance(values.get("categories"), list):
            return _categories(values["categories"])
    if isinstance(values, list) and any(isinstance(row, dict) and "attributes" in row for row in values):
        return [_label(row) if isinstance(row, dict) else row for row in values]
    return values


def parse_class_lines(text: str, where: str) -> list[Any]:
    """The classes of a text file, lines of a labelmap or names; ``where``: what to call it in errors."""
    lines = _lines(text)
    rows = [LABELMAP.fullmatch(line) for line in lines]
    if not any(rows):
        return list(lines)
    if not all(rows):
        line = lines[rows.index(None)]
        raise VssError(f"{where}: {line[:80]!r} is no line of a labelmap", "write name:red,green,blue:: on every line")
    found: list[Any] = []
    for row in rows:
        assert row is not None
        colour = [int(part) for part in row["colour"].split(",")] if row["colour"] else None
        if not _is_void(row):
            found.append({"name": row["name"].strip(), "colour": colour})
    return found


def counts_void(path: Path) -> bool:
    """Whether a class table's file is a labelmap that begins with void, so that its first class is number 1."""
    lines = _lines(read_text(path, "class table")) if path.suffix.lower() == ".txt" else []
    row = LABELMAP.fullmatch(lines[0]) if lines else None
    return row is not None and _is_void(row)


def _lines(text: str) -> list[str]:
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _is_void(row: re.Match[str]) -> bool:
    return (row["name"].strip().lower(), re.sub(r"\s", "", row["colour"] or VOID[1])) == VOID


def _numbered(names: Any, where: str) -> list[Any]:
    if isinstance(names, list):
        return names
    numbers = [int(key) if str(key).isdecimal() else -1 for key in names]
    if sorted(numbers) != list(range(len(names))):
        raise VssError(f"{where}: names are not numbered 0, 1, 2, …", "number the classes without gaps from 0")
    by_number = dict(zip(numbers, names.values(), strict=True))
    return [by_number[number] for number in range(len(names))]


def _categories(rows: list[Any]) -> list[Any]:
    """COCO's categories by rising id, counted from 0 where their ids have no gaps."""
    if not all(isinstance(row, dict) and type(row.get("id")) is int for row in rows):
        return rows
    rows = sorted(rows, key=lambda row: row["id"])
    first = rows[0]["id"] if rows else 0
    gaps = [row["id"] for row in rows] != list(range(first, first + len(rows)))
    return [{**_label(row), **({"id": row["id"]} if gaps else {})} for row in rows]


def _label(row: dict[str, Any]) -> dict[str, Any]:
    """Name and colour alone: ids of a server's data base mean nothing here."""
    colour = row.get("color", row.get("colour"))
    if isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
        colour = list(bytes.fromhex(colour[1:]))
    return {"name": row.get("name"), "colour": colour}
