"""Notes in masks: a text in the PNG with the class of every value, and the void values.

Every mask that vss writes has one, so that masks are read by the names of their classes, whatever numbers a recipe
gives. A class that was renamed, merged or dropped since is found if the class table says so, and otherwise refused. The
text is JSON with the key `KEY`::

    {"classes": {"0": "road", "1": "sky"}, "void": [255], "palette": 2212294583}

`palette` is the checksum (CRC-32) of the palette that the note was written with, without black at its end. Optimisers
of PNGs renumber colours and keep texts, so the two no longer match, and the mask is refused instead of read wrongly.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.palettes import Legend
from vsscli.data.png import CLASSES
from vsscli.errors import VssError
from vsscli.structured import Limits, parse_json

KEY = CLASSES.rstrip(b"\0").decode()

LIMITS = Limits(2**17, 1024, 3)


@dataclass(frozen=True)
class MaskNote:
    """The meaning of a mask's values according to its note: the names of classes by value, void values, and the
    checksum of its palette."""

    names: tuple[tuple[int, str], ...]
    void: tuple[int, ...]
    palette: int


def note_text(table: ClassTable, first: int, palette: bytes) -> bytes:
    """The body of the text chunk for masks in which value ``first`` is class 0: key and JSON, separated by 0."""
    classes = {str(value): name for value, name in enumerate(table.names, start=first)}
    note = {"classes": classes, "void": sorted({IGNORE, *range(first)}), "palette": _checksum(palette)}
    return f"{KEY}\0{json.dumps(note)}".encode("ascii")


@lru_cache(maxsize=64)
def parse_note(body: bytes) -> MaskNote:
    """The note in the body of a text chunk.

    Raises
    ------
    ValueError
        It is not a note.
    """
    try:
        parsed = parse_json(body.partition(b"\0")[2], "its note of classes", limits=LIMITS)
        names = {int(value): str(name) for value, name in parsed["classes"].items()}
        note = MaskNote(tuple(sorted(names.items())), tuple(map(int, parsed["void"])), int(parsed["palette"]))
    except (VssError, KeyError, TypeError, ValueError, AttributeError) as cause:
        raise ValueError(f"its note of classes (text {KEY}) can't be read") from cause
    values = [*names, *note.void]
    if len(set(note.void) | names.keys()) < len(values) or not all(0 <= value <= 255 for value in values):
        raise ValueError(f"its note of classes (text {KEY}) contradicts itself")
    return note


def read_by_note(values: np.ndarray, note: MaskNote, palette: bytes, legend: Legend, where: str) -> np.ndarray:
    """Convert a mask's values to those of a legend, class by class by name, (H, W) uint8.

    Parameters
    ----------
    values
        (H, W) uint8, the stored numbers.
    note, palette
        The mask's note, and its colours, three bytes each.
    legend
        The values to convert to, and the names of their classes.
    where
        Name of the mask in errors.

    Raises
    ------
    VssError
        It has a class that the legend lacks, or another program has renumbered its palette.
    """
    if _checksum(palette) != note.palette:
        raise VssError(
            f"{where} names the classes of its values, but its palette is not the one it was written with: another "
            "program has rewritten it",
            f"write it again with `vss export` or `vss import`, or remove its text {KEY} to have its numbers read "
            "as the recipe says",
        )
    table, foreign = _translation(note, legend)
    if foreign:
        used = np.bincount(values.ravel(), minlength=256)
        strange = [name for value, name in foreign if used[value]]
        if strange:
            shown = ", ".join(map(repr, strange[:8])) + (f" and {len(strange) - 8} more" if len(strange) > 8 else "")
            raise VssError(
                f"{where} holds class {shown}, by its own note, and the class table has no such class",
                "`vss import --from png --map OLD=NEW` (or OLD=ignore) rewrites masks in the classes of a table",
            )
    if table is None:
        return values
    translated = bytearray(np.ascontiguousarray(values).data).translate(table)
    return np.frombuffer(translated, np.uint8).reshape(values.shape)


@lru_cache(maxsize=64)
def _translation(note: MaskNote, legend: Legend) -> tuple[bytes | None, tuple[tuple[int, str], ...]]:
    """The legend's value of each of 256 numbers, `None` if they are the same, and the classes that the legend lacks."""
    known = dict(legend.former) | dict(zip(legend.names, (value for value, _ in legend.colours), strict=True))
    strange = next((value for value in range(255, -1, -1) if not legend.knows(value)), IGNORE)
    table = bytearray([strange]) * 256  # unknown values stay unknown
    for value, name in note.names:
        table[value] = known.get(name, strange)
    void = IGNORE if IGNORE in legend.void else next(iter(legend.void), strange)
    for value in note.void:
        table[value] = void
    listed = {*note.void, *(value for value, _ in note.names)}
    same = all(table[value] == value if value in listed else not legend.knows(value) for value in range(256))
    return None if same else bytes(table), tuple(pair for pair in note.names if pair[1] not in known)


def _checksum(palette: bytes) -> int:
    return zlib.crc32(palette.rstrip(b"\0"))


def noted_table(body: bytes, palette: bytes, name: str) -> tuple[ClassTable, int]:
    """The class table of a note with the colours of a palette, named ``name``, and the value of class 0.

    Raises
    ------
    ValueError
        The note can't be read, or its values have gaps.
    """
    note = parse_note(body)
    values = [value for value, _ in note.names]
    if not values or values != list(range(values[0], values[0] + len(values))):
        raise ValueError("its note of classes has gaps")
    padded = palette.ljust(768, b"\0")
    colours = tuple((padded[3 * value], padded[3 * value + 1], padded[3 * value + 2]) for value in values)
    return ClassTable(name, tuple(name for _, name in note.names), colours), values[0]
