"""Masks: reading and writing single files, and what their values mean.

Nothing is repaired: a file whose pixels do not all decode is an error that names it. `data.pixels` reads images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.notes import note_text, noted_table, parse_note, read_by_note
from vsscli.data.orientation import UPRIGHT, image_turn
from vsscli.data.palettes import Legend, read_few_bits, read_palette
from vsscli.data.pixels import named, require_png
from vsscli.data.png import CLASSES, SIGNATURE, Png, encode_label, parse_png
from vsscli.errors import VssError
from vsscli.files import whole_file

UNKNOWN = 254
"""In a `MaskIds.lookup`: a mask value that is neither void nor a class. No class has this index."""


MODES = {2: "RGB", 4: "LA", 6: "RGBA"}
"""Names of PNG colour types in image programs."""

NOTE = "vss:first_id"
"""Text in masks of earlier versions: the value of class 0. Current masks name their classes (`data.notes`)."""

NOTED_WITHIN = 4096
"""The note is within this many bytes of a PNG: only header and palette come before it."""


class MaskReader(Protocol):
    """A way to read masks that are not PNGs of class indices: `data.mapping.Mapping`. All methods but `meaning` are as
    in `data.encodings.MaskEncoding`."""

    def masks(self, names: Iterable[str]) -> dict[str, str]: ...

    def read(self, path: Path) -> np.ndarray: ...

    def parts(self, path: Path) -> tuple[Path, ...]: ...

    def meaning(self) -> dict[str, Any]:
        """What determines the values apart from the files, as plain JSON values."""
        ...


@dataclass(frozen=True)
class MaskIds:
    """What the values of a mask mean.

    Parameters
    ----------
    void
        Values without a class.
    first
        Value of class 0; the other classes follow.
    unknown
        Whether any other value is an error, or void, too.
    reader
        Reads the masks if they are not PNGs of these values; hashable.
    legend
        Colours of the values, and names of the classes; `None` if unknown.
    """

    void: tuple[int, ...] = (0, 255)
    first: int = 1
    unknown: Literal["error", "void"] = "error"
    reader: MaskReader | None = None
    legend: Legend | None = None

    def read(self, path: Path) -> np.ndarray:
        """The values of a mask, (H, W) uint8, from `reader`, or by default as `read_mask`."""
        return self.decode(path).values

    def decode(self, path: Path) -> Decoded:
        """The values of a mask, and how they differ from the stored ones, which a `reader` does not report."""
        if self.reader is None or (self.legend is not None and names_classes(path)):
            return decode_mask(path, self.legend)  # what vss wrote says itself what it means
        return Decoded(self.reader.read(path), by_colours=False, turned=False)

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files that `read` reads for a mask."""
        return (path,) if self.reader is None else self.reader.parts(path)

    def to_dict(self) -> dict[str, Any]:
        """What masks mean, as plain JSON values."""
        reader = None if self.reader is None else self.reader.meaning()
        return {"void": list(self.void), "first": self.first, "unknown": self.unknown, "reader": reader}

    def lookup(self, num_classes: int) -> np.ndarray:
        """The class of every mask value, (256,) uint8, read-only: class index, 255 for void, and 254 for an unknown
        value if ``unknown`` is ``"error"``."""
        return _lookup(self, num_classes)


@lru_cache(maxsize=32)
def _lookup(ids: MaskIds, num_classes: int) -> np.ndarray:
    last = ids.first + num_classes - 1
    if ids.first < 0 or last > 255:
        raise VssError(
            f"{num_classes} classes from mask value {ids.first} on need values up to {last}; masks have 0..255",
            "lower data.first_id",
        )
    table = np.full(256, UNKNOWN if ids.unknown == "error" else IGNORE, np.uint8)
    table[ids.first : last + 1] = np.arange(num_classes)
    for value in ids.void:
        if not 0 <= value <= 255:
            raise VssError(f"data.void_ids has {value}; masks have 0..255", "remove it")
        if ids.first <= value <= last:
            raise VssError(
                f"mask value {value} would be both void and class {value - ids.first} "
                f"(data.void_ids {list(ids.void)}, data.first_id {ids.first}, {num_classes} classes)",
                f"remove {value} from data.void_ids, or change data.first_id",
            )
        table[value] = IGNORE
    table.flags.writeable = False
    return table


