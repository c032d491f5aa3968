"""Index masks: a PNG a frame, ``<video>/<stem>.png``, whose values are classes.

Written, each names its classes (`data.notes`). Read, one that does is read by these names; the values of others are
what the data set says of its own masks.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.data.masks import NOTED_WITHIN, MaskIds, decode_mask, encode_mask, first_in, to_classes
from vsscli.data.notes import MaskNote, parse_note
from vsscli.data.palettes import BLACK, Legend, legend_of
from vsscli.data.png import SIGNATURE, parse_png
from vsscli.exchange.items import Found, Item, Reading, Size, Writer
from vsscli.exchange.names import ClassNames


class PngWriter(Writer):
    """A file a frame."""

    def add(self, item: Item) -> None:
        self.sink.write(f"{item.name}.png", encode_mask(item.label, self.table))


def read_png(reading: Reading) -> Iterator[Found]:
    """The masks of a folder or zip."""
    for name in reading.source.matching("*.png"):
        yield Found(name, png_size(reading, name), lambda size, name=name: _read(reading, name))  # type: ignore[misc]


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
