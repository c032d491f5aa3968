"""The formats by name: the one place that lists them."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from vsscli.errors import VssError
from vsscli.exchange.coco import CocoWriter, read_coco
from vsscli.exchange.colour import ColourWriter, VocWriter, read_colour, read_voc
from vsscli.exchange.cvat import CvatVideoWriter, CvatWriter, read_cvat
from vsscli.exchange.datumaro import DatumaroWriter
from vsscli.exchange.fiftyone import FiftyOneWriter
from vsscli.exchange.items import Read, Write
from vsscli.exchange.labelme import LabelmeWriter, read_labelme
from vsscli.exchange.labelstudio import LabelStudioWriter, read_label_studio
from vsscli.exchange.panoptic import PanopticWriter, read_panoptic
from vsscli.exchange.png import PngWriter, read_png
from vsscli.exchange.video import VideoWriter
from vsscli.exchange.yolo import YoloWriter, read_yolo


@dataclass(frozen=True)
class Format:
    """How a format is read and written, where it is.

    ``single`` is the suffix of the one file that it may be written to in place of a folder; ``polygons`` says whether
    it takes outlines instead of masks; ``zipped`` whether a zip may be written; ``numbered`` whether frames go by their
    numbers in the video, which the data set knows.
    """

    read: Read | None
    write: Write | None
    single: str = ""
    polygons: bool = False
    zipped: bool = True
    numbered: bool = False


FORMATS: dict[str, Format] = {
    "png": Format(read_png, PngWriter),
    "colour": Format(read_colour, ColourWriter),
    "voc": Format(read_voc, VocWriter),
    "cvat": Format(read_cvat, CvatWriter, single=".xml", polygons=True),
    "cvat-video": Format(None, CvatVideoWriter, single=".xml", polygons=True, zipped=False, numbered=True),
    "coco": Format(read_coco, CocoWriter, single=".json", polygons=True),
    "coco-panoptic": Format(read_panoptic, PanopticWriter),
    "label-studio": Format(read_label_studio, LabelStudioWriter, single=".json", polygons=True),
    "labelme": Format(read_labelme, LabelmeWriter, polygons=True),
    "yolo": Format(read_yolo, YoloWriter, polygons=True),
    "video": Format(None, VideoWriter, single=".mp4", zipped=False),
    "fiftyone": Format(None, FiftyOneWriter, zipped=False),
    "datumaro": Format(None, DatumaroWriter, single=".json"),
}

READ = tuple(name for name, form in FORMATS.items() if form.read is not None)
WRITTEN = tuple(name for name, form in FORMATS.items() if form.write is not None)


def reader_of(name: str) -> Read:
    """Who reads a format; VssError where nobody does."""
    form = FORMATS.get(name)
    if form is None or form.read is None:
        raise _unknown("--from", name, READ)
    return form.read


def writer_of(name: str) -> tuple[Write, Format]:
    """Who writes a format, and the format; VssError where nobody does."""
    form = FORMATS.get(name)
    if form is None or form.write is None:
        raise _unknown("--to", name, WRITTEN)
    return form.write, form


def _unknown(option: str, name: str, known: tuple[str, ...]) -> VssError:
    near = get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}? " if near else ""
    return VssError(f"{option} {name}: no such format", f"{meant}it is one of {', '.join(known)}")
