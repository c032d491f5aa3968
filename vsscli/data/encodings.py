"""Encodings: how data sets write the classes of pixels to files.

Whatever the files hold, reading them gives one array of the data set's own mask values, which a `Mapping` converts. An
encoding also says which files of a folder are masks, and to which frame each belongs.

``values``
    PNGs that hold the mask values: VSPW, ADE20K, CamVid, and most others.
``cocostuff``
    The same, or ``*_labelTrainIds.png``, which number the classes without gaps from 0 (255 is void). If a frame has
    both, the former is used.
``cityscapes``
    ``*_labelTrainIds.png`` as above, or ``*_labelIds.png`` with all 34 labels, most of them void.
``coco-panoptic``
    PNGs whose colours are the ids of segments, and a JSON file with the category of each.
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

# Ids of the Cityscapes labels that are evaluated, in the order of their training ids (cityscapesScripts, labels.py).
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
CITYSCAPES_LABELS = 34


class MaskEncoding(ABC):
    """How a data set writes its masks. `read` may be called from several threads and processes."""

    def masks(self, names: Iterable[str]) -> dict[str, str]:
        """Which of a folder's files are masks, in the order of their names: the file to read, by the name of a
        rewritten mask, which is that of its frame with ``.png``. By default all PNGs are masks."""
        found: dict[str, str] = {}
        for name in _pngs(names):
            other = found.setdefault(f"{name[:-4]}.png", name)
            if other != name:
                raise VssError(f"{other} and {name} are masks of one frame", "rename one of them")
        return found

    @abstractmethod
    def read(self, path: Path) -> np.ndarray:
        """Decode a file to the data set's own mask values, (H, W) uint8; `VssError` for ids that it does not have."""

    def parts(self, path: Path) -> tuple[Path, ...]:
        """All files that `read` reads for a mask."""
        return (path,)


@dataclass(frozen=True)
class Values(MaskEncoding):
    """PNGs that hold mask values; ``legend`` has their colours, if known."""

    legend: Legend | None = field(default=None, repr=False)

    def read(self, path: Path) -> np.ndarray:
        return read_mask(path, self.legend)


@dataclass(frozen=True)
class Ending:
    """Files with one ending of their names, which is ``frame`` in the names of their frames, and one meaning of their
    256 values: the data set's own mask value, or 254 for one that must not occur; empty if they are mask values."""

    ending: str
    frame: str
    values: tuple[int, ...] = ()


@dataclass(frozen=True)
class Endings(MaskEncoding):
    """PNGs whose endings say what their values mean; the first one that matches counts. If a frame has several files,
    the one with the last of these endings is used."""

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
                raise VssError(f"{other[1]} and {name} are masks of one frame", "rename one of them")
            if other is None or other[0] < place:
                found[goal] = place, name
        return {goal: name for goal, (_, name) in found.items()}

    def read(self, path: Path) -> np.ndarray:
        place = self._place(path.name)
        if place is None:
            endings = " nor ".join(f"*{ending.ending}" for ending in self.endings)
            raise VssError(f"mask {path} is neither {endings}", "give the data set's own files under their own names")
        raw, values = read_mask(path), self.endings[place].values
        if not values:
            return raw
        table = np.array(values, np.uint8)
        unknown = np.flatnonzero((np.bincount(raw.ravel(), minlength=256) > 0) & (table == UNKNOWN)).tolist()
        if unknown:
            raise VssError(
                f"mask {path} holds {describe_values(unknown)}, which *{self.endings[place].ending} files do not have",
                "download or convert it again",
            )
        return table[raw]

    def _place(self, name: str) -> int | None:
        fits = (place for place, ending in enumerate(self.endings) if name.lower().endswith(ending.ending.lower()))
        return next(fits, None)


@dataclass(frozen=True)
class Panoptic(MaskEncoding):
    """COCO's panoptic PNGs, with the JSON file beside their folder. `read` gives category ids, 0 where there is none; a
    JSON file with another name for one of ``names`` is refused."""

    names: tuple[tuple[int, str], ...] = field(repr=False)

    def read(self, path: Path) -> np.ndarray:
        segments = load_segments(segments_beside(path.parent))
        ids, categories = segments.of(path)
        self._check_names(segments.names, categories, segments.path)
        colours = read_colour_mask(path).astype(np.uint32)
        pixels = colours[..., 0] | colours[..., 1] << 8 | colours[..., 2] << 16
        ids, categories = np.append(ids, np.uint32(2**24)), np.append(categories, np.uint8(0))  # a sentinel
        places = np.searchsorted(ids, pixels)
        void = pixels == 0
        strange = pixels[(ids[places] != pixels) & ~void]
        if len(strange):
            raise VssError(
                f"mask {path} holds {_describe_segments(strange)}, which {segments.path} does not list",
                "use the JSON that belongs to these PNGs, or download both again",
            )
        return np.where(void, np.uint8(0), categories[places])

    def parts(self, path: Path) -> tuple[Path, ...]:
        return path, segments_beside(path.parent)

    def _check_names(self, found: dict[int, str], categories: np.ndarray, path: Path) -> None:
        for category, name in self.names:
            if found.get(category, name) != name and (categories == category).any():
                raise VssError(
                    f"{path} calls category {category} {found[category]!r}, the mapping's source calls it {name!r}",
                    "write a mapping for these categories (`files: coco-panoptic`; `vss remap --help`)",
                )


def find_encoding(kind: str, values: dict[str, int], colours: dict[int, Colour] | None = None) -> MaskEncoding | None:
    """The encoding with a name of `KINDS`, given the mask value of each of the data set's classes, in order, and the
    colours of values, if known; `None` for an unknown name."""
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
    """Both kinds of files in both qualities; frames are named ``*_leftImg8bit.png``."""
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
