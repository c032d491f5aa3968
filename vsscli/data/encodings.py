"""Encodings: how data sets write the classes of pixels into files.

Whatever the files hold, what is read is one array of the source's own mask values: `Mapping` knows what becomes of
those. An encoding also tells which files of a folder are masks, and the name of the frame that each belongs to.

``values``
    PNGs that hold the mask values as they are: VSPW, ADE20K, CamVid, and most others.
``cocostuff``
    The same, and ``*_labelTrainIds.png``, which count the classes through from 0 (255 is void). Where a frame has
    both, the first is taken.
``cityscapes``
    ``*_labelTrainIds.png`` as above, and ``*_labelIds.png`` with all 34 labels, most of them void.
``coco-panoptic``
    Colour PNGs whose colours number segments, and a JSON that tells the category of each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vsscli.data.classes import IGNORE, Colour
from vsscli.data.masks import UNKNOWN, describe_values, read_colour_mask, read_mask
from vsscli.data.palettes import Legend
from vsscli.data.panoptic import load_segments, segments_beside
from vsscli.errors import VssError

TRAIN_IDS = "_labelTrainIds.png"

# Ids of Cityscapes' labels that are evaluated, in the order of their training ids (cityscapesScripts, labels.py).
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LABELS = 34


class MaskEncoding(ABC):
    """How one data set writes its masks. Its `read` is safe in threads and processes."""

    def masks(self, names: Iterable[str]) -> dict[str, str]:
        """Which of a folder's files are masks: for the name that a rewritten mask gets, that of its frame with
        ``.png``, the file to read, in the order of the names. All PNGs, where nothing else is said."""
        found: dict[str, str] = {}
        for name in _pngs(names):
            other = found.setdefault(f"{name[:-4]}.png", name)
            if other != name:
                raise VssError(f"{other} and {name} would be one mask", "rename one of them")
        return found

    @abstractmethod
    def read(self, path: Path) -> np.ndarray:
        """Decode a file to the source's own mask values, (H, W) uint8; ids that the data set does not have are an
        error."""

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files that `read` reads of a mask."""
        return (path,)


@dataclass(frozen=True)
class Values(MaskEncoding):
    """PNGs that hold mask values as they are; ``legend``: what these are painted as, where the source tells."""

    legend: Legend | None = field(default=None, repr=False)

    def read(self, path: Path) -> np.ndarray:
        return read_mask(path, self.legend)


@dataclass(frozen=True)
class Ending:
    """Files whose names end alike, ``frame`` being the end of their frames' names instead, and whose values mean the
    same: the source's own for each of the 256, or 254 for one that may not occur; empty: as they are."""

    ending: str
    frame: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Endings(MaskEncoding):
    """PNGs whose names tell how their values count: by the first ending that fits. Of two files for one frame the one
    with the later ending counts."""

    endings: tuple[Ending, ...]

    def masks(self, names: Iterable[str]) -> dict[str, str]:
        found: dict[str, tuple[int, str]] = {}
        for name in _pngs(names):
            place = self._place(name)
            if place is None:
                continue
            ending = self.endings[place]
            goal = name[: len(name) - len(ending.ending)] + ending.frame
            other = found.get(goal)
            if other is not None and other[0] == place:
                raise VssError(f"{other[1]} and {name} would be one mask", "rename one of them")
            if other is None or other[0] < place:
                found[goal] = place, name
        return {goal: name for goal, (_, name) in found.items()}

    def read(self, path: Path) -> np.ndarray:
        place = self._place(path.name)
        if place is None:
            endings = " nor ".join(f"*{ending.ending}" for ending in self.endings)
            raise VssError(f"mask {path} is neither {endings}", "give the data set's own files, with their names")
        raw, values = read_mask(path), self.endings[place].values
        if not values:
            return raw
        table = np.array(values, np.uint8)
        unknown = np.flatnonzero((np.bincount(raw.ravel(), minlength=256) > 0) & (table == UNKNOWN)).tolist()
        if unknown:
            raise VssError(
                f"mask {path} holds {describe_values(unknown)}, which *{self.endings[place].ending} files do not have",
                "fetch or convert it again",
            )
        return table[raw]

    def _place(self, name: str) -> int | None:
        fits = (place for place, ending in enumerate(self.endings) if name.lower().endswith(ending.ending.lower()))
        return next(fits, None)


