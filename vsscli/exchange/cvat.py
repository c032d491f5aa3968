"""CVAT's XML, "CVAT for images 1.1" and "CVAT for video 1.1", alone or in its zip.

Written for images, as masks, which are exact, or as polygons. Read, shapes are painted in their z-order, and in the
order of the file where that is equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.pixels import require_pixels
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Found, Item, Reading, Size, Writer
from vsscli.exchange.polygons import Fidelity, traced
from vsscli.exchange.rle import decode_counts, row_counts
from vsscli.exchange.shapes import DAMAGE, Draw, draw_shapes, pixels, polygon
from vsscli.exchange.sink import Sink
from vsscli.exchange.spool import Spool
from vsscli.exchange.tracks import add_track, tracked
from vsscli.exchange.xmlparts import Element, xml_parts

NAME = "annotations.xml"
AREAS = ("mask", "polygon")
OTHERS = ("box", "polyline", "points", "cuboid", "skeleton", "ellipse", "tag")


class CvatWriter(Writer):
    """``annotations.xml``: what "Upload annotations" of a task takes, in the format "CVAT 1.1" for images."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._images, self._frames = sink.scratch(), 0
        self._fidelity = Fidelity()

    def add(self, item: Item) -> None:
        height, width = item.size
        name = quoteattr(item.file_name)
        self._images.write(f'<image id="{self._frames}" name={name} width="{width}" height="{height}">\n'.encode())
        for shape in self._polygons(item) if self.choices.polygons else self._masks(item):
            self._images.write(shape.encode())
        self._images.write(b"</image>\n")
        self._frames += 1

    def _masks(self, item: Item) -> Iterator[str]:
        present = np.bincount(item.label.ravel(), minlength=256)[: self.table.num_classes]
        for index in np.flatnonzero(present).tolist():
            rle, left, top, width, height = boxed_runs(item.label == index)
            box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            yield f'<mask {self._common(index)} rle="{", ".join(map(str, rle))}" {box} z_order="0"></mask>\n'

    def _polygons(self, item: Item) -> Iterator[str]:
        for index, found in traced(item.label, self.table.num_classes, self.choices.tolerance, self._fidelity):
            for region in found:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in region.keyhole())
                yield f'<polygon {self._common(index)} points="{points}" z_order="0"></polygon>\n'

    def _common(self, index: int) -> str:
        return f'label={quoteattr(self.table.names[index])} source="auto" occluded="0"'

    def finish(self) -> dict[str, float]:
        rows = zip(self.table.names, self.table.colours, strict=True)
        labels = "".join(
            f"<label><name>{escape(name)}</name><color>#{bytes(colour).hex()}</color><attributes></attributes></label>"
            for name, colour in rows
        )
        meta = f"<meta><task><size>{self._frames}</size><mode>annotation</mode><labels>{labels}</labels></task></meta>"
        head = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
        self.sink.gather(NAME, head.encode(), self._images, b"</annotations>\n")
        return self._fidelity.figures() if self.choices.polygons else {}


def boxed_runs(mask: np.ndarray) -> tuple[list[int], int, int, int, int]:
    """CVAT's runs of a mask (H, W) bool that holds something, within its box: runs, left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = map(int, (rows[0], rows[-1] + 1, columns[0], columns[-1] + 1))
    return row_counts(mask[top:bottom, left:right]), left, top, right - left, bottom - top


def read_cvat(reading: Reading) -> Iterator[Found]:
    """The frames of all XML files of a source: images, then those that tracks are in."""
    source = reading.source
    files = source.matching("*.xml")
    if not files:
        raise VssError(f"{source.path} holds no {NAME}", "export the task as CVAT for images 1.1 or CVAT for video 1.1")
    for name in files:
        yield from _read_file(reading, name)


def _read_file(reading: Reading, name: str) -> Iterator[Found]:
    where = str(reading.source.place(name))
    meta = Element("meta", {})
    with Spool() as spool, reading.source.open(name) as file:
        for element in xml_parts(file, where, "annotations"):
            try:
                if element.name == "meta":
                    meta = element
                elif element.name == "image":
                    found = _read_image(element, reading, where)
                    if found is not None:
                        yield found
                elif element.name == "track":
                    if any(shape.name in AREAS for shape in element.inner):
                        add_track(element, spool, where)
                    else:
                        reading.left_out["tracks without areas"] += 1
            except DAMAGE as cause:
                raise VssError(f"{where}: <{element.name}> can't be read: {cause}", "export it again") from cause
        for frame, size, shapes in tracked(spool, meta, where):
            drawn = _drawable(shapes, reading, where)
            uncovered, at = reading.names.uncovered, f"{where}: frame {frame}"
            yield Found(frame, size, lambda size, drawn=drawn, at=at: draw_shapes(drawn, size, uncovered, at))  # type: ignore[misc] # noqa: B023


def _read_image(element: Element, reading: Reading, where: str) -> Found | None:
    name, size = element.get("name"), (int(element.get("height")), int(element.get("width")))
    require_pixels(*size, f"{where}: image {name}")
    for shape in element.inner:
        if shape.name in OTHERS:
            reading.left_out[f"shapes of kind {shape.name}"] += 1
    drawn = _drawable(element.inner, reading, where)
    if not drawn:
        reading.left_out["frames without areas"] += 1
        return None
    return Found(name, size, lambda size: draw_shapes(drawn, size, reading.names.uncovered, f"{where}: image {name}"))


def _drawable(elements: list[Element], reading: Reading, where: str) -> list[Draw]:
    """The areas among some elements, in the order in which they are painted."""
    areas = [element for element in elements if element.name in AREAS]
    classes = reading.names.require([area.get("label") for area in areas], where)
    areas.sort(key=lambda area: int(area.get("z_order", "0")))
    return [_shape(area, classes[area.get("label")]) for area in areas]


def _shape(area: Element, index: int) -> Draw:
    if area.name == "polygon":
        return lambda label: polygon([_points(area.get("points"))], index)(label)
    size = int(area.get("height")), int(area.get("width"))
    corner = int(area.get("left")), int(area.get("top"))
    return lambda label: pixels(lambda of: _decode(area.get("rle"), size, of), index, corner)(label)


def _points(text: str) -> np.ndarray:
    return np.array([[float(number) for number in pair.split(",")] for pair in text.split(";")], np.float64)


def _decode(text: str, size: Size, of: Size) -> np.ndarray:
    """A mask's piece, (h, w) bool, which fits in an image."""
    if not (0 < size[0] <= of[0] and 0 < size[1] <= of[1]):
        raise ValueError(f"a mask of {size[1]}x{size[0]} in an image of {of[1]}x{of[0]}")
    return decode_counts(np.array([int(number) for number in text.split(",")], np.int64), size, order="C")
