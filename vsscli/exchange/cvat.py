"""CVAT's XML, "CVAT for images 1.1" and "CVAT for video 1.1", alone or in its zip.

Written frame by frame, as masks, which are exact, or as polygons. Read, shapes are painted in their z-order, and in the
order of the file where that is equal.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.pixels import require_pixels
from vsscli.errors import VssError
from vsscli.exchange.cvattasks import IMAGES, VIDEO, Tasks
from vsscli.exchange.items import Choices, Found, Item, Numbered, Reading, Size
from vsscli.exchange.rle import decode_counts, row_counts
from vsscli.exchange.shapes import DAMAGE, Draw, draw_shapes, pixels, polygon
from vsscli.exchange.shapewriter import ShapeWriter, box_of
from vsscli.exchange.sink import Sink
from vsscli.exchange.spool import Spool
from vsscli.exchange.tracks import add_track, tracked
from vsscli.exchange.xmlparts import Element, xml_parts

NAME = "annotations.xml"

APART = 1_000_000
"""Between the numbers of two videos' first frames in a file for a task of images."""

OF_VIDEO = re.compile(r"frame_\d+")
"""What CVAT calls the frames of a video."""

AREAS = ("mask", "polygon")
OTHERS = ("box", "polyline", "points", "cuboid", "skeleton", "ellipse", "tag")


class _Document:
    """Images of an XML file, in a scratch file until all are there and the head can be written."""

    def __init__(self, sink: Sink) -> None:
        self._sink, self._images, self.frames = sink, sink.scratch(), 0

    def add(self, number: int, name: str, size: Size, shapes: Iterable[str]) -> None:
        """Append an image."""
        place = f'id="{number}" name={quoteattr(name)} width="{size[1]}" height="{size[0]}"'
        self._images.write(f"<image {place}>\n".encode())
        self._images.writelines(shape.encode() for shape in shapes)
        self._images.write(b"</image>\n")
        self.frames += 1

    def end(self, file: str, task: str, table: ClassTable) -> None:
        """Write the file, whose head says of the task what ``task`` has, and begin another one."""
        rows = zip(table.names, table.colours, strict=True)
        labels = "".join(
            f"<label><name>{escape(name)}</name><color>#{bytes(colour).hex()}</color><attributes></attributes></label>"
            for name, colour in rows
        )
        meta = f"<meta><task>{task}<labels>{labels}</labels></task></meta>"
        head = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n{meta}\n'
        self._sink.gather(file, head.encode(), self._images, b"</annotations>\n")
        self._images.seek(0)
        self._images.truncate()
        self.frames = 0


class _XmlWriter(ShapeWriter):
    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._document = _Document(sink)

    def _shapes(self, item: Item) -> Iterator[str]:
        """The shapes of a frame: a mask for each class in it, or polygons."""
        commons = [f'label={quoteattr(name)} source="auto" occluded="0"' for name in self.table.names]
        if self.choices.polygons:
            for index, rings in self.polygons(item):
                for ring in rings:
                    points = ";".join(f"{x:.2f},{y:.2f}" for x, y in ring)
                    yield f'<polygon {commons[index]} points="{points}" z_order="0"></polygon>\n'
            return
        for index, mask in self.masks(item):
            rle, left, top, width, height = boxed_runs(mask)
            box = f'left="{left}" top="{top}" width="{width}" height="{height}"'
            yield f'<mask {commons[index]} rle="{", ".join(map(str, rle))}" {box} z_order="0"></mask>\n'


class CvatWriter(_XmlWriter):
    """``annotations.xml`` for a task of images, which CVAT finds by name.

    What it finds by no name is taken by number. So numbers are those in the video, and begin at the next million for
    each further video: uploaded to the task of a video, the file fits that video or is refused.
    """

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._videos: dict[str, int] = {}

    def add(self, item: Item) -> None:
        number = item.number + APART * self._videos.setdefault(item.video, len(self._videos))
        self._document.add(number, item.file_name, item.size, self._shapes(item))

    def finish(self) -> dict[str, float]:
        self._document.end(NAME, f"<size>{self._document.frames}</size><mode>{IMAGES}</mode>", self.table)
        return super().finish()


