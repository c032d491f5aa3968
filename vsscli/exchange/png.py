"""Index masks: a PNG a frame, ``<video>/<stem>.png``, whose values are classes.

Written, each names its classes (`data.notes`). Read, one that does is read by these names; the values of others are
what the data set says of its own masks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.masks import NOTED_WITHIN, MaskIds, decode_mask, encode_mask, first_in, to_classes
from vsscli.data.notes import MaskNote, parse_note
from vsscli.data.palettes import BLACK, Legend, legend_of
from vsscli.data.png import CLASSES, SIGNATURE, parse_png
from vsscli.errors import VssError
from vsscli.exchange.items import Found, Item, Reading, Size, Writer
from vsscli.exchange.names import ClassNames
from vsscli.exchange.source import Source


class PngWriter(Writer):
    """A file a frame."""

    def add(self, item: Item) -> None:
        self.sink.write(f"{item.name}.png", encode_mask(item.label, self.table))


def read_png(reading: Reading) -> Iterator[Found]:
    """The masks of a folder or zip."""
    for name in reading.source.matching("*.png"):
        yield Found(name, png_size(reading, name), lambda size, name=name: _read(reading, name))  # type: ignore[misc]


def numbers_in(source: Source) -> set[int]:
    """The values in those masks of a source that do not say themselves what they mean."""
    found: set[int] = set()
    for name in source.matching("*.png"):
        data = source.read(name)
        if CLASSES not in data[:NOTED_WITHIN] and first_in(data[:NOTED_WITHIN]) is None:
            values = decode_mask(source.place(name), None, data).values
            found.update(np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist())
    return found


def require_classes(numbers: set[int], ids: MaskIds, table: ClassTable, where: Path) -> None:
    """Refuse masks of 0 and 255 alone, as programs write them of one object, if 255 would be void there and no more
    than one class would be left.

    Raises
    ------
    VssError
        They are such masks; says how to make them masks of classes.
    """
    if numbers != {0, IGNORE} or IGNORE not in ids.void or (ids.first == 0 and table.num_classes > 2):
        return
    means = "void" if 0 in ids.void else repr(table.names[0])
    raise VssError(
        f"the masks of {where} hold 0 and 255 alone, as masks of one object do; read as numbers of classes, 255 is "
        f"void and 0 {means}",
        "give both a class, such as other and object, in classes.txt; write "
        "{target: classes.txt, map: {0: other, 255: object}} to ids.yaml; and make masks of these classes: "
        "vss remap --source ids.yaml --masks FOLDER --out NEW",
    )


def png_size(reading: Reading, name: str) -> Size | None:
    """H, W as a PNG's header says them; None where it is not a PNG, which reading it says."""
    with reading.source.open(name) as file:
        head = file.read(24)
    return struct.unpack(">II", head[16:24])[::-1] if head.startswith(SIGNATURE) and len(head) == 24 else None


def _read(reading: Reading, name: str) -> np.ndarray:
    path, data = reading.source.place(name), reading.source.read(name)
    table = reading.names.table
    note, first = _note_of(data), first_in(data[:NOTED_WITHIN])
    ids = reading.ids
    if note is not None:
        ids = MaskIds((IGNORE,), 0, legend=_legend(note, reading.names))
    elif first is not None and first != ids.first:
        void = tuple(sorted({IGNORE, *range(first)}))
        ids = MaskIds(void, first, legend=legend_of(table, first, void))
    elif first is None:
        reading.remarks[f"masks that do not name their classes: values count them from {ids.first}"] += 1
    return to_classes(decode_mask(path, ids.legend, data).values, ids, table.num_classes, path)


def _note_of(data: bytes) -> MaskNote | None:
    try:
        png = parse_png(data) if data.startswith(SIGNATURE) else None
        return parse_note(png.classes) if png is not None and png.classes else None
    except ValueError:
        return None  # `decode_mask` says so, with the file's name


def _legend(note: MaskNote, names: ClassNames) -> Legend:
    """The classes of a note that are known here, with their indices as values."""
    found = [(name, index) for _, name in note.names if (index := names.index(name)) is not None]
    return Legend(tuple((index, BLACK) for _, index in found), (IGNORE,), False, tuple(name for name, _ in found))
