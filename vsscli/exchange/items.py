"""What passes between vss and a format: frames with their labels, one at a time, so that memory does not grow.

A format is read by a function that yields `Found`, and written by a `Writer` that is given `Item` after `Item`.
`exchange.catalogue` lists them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.videos import Frame
from vsscli.exchange.names import ClassNames
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import Source

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Item:
    """A frame to be written.

    Parameters
    ----------
    video, stem
        Its address.
    label
        (H, W) uint8: class indices, 255 for void.
    number
        Its place in the video, from 0; if the data set is not known, in the prediction of the video.
    frame
        The frame of the data set, where it is known.
    flat
        Whether files are named after both video and frame instead of being in a folder of the video: programs that
        take files without their folders keep them apart.
    """

    video: str
    stem: str
    label: np.ndarray
    number: int = 0
    frame: Frame | None = None
    flat: bool = False

    @property
    def address(self) -> str:
        """``<video>/<stem>``."""
        return f"{self.video}/{self.stem}"

    @property
    def name(self) -> str:
        """The name of its files without suffix: its address, or if `flat`, ``<video>_<stem>``."""
        return flat_name(self.video, self.stem) if self.flat else self.address

    @property
    def file_name(self) -> str:
        """The name of its image: that of its own file in a folder of the video, or `name` as PNG."""
        return f"{self.name}.png" if self.image is None or self.flat else f"{self.video}/{self.image.name}"

    @property
    def image(self) -> Path | None:
        """The file that is the frame's image; `None` if there is none, or it is a frame of a video file."""
        return self.frame.image if self.frame is not None and self.frame.number is None else None

    @property
    def size(self) -> Size:
        """H, W."""
        return self.label.shape[0], self.label.shape[1]


def flat_name(video: str, stem: str) -> str:
    """The name of a frame among those of other videos."""
    return f"{video}_{stem}"


@dataclass(frozen=True)
class Numbered:
    """A frame by its number in a video.

    Parameters
    ----------
    videos
        What the video may be called, the likeliest first; empty if the source does not say.
    number
        From 0.
    """

    videos: tuple[str, ...]
    number: int


@dataclass(frozen=True)
class Found:
    """A frame that a source has labels of.

    Parameters
    ----------
    name
        What the source calls it: a path, with or without a suffix.
    size
        Its size as the source says it; None where coordinates are relative.
    draw
        Its labels at a size, (H, W) uint8: class indices, 255 for void. To be called, if at all, before the next frame
        is taken.
    numbered
        Which frame it is, if the source goes by number instead of by name.
    """

    name: str
    size: Size | None
    draw: Callable[[Size], np.ndarray]
    numbered: Numbered | None = None


@dataclass
class Reading:
    """What a reader is given: the files, the classes by name, and where to count what it can't take.

    ``ids`` says what the values of masks mean that don't name their classes; ``left_out`` counts what is left out by
    kind, such as boxes, and ``remarks`` what was decided, for the report.
    """

    source: Source
    names: ClassNames
    ids: MaskIds
    left_out: Counter[str] = field(default_factory=Counter)
    remarks: Counter[str] = field(default_factory=Counter)


Read = Callable[[Reading], Iterator[Found]]


@dataclass(frozen=True)
class Choices:
    """How a format is written, where it leaves a choice.

    Parameters
    ----------
    polygons
        Outlines instead of masks.
    tolerance
        Pixels by which simplified outlines may stray; 0 keeps every corner.
    fps
        Frames per second of a video; `None`: those of the video file that was predicted, or 10.
    overlay
        Draw a video's colours over its frames.
    """

    polygons: bool = False
    tolerance: float = 0.0
    fps: float | None = None
    overlay: bool = False


class Writer(ABC):
    """Writes frames in a format: `add` is called with each, then `finish` once; memory keeps nothing of a frame."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        self.sink = sink
        self.table = table
        self.choices = choices

    @abstractmethod
    def add(self, item: Item) -> None:
        """Write one frame."""

    def finish(self) -> dict[str, float]:
        """Write what comes last; figures of what the format lost, if it loses anything, by name."""
        return {}

    def close(self, error: BaseException | None) -> None:  # noqa: B027 - most have nothing to do
        """Leave nothing unfinished behind; called last, with what broke the writing off, if anything did."""


class Write(Protocol):
    """How a writer is made."""

    def __call__(self, sink: Sink, table: ClassTable, choices: Choices) -> Writer: ...
