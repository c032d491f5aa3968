"""Masks: reading and writing single files, and what their values mean.

Nothing here repairs: a file whose pixels do not all decode is an error that names it. Images are `data.pixels`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.notes import note_text, parse_note, read_by_note
from vsscli.data.orientation import UPRIGHT, image_turn
from vsscli.data.palettes import Legend, read_few_bits, read_palette
from vsscli.data.pixels import named, require_png
from vsscli.data.png import SIGNATURE, Png, encode_label
from vsscli.errors import VssError
from vsscli.files import whole_file

UNKNOWN = 254
"""In a `MaskIds.lookup`: a mask value that is neither void nor a class. No class has this index."""


MODES = {2: "RGB", 4: "LA", 6: "RGBA"}
"""Kinds of colour by their number, as image programs call them."""

NOTE = "vss:first_id"
"""Text in the masks of earlier versions: which value is class 0. Those of today name their classes (`data.notes`)."""

NOTED_WITHIN = 4096
"""Bytes at the start of a PNG that such a note lies in: only header and palette come before it."""


class MaskReader(Protocol):
    """Another way to a mask's values than decoding a PNG of class indices: that of `data.mapping.Mapping`. All but
    `meaning` is as in `data.encodings.MaskEncoding`."""

    def masks(self, names: Iterable[str]) -> dict[str, str]: ...

    def read(self, path: Path) -> np.ndarray: ...

    def parts(self, path: Path) -> tuple[Path, ...]: ...

    def meaning(self) -> dict[str, Any]:
        """What decides the values beside the files, as plain JSON values."""
        ...


@dataclass(frozen=True)
class MaskIds:
    """What the values of a mask mean.

    Parameters
    ----------
    void
        Values that mean no class.
    first
        Value of class 0; the other classes follow.
    unknown
        Whether any other value is an error or void as well.
    reader
        Who reads the masks, where they are not PNGs of these values; it is hashable.
    legend
        What colours the values have; none where that is not known.
    """

    void: tuple[int, ...] = (0, 255)
    first: int = 1
    unknown: Literal["error", "void"] = "error"
    reader: MaskReader | None = None
    legend: Legend | None = None

    def read(self, path: Path) -> np.ndarray:
        """The values of a mask, (H, W) uint8; as `read_mask`, unless a `reader` knows better."""
        return self.decode(path).values

    def decode(self, path: Path) -> Decoded:
        """The values of a mask, and what of them is not as it is stored; a `reader` does not say."""
        if self.reader is None:
            return decode_mask(path, self.legend)
        return Decoded(self.reader.read(path), by_colours=False, turned=False)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files that `read` reads of a mask."""
        return (path,) if self.reader is None else self.reader.parts(path)

    def to_dict(self) -> dict[str, Any]:
        """All that says what masks mean, as plain JSON values."""
        reader = None if self.reader is None else self.reader.meaning()
        return {"void": list(self.void), "first": self.first, "unknown": self.unknown, "reader": reader}

    def lookup(self, num_classes: int) -> np.ndarray:
        """The class of every mask value, (256,) uint8, read-only: class index, 255 for void, and 254 for a value that
        is unknown while ``unknown`` is ``"error"``."""
        return _lookup(self, num_classes)


@lru_cache(maxsize=32)
def _lookup(ids: MaskIds, num_classes: int) -> np.ndarray:
    last = ids.first + num_classes - 1
    if ids.first < 0 or last > 255:
        raise VssError(
            f"{num_classes} classes from mask value {ids.first} on need values up to {last}; masks hold 0..255",
            "lower data.first_id",
        )
    table = np.full(256, UNKNOWN if ids.unknown == "error" else IGNORE, np.uint8)
    table[ids.first : last + 1] = np.arange(num_classes)
    for value in ids.void:
        if not 0 <= value <= 255:
            raise VssError(f"data.void_ids has {value}; masks hold 0..255", "take it out")
        if ids.first <= value <= last:
            raise VssError(
                f"mask value {value} would be void and class {value - ids.first} at once "
                f"(data.void_ids {list(ids.void)}, data.first_id {ids.first}, {num_classes} classes)",
                f"take {value} out of data.void_ids, or move data.first_id",
            )
        table[value] = IGNORE
    table.flags.writeable = False
    return table