@dataclass(frozen=True)
class Panoptic(MaskEncoding):
    """COCO's panoptic PNGs, with the JSON beside their folder. What is read is category ids, 0 where there is none; a
    JSON that calls one of ``names`` otherwise is refused."""

    names: tuple[tuple[int, str], ...] = field(repr=False)

    def read(self, path: Path) -> np.ndarray:
        segments = load_segments(segments_beside(path.parent))
        ids, categories = segments.of(path)
        self._check_names(segments.names, categories, segments.path)
        colours = read_colour_mask(path).astype(np.uint32)
        pixels = colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16
        ids, categories = np.append(ids, np.uint32(2**24)), np.append(categories, np.uint8(0))  # ends every search
        places = np.searchsorted(ids, pixels)
        void = pixels == 0
        strange = pixels[(ids[places] != pixels) & ~void]
        if len(strange):
            raise VssError(
                f"mask {path} holds {_describe_segments(strange)}, of which {segments.path} does not tell",
                "use the JSON that belongs to these PNGs, or fetch both again",
            )
        return np.where(void, np.uint8(0), categories[places])

    def parts(self, path: Path) -> tuple[Path, ...]:
        return path, segments_beside(path.parent)

    def _check_names(self, told: dict[int, str], categories: np.ndarray, path: Path) -> None:
        for category, name in self.names:
            if told.get(category, name) != name and (categories == category).any():
                raise VssError(
                    f"{path} calls category {category} {told[category]!r}, the mapping's source calls it {name!r}",
                    "write a mapping for these categories (`files: coco-panoptic`; `vss remap --help`)",
                )


def find_encoding(kind: str, values: dict[str, int], colours: dict[int, Colour] | None = None) -> MaskEncoding | None:
    """The encoding of a name of `KINDS`, for the source's own mask value of each of its classes, in their order, and
    the colour of each value where the source tells them; none when there is no such."""
    if kind == "values":
        void = tuple(value for value in (0, IGNORE) if colours and value not in colours)
        return Values(Legend(tuple(colours.items()), void) if colours else None)
    own = tuple(values.values())
    counted = (*own, *[UNKNOWN] * (255 - len(own)), IGNORE)
    if kind == "cocostuff":
        return Endings((Ending(TRAIN_IDS, ".png", counted), Ending(".png", ".png")))
    if kind == "cityscapes":
        return Endings(_cityscapes_endings(counted))
    return Panoptic(tuple((value, name) for name, value in values.items())) if kind == "coco-panoptic" else None


KINDS = ("values", "cocostuff", "cityscapes", "coco-panoptic")


def _cityscapes_endings(counted: tuple[int, ...]) -> tuple[Ending, ...]:
    """Both kinds of files of both qualities; a frame is called ``*_leftImg8bit.png``."""
    all_labels = [IGNORE] * CITYSCAPES_LABELS + [UNKNOWN] * (255 - CITYSCAPES_LABELS) + [IGNORE]
    for place, label in enumerate(CITYSCAPES_IDS):
        all_labels[label] = counted[place]
    return tuple(
        Ending(f"_{quality}{ending}", "_leftImg8bit.png", values)
        for ending, values in ((TRAIN_IDS, counted), ("_labelIds.png", tuple(all_labels)))
        for quality in ("gtCoarse", "gtFine")
    )


def _pngs(names: Iterable[str]) -> list[str]:
    return [name for name in sorted(names) if name.lower().endswith(".png") and not name.startswith(".")]


def _describe_segments(pixels: np.ndarray) -> str:
    ids = np.unique(pixels)
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"segment{'s' if len(ids) > 1 else ''} {', '.join(map(str, ids[:3].tolist()))}{more}"