class CvatVideoWriter(_XmlWriter):
    """``<video>.xml`` for each video, for the task of that video, whose frames CVAT knows by number."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._video, self._size = "", (0, 0)

    def add(self, item: Item) -> None:
        if item.video != self._video:
            if self.sink.single and self._video:
                raise VssError(f"{self.sink.out} is one file, and there are several videos", "name a folder with --out")
            self._end()
            self._video, self._size = item.video, item.size
        if item.frame is None:
            raise VssError(
                f"frame {item.address} is not in the data set", "name the one that was predicted with --data"
            )
        name = f"frame_{item.number:06d}"
        self._document.add(item.number, name, item.size, self._shapes(item))

    def finish(self) -> dict[str, float]:
        self._end()
        return super().finish()

    def _end(self) -> None:
        if not self._video:
            return
        video, (height, width) = escape(self._video), self._size
        task = (
            f"<name>{video}</name><size>{self._document.frames}</size><mode>{VIDEO}</mode>"
            f"<original_size><width>{width}</width><height>{height}</height></original_size>"
            f"<source>{video}.mp4</source>"
        )
        self._document.end(f"{self._video}.xml", task, self.table)


def boxed_runs(mask: np.ndarray) -> tuple[list[int], int, int, int, int]:
    """CVAT's runs of a mask (H, W) bool that holds something, within its box: runs, left, top, width, height."""
    left, top, width, height = box_of(mask)
    return row_counts(mask[top : top + height, left : left + width]), left, top, width, height


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
    tasks = Tasks(Element("meta", {}), where)
    with Spool() as spool, reading.source.open(name) as file:
        for element in xml_parts(file, where, "annotations"):
            try:
                if element.name == "meta":
                    tasks = Tasks(element, where)
                elif element.name == "image":
                    found = _read_image(element, tasks, reading, where)
                    if found is not None:
                        yield found
                elif element.name == "track":
                    if any(shape.name in AREAS for shape in element.inner):
                        add_track(element, tasks, spool, where)
                    else:
                        reading.left_out["tracks without areas"] += 1
            except DAMAGE as cause:
                raise VssError(f"{where}: <{element.name}> can't be read: {cause}", "export it again") from cause
        for task_id, frame, shapes in tracked(spool, where):
            task, drawn = tasks[task_id], _drawable(shapes, reading, where)
            yield _found(task.numbered(frame), task.size, drawn, reading, f"{where}: frame {frame}")


def _read_image(element: Element, tasks: Tasks, reading: Reading, where: str) -> Found | None:
    name, size = element.get("name"), (int(element.get("height")), int(element.get("width")))
    require_pixels(*size, f"{where}: image {name}")
    for shape in element.inner:
        if shape.name in OTHERS:
            reading.left_out[f"shapes of kind {shape.name}"] += 1
    drawn = _drawable(element.inner, reading, where)
    if not drawn:
        reading.left_out["frames without areas"] += 1
        return None
    _, task = tasks.of(element)
    of_video = task.mode == VIDEO and OF_VIDEO.fullmatch(name)
    frame = task.numbered(int(element.get("id"))) if of_video else name
    return _found(frame, size, drawn, reading, f"{where}: image {name}")


def _found(frame: Numbered | str, size: Size | None, drawn: list[Draw], reading: Reading, where: str) -> Found:
    def draw(size: Size) -> np.ndarray:
        return draw_shapes(drawn, size, reading.names.uncovered, where)

    if isinstance(frame, str):
        return Found(frame, size, draw)
    return Found(f"{[*frame.videos, 'video'][0]}/{frame.number:06d}", size, draw, frame)


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
