"""A class table for labels that come without one: from the names or the colours that they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable, Colour, made_up_colour
from vsscli.data.masks import MaskIds, read_colour_mask
from vsscli.data.palettes import BLACK
from vsscli.errors import VssError
from vsscli.exchange.catalogue import reader_of
from vsscli.exchange.items import Reading
from vsscli.exchange.names import BACKGROUND, ClassNames
from vsscli.exchange.source import open_source_files

MOST = 254


class AnyNames(ClassNames):
    """Takes every name for a class, and remembers all of them."""

    def __init__(self) -> None:
        super().__init__(ClassTable("any", ("any",), (BLACK,)))
        self.seen: dict[str, int] = {}

    def index(self, name: str) -> int | None:
        """The number of a name, counted as they come; 255 for what formats call the background."""
        return IGNORE if name.lower() == BACKGROUND else self.seen.setdefault(name, min(len(self.seen), MOST - 1))

    def require(self, names: Iterable[str], where: str) -> dict[str, int]:
        """The number of every name; none is unknown."""
        return {name: self.index(name) or 0 for name in names}


def names_in(source: Path, form: str) -> list[str]:
    """The names of the classes that labels of a format other than masks mention, in the order in which they come."""
    names = AnyNames()
    with open_source_files(source) as files:
        for _ in reader_of(form)(Reading(files, names, MaskIds())):
            pass
    return list(names.seen)


def colours_in(source: Path) -> Counter[Colour]:
    """The colours of the PNGs in a folder or zip but black, with how many pixels have each.

    Raises
    ------
    VssError
        There are more than a class table can have; such images are no masks.
    """
    counts: Counter[Colour] = Counter()
    with open_source_files(source) as files:
        for name in files.matching("*.png"):
            pixels = read_colour_mask(files.place(name), files.read(name)).astype(np.uint32)
            packed, often = np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2], return_counts=True)
            for value, count in zip(packed.tolist(), often.tolist(), strict=True):
                counts[(value >> 16, value >> 8 & 255, value & 255)] += count
            counts.pop(BLACK, None)
            if len(counts) > MOST:
                raise VssError(
                    f"the masks below {source} have more than {MOST} colours, as smoothed or lossy images have",
                    "export them without smoothing, as PNG, and name the class table: --classes FILE",
                )
    return counts


def table_of_names(names: Iterable[str]) -> list[dict[str, object]]:
    """Rows of a class table, with a colour for each."""
    return [{"name": name, "colour": list(made_up_colour(index))} for index, name in enumerate(names)]


def hexadecimal(colour: Colour) -> str:
    """As designers write it: ``#80ff00``."""
    return "#" + bytes(colour).hex()
