"""Palettes: whether the values of a mask are the numbers in its file, or follow from their colours.

A palette PNG holds numbers and a colour for each. Usually the numbers are the mask's values, and the colours are only
for viewing. But programs that optimise PNGs (oxipng, ImageOptim, pngquant and others) renumber the colours: the picture
is the same, but the numbers are not. If the colours are those of the class table, or greys, the values follow from
them; if both readings are possible, the mask is refused.

The signs of a renumbered palette: its colours are the table's but at other numbers, and not all shifted equally; and it
has no colour that the picture does not use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable, Colour, made_up_colour
from vsscli.errors import VssError

BLACK: Colour = (0, 0, 0)

INDEX: tuple[int, ...] = ()
"""The reading of a palette that is only for viewing: numbers are values."""

REMEDY = (
    "write it as an 8-bit grey PNG of class ids without a palette: from its numbers if these are right, or from its "
    "colours if an optimiser of PNGs has renumbered them"
)


@dataclass(frozen=True)
class Legend:
    """Colours of the values of masks: value and colour of each class; void values, which are black; and whether the
    class table gives the colours. Those that vss generates are PASCAL VOC's colour map, which other programs use, too,
    with its own numbers. The names of the classes, in the same order, are for masks that name theirs (`data.notes`);
    without them, such masks are read like any other. Former names of classes, each with a value or void."""

    colours: tuple[tuple[int, Colour], ...]
    void: tuple[int, ...] = ()
    told: bool = True
    names: tuple[str, ...] = ()
    former: tuple[tuple[str, int], ...] = ()

    @cached_property
    def own(self) -> dict[int, Colour]:
        """The colour of each class's value."""
        return dict(self.colours)

    @cached_property
    def values(self) -> dict[Colour, list[int]]:
        """The values of each colour of a class."""
        found: dict[Colour, list[int]] = {}
        for value, colour in self.colours:
            found.setdefault(colour, []).append(value)
        return found

    def knows(self, value: int) -> bool:
        """Whether a value is a class or void."""
        return value in self.own or value in self.void


def legend_of(table: ClassTable, first: int = 0, void: Sequence[int] = (IGNORE,)) -> Legend:
    """The legend of masks in which value ``first`` is class 0 of a table."""
    told = any(colour != made_up_colour(index) for index, colour in enumerate(table.colours))
    nothing = IGNORE if IGNORE in void else next(iter(void), IGNORE)
    former = tuple((name, nothing if index == IGNORE else first + index) for name, index in table.former)
    return Legend(tuple(enumerate(table.colours, start=first)), tuple(void), told, table.names, former)


def read_palette(numbers: np.ndarray, palette: bytes, alpha: bytes, legend: Legend | None, where: str) -> np.ndarray:
    """The values of a palette mask, (H, W) uint8: the array ``numbers`` itself if the stored numbers are the values.
    `VssError` if the colours contradict the numbers and it is unclear which are right.

    Without a legend only greys are interpreted. ``palette`` has three bytes for each colour, ``alpha`` the transparency
    of the first ones; ``where`` names the mask in errors.
    """
    if _is_plain(palette, legend):
        return numbers
    used = tuple(np.flatnonzero(np.bincount(numbers.ravel(), minlength=256)).tolist())
    reading = _reading(palette, alpha, used, legend)
    if isinstance(reading, str):
        first = _other_start(_entries(palette), used, legend) if legend is not None else None
        remedy = REMEDY if first is None or first < 0 else _other_start_remedy(first)
        raise VssError(f"{where} has a palette that contradicts its values: {reading}", remedy)
    return np.array(reading, np.uint8)[numbers] if reading else numbers