def read_mask(path: Path, legend: Legend | None = None) -> np.ndarray:
    """Decode a mask to its values, upright.

    They are the numbers that are stored, whatever palette colours them, unless the mask names its classes, as those
    that vss writes do (`data.notes`), or its palette was numbered anew (`data.palettes`).

    Parameters
    ----------
    path
        The file.
    legend
        What values mean, where that is known.

    Returns
    -------
    ndarray
        (H, W) uint8.

    Raises
    ------
    VssError
        The file is missing, damaged or truncated, is no PNG, holds colours or 16-bit values above 255 instead of class
        indices, names a class that ``legend`` lacks, or has a palette that contradicts its values.
    """
    return decode_mask(path, legend).values


class Decoded(NamedTuple):
    """A mask's values (H, W) uint8, and whether they are not the numbers in its file, one by one: told from the colours
    of a palette that was numbered anew, turned upright."""

    values: np.ndarray
    by_colours: bool
    turned: bool


def decode_mask(path: Path, legend: Legend | None = None, data: bytes | None = None) -> Decoded:
    """Decode a mask as `read_mask` does, and say what of it is not as it is stored. ``data`` is what the file holds,
    where it lies in an archive; ``path`` is then what to call it."""
    with _mask_file(path, data) as png:
        if png.colour not in (0, 3):
            kind = "two-channel" if png.colour == 4 else "colour"
            raise VssError(
                f"mask {path} is a {kind} PNG (mode {MODES[png.colour]}), not one of 8-bit class indices",
                "save one channel of 8 bits, or a palette image, whose values are the class ids",
            )
        if png.depth == 8 and not png.notes:
            values, turn = png.numbers(), UPRIGHT
        else:
            image = png.open(png.inflate())
            values, turn = np.array(image), image_turn(image)
        if png.depth == 16 and values.max() > 255:
            raise VssError(
                f"mask {path} is a 16-bit PNG that holds value {values.max()}; masks hold 0..255",
                "save one channel of 8 bits, whose values are the class ids",
            )
        stored = values = values.astype(np.uint8, copy=False)
        if png.classes and legend is not None and legend.names:
            palette = png.palette if png.colour == 3 else b""
            values = read_by_note(values, parse_note(png.classes), palette, legend, f"mask {path}")
            return Decoded(turn.apply(values), by_colours=False, turned=turn != UPRIGHT)
        if png.colour == 3:
            values = read_palette(stored, png.palette, png.alpha, legend, f"mask {path}")
        elif png.depth < 8:
            stretch = {2: 85, 4: 17}.get(png.depth, 1)  # what Pillow multiplies them with, indices or not
            values = read_few_bits(values // stretch, png.depth, legend, f"mask {path}")
        return Decoded(turn.apply(values), png.colour == 3 and values is not stored, turn != UPRIGHT)


@contextmanager
def _mask_file(path: Path, data: bytes | None) -> Iterator[Png]:
    """A mask's file, taken apart; whatever goes wrong until the block ends is an error that names it."""
    if data is not None and not data.startswith(SIGNATURE):
        raise VssError(f"mask {path} is no PNG", "write masks as PNGs; JPEG changes values where they meet others")
    with named(path, ("PNG",), "mask"):
        yield require_png(path.read_bytes() if data is None else data, path, "mask")


def read_colour_mask(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode a mask whose colours are numbers, as COCO panoptic's are, upright: (H, W, 3) uint8. A palette's colours
    are as good as an image's; a mask without colours is an error. ``data`` as in `decode_mask`."""
    with _mask_file(path, data) as png:
        image, grey = png.open(png.inflate()), png.colour in (0, 4)
        if (grey and np.any(np.asarray(image))) or png.depth == 16:
            channels = "one channel" if grey else "16 bits a channel"
            raise VssError(
                f"mask {path} has {channels} (mode {image.mode}), not three of 8 bits whose colours number segments",
                "give the panoptic PNGs; for masks of class ids there are other sources (`vss remap --help`)",
            )
        image.info.pop("transparency", None)
        return image_turn(image).apply(np.array(image.convert("RGB")))


def write_mask(path: Path, label: np.ndarray, table: ClassTable | None = None, first: int = 0) -> None:
    """Write a mask so that it is there whole or not at all.

    Parameters
    ----------
    path
        Where to; its folder is made.
    label
        (H, W) uint8.
    table
        Its classes, for a palette PNG in their colours that names them (`data.notes`); without, it is a grey one.
    first
        Value of class 0; 255 is void.
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise TypeError(f"a mask is (H, W) uint8, not {label.shape} {label.dtype}")
    data = encode_mask(label, table, first)
    # Not synced: a mask that a power cut leaves half does not decode, and is made again.
    with whole_file(path, "mask", sync=False) as part:
        part.write_bytes(data)


def encode_mask(label: np.ndarray, table: ClassTable | None = None, first: int = 0) -> bytes:
    """The bytes of the file that `write_mask` writes."""
    if table is None:
        return encode_label(label)
    palette = table.palette(first)
    return encode_label(label, palette, note_text(table, first, palette))


def noted_first(path: Path) -> int | None:
    """The value of class 0 that a mask of ours notes; None where it notes none, or can't be read."""
    try:
        with open(path, "rb") as file:
            head = file.read(NOTED_WITHIN)
    except OSError:
        return None
    begin = f"tEXt{NOTE}\0".encode()
    at = head.find(begin)
    if at < 4:
        return None
    told = head[at + len(begin) : at + 4 + int.from_bytes(head[at - 4 : at], "big")]
    return int(told) if told.isdigit() and len(told) <= 3 else None


def to_classes(raw: np.ndarray, ids: MaskIds, num_classes: int, path: Path) -> np.ndarray:
    """Class indices of a mask.

    Parameters
    ----------
    raw
        (H, W) uint8, as `read_mask` gives it.
    ids
        What its values mean.
    num_classes
        C.
    path
        The mask's file, for the error.

    Returns
    -------
    ndarray
        (H, W) uint8: 0..C-1, and 255 for void.

    Raises
    ------
    VssError
        Values that are neither void nor a class, while ``ids.unknown`` is ``"error"``.
    """
    unknown = unknown_values(raw, ids, num_classes)
    if unknown:
        last = ids.first + num_classes - 1
        # Taking all that a mask holds for void is never the remedy: it would train on nothing, without a word.
        left = (np.bincount(raw.ravel(), minlength=256) > 0) & (ids.lookup(num_classes) < UNKNOWN)
        void = "; if they mean no class, set data.unknown_ids: void" if left.any() else ""
        raise VssError(
            f"mask {path} holds {describe_values(unknown)}, outside the {num_classes} classes ({ids.first}..{last})",
            f"say by a mapping which class they are (data.remap, `vss remap --help`){void}",
        )
    return ids.lookup(num_classes)[raw]


def unknown_values(raw: np.ndarray, ids: MaskIds, num_classes: int) -> list[int]:
    """The values of a mask that are neither void nor a class, rising; none when ``ids.unknown`` is ``"void"``."""
    table = ids.lookup(num_classes)
    if ids.unknown == "void":
        return []
    present = np.bincount(raw.ravel(), minlength=256) > 0
    return np.flatnonzero(present & (table == UNKNOWN)).tolist()


def describe_values(values: list[int]) -> str:
    """`value 13`, or `values 13, 14, 15 and 5 more`."""
    shown = ", ".join(map(str, values[:8]))
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return f"value{'s' if len(values) > 1 else ''} {shown}{more}"
