"""Colour masks: a PNG a frame whose colours are classes, by the labelmap beside them or, without, the class table.

VOC's layout, which CVAT calls "Segmentation mask 1.1", is the same in folders of its own: ``SegmentationClass/``,
``ImageSets/Segmentation/default.txt``, ``labelmap.txt``.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from PIL import Image

from vsscli.data.classes import IGNORE, ClassTable, Colour, made_up_colour
from vsscli.data.classfiles import parse_class_lines
from vsscli.data.masks import read_colour_mask
from vsscli.data.palettes import BLACK
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Found, Item, Reading, Writer
from vsscli.exchange.names import BACKGROUND, ClassNames
from vsscli.exchange.png import png_size
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import Source

VOC_BORDER: Colour = (224, 224, 192)
"""What VOC paints around objects, which nobody is asked for."""

LABELMAP = "labelmap.txt"
UNKNOWN = 254
CLASSES = "SegmentationClass/"


class ColourWriter(Writer):
    """A file a frame, and the labelmap."""

    folder = ""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._colours = distinct_colours(table)
        self._paint = np.zeros((256, 3), np.uint8)
        self._paint[: table.num_classes] = self._colours

    def add(self, item: Item) -> None:
        picture = io.BytesIO()
        Image.fromarray(self._paint[item.label]).save(picture, "PNG")
        self.sink.write(f"{self.folder}{item.name}.png", picture.getvalue())

    def finish(self) -> dict[str, float]:
        self.sink.write(LABELMAP, labelmap(self.table, self._colours).encode())
        return {}


class VocWriter(ColourWriter):
    """The same in VOC's folders."""

    folder = CLASSES

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._listed = sink.scratch()

    def add(self, item: Item) -> None:
        super().add(item)
        self._listed.write(f"{item.name}\n".encode())

    def finish(self) -> dict[str, float]:
        self.sink.gather("ImageSets/Segmentation/default.txt", self._listed)
        return super().finish()


def distinct_colours(table: ClassTable) -> tuple[Colour, ...]:
    """The table's colours, others in place of those that are black, which is void, or that a class before has."""
    taken: dict[Colour, None] = {BLACK: None, VOC_BORDER: None}
    spare = (colour for index in range(255) if (colour := made_up_colour(index)) not in table.colours)
    for colour in table.colours:
        taken[colour if colour not in taken else next(shade for shade in spare if shade not in taken)] = None
    return tuple(taken)[2:]


def labelmap(table: ClassTable, colours: tuple[Colour, ...]) -> str:
    """The text of ``labelmap.txt``."""
    broken = next((name for name in table.names if re.search(r"[:#\r\n]", name) or name != name.strip()), None)
    if broken is not None:
        raise VssError(f"class {broken!r} can't be written in a {LABELMAP}", "rename it, or export --to png")
    taken = {*map(str.lower, table.names)}
    void = next(name for name in (BACKGROUND, "void", *map("void {}".format, range(len(taken)))) if name not in taken)
    rows = [(void, BLACK), *zip(table.names, colours, strict=True)]
    return "# label:color_rgb:parts:actions\n" + "".join(f"{name}:{r},{g},{b}::\n" for name, (r, g, b) in rows)


def read_colour(reading: Reading) -> Iterator[Found]:
    """The masks of a folder or zip, whatever folders they lie in."""
    return _read_masks(reading, "")


def read_voc(reading: Reading) -> Iterator[Found]:
    """The masks in ``SegmentationClass``."""
    return _read_masks(reading, CLASSES)


def _read_masks(reading: Reading, folder: str) -> Iterator[Found]:
    where = str(reading.source.path)
    names = reading.source.matching(f"{folder.lower()}*.png", f"*/{folder.lower()}*.png")
    classes = colours_of(reading, where)
    table = np.full(2**24, UNKNOWN, np.uint8)
    for colour, index in classes.items():
        table[_number(colour)] = index
    for name in names:
        short = name[name.lower().index(folder.lower()) + len(folder) :] if folder else name
        size = png_size(reading, name)
        yield Found(short, size, lambda size, name=name: _read(reading, name, table, classes))  # type: ignore[misc]


def colours_of(reading: Reading, where: str) -> dict[Colour, int]:
    """The class of each colour: by the source's labelmap, else by the class table."""
    found, names = labelmap_in(reading.source), reading.names
    void = {BLACK: names.uncovered, VOC_BORDER: IGNORE}
    if found is None:
        colours = names.table.colours
        twice = next((colour for colour in colours if colours.count(colour) > 1), None)
        if twice is not None or BLACK in colours:
            what = f"has more than one class in {twice}" if twice else "has a class in black, which is void"
            raise VssError(f"class table {names.table.name} {what}", f"give the classes other colours, or a {LABELMAP}")
        return void | {colour: index for index, colour in enumerate(colours)}
    place, rows = found
    if not all(isinstance(row, dict) and row["colour"] for row in rows):
        raise VssError(f"{place} does not give every class a colour", "write name:red,green,blue:: on every line")
    if any(max(row["colour"]) > 255 for row in rows):
        raise VssError(f"{place} has a colour beyond 255", "colours are three numbers, 0 to 255")
    # Labelmaps begin with `background` in black, which `parse_class_lines` leaves out; ours, where that is a class,
    # with another name.
    black = [row["name"] for row in rows if tuple(row["colour"]) == BLACK]
    void[BLACK] = IGNORE if black and names.index(black[0]) is None else names.require([BACKGROUND], place)[BACKGROUND]
    kept = [row for row in rows if tuple(row["colour"]) != BLACK or names.index(row["name"]) is not None]
    index = names.require([row["name"] for row in kept], place)
    return void | {tuple(row["colour"]): index[row["name"]] for row in kept}


def labelmap_in(source: Source) -> tuple[str, list[Any]] | None:
    """The labelmap among some files: where it is, and its rows, as `parse_class_lines` has them."""
    file = source.named(LABELMAP)
    if file is None:
        return None
    place = str(source.place(file))
    return place, parse_class_lines(source.read(file, 2**20).decode("utf-8-sig", errors="replace"), place)


def _read(reading: Reading, name: str, table: np.ndarray, classes: Mapping[Colour, int]) -> np.ndarray:
    path = reading.source.place(name)
    pixels = read_colour_mask(path, reading.source.read(name))
    numbers = pixels[..., 0].astype(np.uint32) << 16 | pixels[..., 1].astype(np.uint32) << 8 | pixels[..., 2]
    label = table[numbers]
    strange = label == UNKNOWN
    if strange.any():
        raise _unknown(numbers[strange], classes, reading.names, f"mask {path}")
    return label


def _unknown(numbers: np.ndarray, classes: Mapping[Colour, int], names: ClassNames, where: str) -> VssError:
    """The error for colours of no class: the most frequent of them, and the class whose colour is nearest."""
    found, counts = np.unique(numbers, return_counts=True)
    number = int(found[counts.argmax()])
    colour = number >> 16, number >> 8 & 255, number & 255
    near = min(classes, key=lambda other: sum((a - b) ** 2 for a, b in zip(colour, other, strict=True)))
    of = "void" if classes[near] == IGNORE else repr(names.table.names[classes[near]])
    more = f" and {len(found) - 1} more colours that are" if len(found) > 1 else ","
    return VssError(
        f"{where} has {len(numbers)} pixels in {colour}{more} no class's; the nearest is {of}, {near}",
        "give the class table that colour; or export as PNG without smoothing: blended edges and JPEG make new colours",
    )


def _number(colour: Colour) -> int:
    return colour[0] << 16 | colour[1] << 8 | colour[2]