def read_mask(path: Path, legend: Legend | None = None) -> np.ndarray:
    """Decode a mask to its values, upright.

    They are the stored numbers, whatever colours a palette gives them, unless the mask names its classes, as those of
    vss do (`data.notes`), or its palette was renumbered (`data.palettes`).

    Parameters
    ----------
    path
        The file.
    legend
        What values mean, if known.

    Returns
    -------
    ndarray
        (H, W) uint8.

    Raises
    ------
    VssError
        The file is missing, damaged or truncated, is not a PNG, holds colours or 16-bit values above 255 instead of
        class indices, names a class that ``legend`` lacks, or has a palette that contradicts its values.
    """
    return decode_mask(path, legend).values


class Decoded(NamedTuple):
    """A mask's values (H, W) uint8, and how they differ from the stored ones: whether they were read by the colours of
    a renumbered palette, and whether the mask was turned upright."""

    values: np.ndarray
    by_colours: bool
    turned: bool


def decode_mask(path: Path, legend: Legend | None = None, data: bytes | None = None) -> Decoded:
    """Decode a mask like `read_mask`, and report how its values differ from the stored ones. ``data`` is the file's
    content if it is in an archive; ``path`` then only names it."""
    with _mask_file(path, data) as png:
        if png.colour not in (0, 3):
            kind = "two-channel" if png.colour == 4 else "colour"
            raise VssError(
                f"mask {path} is a {kind} PNG (mode {MODES[png.colour]}), not one of 8-bit class indices",
                "save one 8-bit channel, or a palette image, whose values are the class ids",
            )
        if png.depth == 8 and not png.notes:
            values, turn = png.numbers(), UPRIGHT
        else:
            image = png.open(png.inflate())
            values, turn = np.array(image), image_turn(image)
        if png.depth == 16 and values.max() > 255:
            raise VssError(
                f"mask {path} is a 16-bit PNG with value {values.max()}; masks have 0..255",
                "save one 8-bit channel whose values are the class ids",
            )
        stored = values = values.astype(np.uint8, copy=False)
        if png.classes and legend is not None and legend.names:
            palette = png.palette if png.colour == 3 else b""
            values = read_by_note(values, parse_note(png.classes), palette, legend, f"mask {path}")
            return Decoded(turn.apply(values), by_colours=False, turned=turn != UPRIGHT)
        if png.colour == 3:
            values = read_palette(stored, png.palette, png.alpha, legend, f"mask {path}")
        elif png.depth < 8:
            stretch = {2: 85, 4: 17}.get(png.depth, 1)  # Pillow multiplies values by this, even if they are indices
            values = read_few_bits(values // stretch, png.depth, legend, f"mask {path}")
        return Decoded(turn.apply(values), png.colour == 3 and values is not stored, turn != UPRIGHT)


@contextmanager
def _mask_file(path: Path, data: bytes | None) -> Iterator[Png]:
    """The parsed file of a mask; any error in the block becomes a `VssError` that names it."""
    if data == b"":
        raise VssError(f"mask {path} is empty (0 bytes)", "save it again, or remove it")
    if data is not None and not data.startswith(SIGNATURE):
        raise VssError(f"mask {path} is not a PNG", "write masks as PNGs; JPEG changes values near edges")
    with named(path, ("PNG",), "mask"):
        yield require_png(path.read_bytes() if data is None else data, path, "mask")


def read_colour_mask(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode a mask whose colours are numbers, as COCO panoptic's are, upright: (H, W, 3) uint8. A palette's colours
    are as good as an image's; a mask without colours is an error. ``data`` as in `decode_mask`."""
    with _mask_file(path, data) as png:
        image, grey = png.open(png.inflate()), png.colour in (0, 4)
        if (grey and np.any(np.asarray(image))) or png.depth == 16:
            channels = "one channel" if grey else "16 bits per channel"
            raise VssError(
                f"mask {path} has {channels} (mode {image.mode}), not three 8-bit channels with the ids of segments",
                "give the panoptic PNGs; for masks of class ids use another source (`vss remap --help`)",
            )
        image.info.pop("transparency", None)
        return image_turn(image).apply(np.array(image.convert("RGB")))


def write_mask(path: Path, label: np.ndarray, table: ClassTable | None = None, first: int = 0) -> None:
    """Write a mask atomically.

    Parameters
    ----------
    path
        The file; its folder is created.
    label
        (H, W) uint8.
    table
        Its classes, for a palette PNG in their colours that names them (`data.notes`); `None`: the PNG is grey.
    first
        Value of class 0; 255 is void.
    """
    if label.dtype != np.uint8 or label.ndim != 2:
        raise TypeError(f"a mask must be (H, W) uint8, not {label.shape} {label.dtype}")
    data = encode_mask(label, table, first)
    # Not synced: after a power cut an incomplete mask does not decode, and is written again.
    with whole_file(path, "mask", sync=False) as part:
        part.write_bytes(data)


def encode_mask(label: np.ndarray, table: ClassTable | None = None, first: int = 0) -> bytes:
    """The bytes of the file that `write_mask` writes."""
    if table is None:
        return encode_label(label)
    palette = table.palette(first)
    return encode_label(label, palette, note_text(table, first, palette))


def names_classes(path: Path) -> bool:
    """Whether a mask names its classes (`data.notes`); not if it can't be read."""
    return CLASSES in _head(path)


def noted_first(path: Path) -> int | None:
    """The value of class 0 recorded in a mask that vss wrote; `None` if there is none, or the file can't be read."""
    return first_in(_head(path))


def first_in(head: bytes) -> int | None:
    """The same of the bytes that such a file begins with."""
    begin = f"tEXt{NOTE}\0".encode()
    at = head.find(begin)
    if at < 4:
        return None
    noted = head[at + len(begin) : at + 4 + int.from_bytes(head[at - 4 : at], "big")]
    return int(noted) if noted.isdigit() and len(noted) <= 3 else None


def noted_classes(path: Path) -> ClassTable:
    """The classes that a mask names itself.

    Raises
    ------
    VssError
        It does not, or can't be read.
    """
    with suppress(ValueError, OSError):
        png = parse_png(path.read_bytes())
        if png.classes:
            return noted_table(png.classes, png.palette, "classes")[0]
    raise VssError(f"mask {path} does not name its classes", "say what they are with --data ROOT or --recipe FILE")


def _head(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(NOTED_WITHIN)
    except OSError:
        return b""


def to_classes(raw: np.ndarray, ids: MaskIds, num_classes: int, path: Path) -> np.ndarray:
    """Class indices of a mask.

    Parameters
    ----------
    raw
        (H, W) uint8, from `read_mask`.
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
        There are values that are neither void nor a class, and ``ids.unknown`` is ``"error"``.
    """
    unknown = unknown_values(raw, ids, num_classes)
    if unknown:
        last = ids.first + num_classes - 1
        # Never advise to make all values void: training would silently have no labels.
        left = (np.bincount(raw.ravel(), minlength=256) > 0) & (ids.lookup(num_classes) < UNKNOWN)
        void = "; if they mean no class, set data.unknown_ids: void" if left.any() else ""
        raise VssError(
            f"mask {path} holds {describe_values(unknown)}, outside of the {num_classes} classes ({ids.first}..{last})",
            f"map them to classes with a mapping (data.remap, `vss remap --help`){void}",
        )
    return ids.lookup(num_classes)[raw]


def unknown_values(raw: np.ndarray, ids: MaskIds, num_classes: int) -> list[int]:
    """The values of a mask that are neither void nor a class, ascending; empty if ``ids.unknown`` is ``"void"``."""
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