def read_few_bits(samples: np.ndarray, depth: int, legend: Legend | None, where: str) -> np.ndarray:
    """The values of a grey mask of 1, 2 or 4 bits, (H, W) uint8, which are the stored ones.

    But optimisers of PNGs turn an 8-bit mask with only the values 0 and 255 into one of 1 bit, with 1 for 255, and
    likewise with 2 and 4 bits. If those would be valid values, too, the mask is ambiguous: `VssError`.
    """
    used = np.flatnonzero(np.bincount(samples.ravel(), minlength=2)).tolist()
    stretched = [sample * (255 // (2**depth - 1)) for sample in used]
    if legend is None or stretched == used or not all(map(legend.knows, stretched)):
        return samples
    each = ", ".join(f"{sample}: CLASS" for sample in used)
    raise VssError(
        f"{where} is a grey PNG of {depth} bit{'s' if depth > 1 else ''} with values {_listed(used)}; if an optimiser "
        f"of PNGs wrote it, they stand for {_listed(stretched)}, and either may be right",
        "write it as an 8-bit grey PNG of the right ones, or say what its numbers are, in ids.yaml: "
        f"{{target: CLASSES, map: {{{each}}}}}; and make masks of these classes: "
        "vss remap --source ids.yaml --masks FOLDER --out NEW",
    )


@lru_cache(maxsize=256)
def _is_plain(palette: bytes, legend: Legend | None) -> bool:
    """Whether numbers are values, whichever of them are used."""
    entries = _entries(palette)
    odd = _strays, _is_void_painted
    if legend is not None and any(is_odd(i, colour, legend) for i, colour in enumerate(entries) for is_odd in odd):
        return False
    entries = entries[: _length(entries, ())]
    return any(not _is_grey(colour) for colour in entries) or _is_ramp(entries)


@lru_cache(maxsize=1024)
def _reading(palette: bytes, alpha: bytes, used: tuple[int, ...], legend: Legend | None) -> tuple[int, ...] | str:
    """The value of each of 256 numbers, or `INDEX`, or why neither is certain."""
    entries = _entries(palette)
    if used and used[-1] >= len(entries):
        return INDEX  # numbers without a colour: the palette is not that of the picture
    trimmed = len(used) >= _length(entries, used)
    if legend is not None and any(_strays(index, entries[index], legend) for index in used):
        return _by_table(entries, alpha, used, legend, trimmed)
    related = legend is not None and trimmed and all(_is_void_or_own(i, entries[i], legend) for i in used)
    if related and legend is not None and any(_is_void_painted(i, entries[i], legend) for i in used):
        return "black, the colour of void, is at the number of a class with another colour"
    agrees = legend is not None and any(legend.own.get(index) == entries[index] for index in used)
    return INDEX if agrees or not trimmed else _by_grey(entries, used, legend)


def _by_table(
    entries: list[Colour], alpha: bytes, used: tuple[int, ...], legend: Legend, trimmed: bool
) -> tuple[int, ...] | str:
    """The reading of a palette that has colours of classes at other numbers than their values."""
    length = _length(entries, used)
    standard = _is_ramp(entries[:length]) or _is_voc(entries[:length])
    if not legend.told and (standard or not trimmed):
        return INDEX  # other programs use the same colours
    places = _places(entries[:length], legend)
    foreign = [colour for colour in entries[:length] if colour not in legend.values and colour != BLACK]
    if len(foreign) > len(places):
        return INDEX  # unrelated to the table except for a colour or two
    first = _other_start(entries, used, legend)
    if first is not None:
        shift = legend.colours[0][0] - first
        side = "below" if shift > 0 else "above"
        return f"it has the colours of the class table in order, {abs(shift)} {side} the values given by data.first_id"
    if standard:
        return (
            INDEX if not trimmed else "its colours are those of classes with other numbers, or a common palette's first"
        )
    reading = list(range(256))
    for index in used:
        colour = entries[index]
        values = legend.values.get(colour, [])
        if alpha[index : index + 1] == b"\0" or (not values and colour != BLACK):
            return f"most of its colours are of classes with other numbers, but number {index} {_shown(colour)} is not"
        if len(values) > 1 or (values and colour == BLACK):
            return f"its colours are those of classes with other numbers, and {_shown(colour)} is that of more than one"
        if not values and not legend.void:
            return f"its colours are those of classes with other numbers, but number {index} {_shown(colour)} is not"
        reading[index] = values[0] if values else (0 if 0 in legend.void else legend.void[0])
    if not trimmed and any(legend.own.get(index) == entries[index] for index in used):
        return "some of its colours are those of classes with other numbers, some are at their own"
    if all(_is_grey(entries[index]) and legend.knows(entries[index][0]) for index in used):
        return "its greys may be values, or colours of classes with other numbers"
    return tuple(reading)


def _places(entries: list[Colour], legend: Legend) -> list[tuple[int, list[int]]]:
    """Numbers with colours of classes, and the values of these classes."""
    return [(index, legend.values[colour]) for index, colour in enumerate(entries) if colour in legend.values]


def _other_start(entries: list[Colour], used: tuple[int, ...], legend: Legend) -> int | None:
    """The number of class 0 if a palette has the colours of the classes in order from another number on."""
    length = _length(entries, used)
    places = _places(entries[:length], legend)
    shifts = {value - index for index, values in places for value in values}
    whole = len(used) < length or len(places) == len(legend.colours)
    return legend.colours[0][0] - shifts.pop() if whole and len(shifts) == 1 and 0 not in shifts else None


def _other_start_remedy(first: int) -> str:
    """What to do about masks that count classes from another number, like predictions, which start at 0."""
    void = [255] if first == 0 else [0, 255]
    return (
        f"masks that count classes from {first} look like this, as predictions do from 0: if all masks do, set "
        f"data.first_id: {first} and data.void_ids: {void} in the recipe; otherwise rewrite these with a mapping "
        "(`vss remap --help`)"
    )


def _by_grey(entries: list[Colour], used: tuple[int, ...], legend: Legend | None) -> tuple[int, ...] | str:
    """The reading of a palette whose colours are all used: if they are greys, those of a grey mask."""
    greys = [entries[index][0] for index in used]
    if not all(_is_grey(entries[index]) for index in used) or greys == list(used):
        return INDEX
    last = len(greys) - 1
    if last and greys == [round(255 * step / last) for step in range(last + 1)]:
        # Even steps from black to white are for viewing; 2, 4 or 16 of them as values would be a PNG of few bits.
        return INDEX if last in (1, 3, 15) else f"its greys may be values, {_listed(greys)}, or steps for viewing"
    if legend is not None and all(map(legend.knows, used)) and not all(map(legend.knows, greys)):
        if sum(map(legend.knows, greys)) * 2 <= len(greys):
            return INDEX
        return f"its greys may be values, {_listed(greys)}, of which some are unknown, or only for viewing"
    reading = list(range(256))
    for index, grey in zip(used, greys, strict=True):
        reading[index] = grey
    return tuple(reading)


def _entries(palette: bytes) -> list[Colour]:
    return [(palette[i], palette[i + 1], palette[i + 2]) for i in range(0, len(palette) - 2, 3)]


def _length(entries: list[Colour], used: tuple[int, ...]) -> int:
    """Number of entries that count: black ones after the last that is used or not black are padding."""
    last = used[-1] if used else -1
    return max((index for index, colour in enumerate(entries) if index <= last or colour != BLACK), default=-1) + 1


def _strays(index: int, colour: Colour, legend: Legend) -> bool:
    """Whether a number has the colour of a class with another value."""
    return colour in legend.values and legend.own.get(index) != colour


def _is_void_painted(index: int, colour: Colour, legend: Legend) -> bool:
    """Whether the value of a class with another colour is black, the colour of void."""
    return legend.told and colour == BLACK and bool(legend.void) and legend.own.get(index, BLACK) != BLACK


def _is_void_or_own(index: int, colour: Colour, legend: Legend) -> bool:
    return colour == BLACK or legend.own.get(index) == colour


def _is_grey(colour: Colour) -> bool:
    return colour[0] == colour[1] == colour[2]


def _is_ramp(entries: list[Colour]) -> bool:
    """Whether each number has the grey of its value."""
    return all(colour == (index, index, index) for index, colour in enumerate(entries))


def _is_voc(entries: list[Colour]) -> bool:
    """Whether these are the first colours of PASCAL VOC's map, which begins with black."""
    return all(colour == (made_up_colour(index - 1) if index else BLACK) for index, colour in enumerate(entries))


def _shown(colour: Colour) -> str:
    return "({}, {}, {})".format(*colour)


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + ("…" if len(values) > 8 else "")
