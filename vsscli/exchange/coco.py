"""COCO's instances JSON: a category for each class, an annotation for each class of a frame.

Written as runs (RLE), which are exact, or as polygons. Read, annotations are painted in the order of the file, later
ones over earlier ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.pixels import require_pixels
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Found, Item, Reading, Size
from vsscli.exchange.jsonfiles import json_parts, json_text
from vsscli.exchange.rle import class_runs, decode_counts, pack_counts, unpack_counts
from vsscli.exchange.shapes import DAMAGE, Draw, draw_shapes, pixels, polygon
from vsscli.exchange.shapewriter import ShapeWriter, box_of
from vsscli.exchange.sink import Sink
from vsscli.exchange.spool import Spool

NAME = "annotations/instances_default.json"


class CocoWriter(ShapeWriter):
    """One JSON; category 1 is class 0, as COCO begins with 1."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._images, self._annotations = sink.scratch(), sink.scratch()
        self._frames = self._shapes = 0

    def add(self, item: Item) -> None:
        self._images.write(b",\n" * (self._frames > 0) + json_text(image_entry(item, self._frames + 1)))
        self._frames += 1
        for index, segmentation in self._segments(item):
            mask = item.label == index
            self._shapes += 1
            annotation = {
                "id": self._shapes,
                "image_id": self._frames,
                "category_id": index + 1,
                "segmentation": segmentation,
                "area": int(mask.sum()),
                "bbox": box_of(mask),
                "iscrowd": 0,
            }
            self._annotations.write(b",\n" * (self._shapes > 1) + json_text(annotation))

    def _segments(self, item: Item) -> Iterator[tuple[int, Any]]:
        """The segmentation of each class of a frame."""
        if self.choices.polygons:
            for index, rings in self.polygons(item):
                yield index, [np.round(ring, 2).ravel().tolist() for ring in rings]
            return
        for index, counts in class_runs(item.label, self.table.num_classes):
            yield index, {"size": list(item.size), "counts": pack_counts(counts)}

    def finish(self) -> dict[str, float]:
        head = b'{"info":{"description":"vss"},"licenses":[],"categories":' + json_text(categories(self.table))
        pieces = (head, b',\n"images":[\n', self._images, b'],\n"annotations":[\n', self._annotations, b"]}\n")
        self.sink.gather(NAME, *pieces)
        return super().finish()


def categories(table: ClassTable) -> list[dict[str, Any]]:
    """COCO's list of categories for a table."""
    return [{"id": index, "name": name, "supercategory": ""} for index, name in enumerate(table.names, start=1)]


def image_entry(item: Item, number: int) -> dict[str, Any]:
    """COCO's entry of an image."""
    return {"id": number, "file_name": item.file_name, "height": item.size[0], "width": item.size[1]}


def read_coco(reading: Reading) -> Iterator[Found]:
    """The frames of all JSON files with annotations in a source."""
    source, found = reading.source, 0
    for name in source.matching("*.json"):
        with Spool() as spool:
            images, classes = read_index(reading, name, spool)
            found += len(images)
            for number, (file, size) in images.items():
                if not any(True for _ in spool.values(number)):
                    reading.left_out["frames without annotations"] += 1
                    continue
                yield Found(file, size, lambda size, number=number: _draw(reading, spool, number, classes, size, name))  # type: ignore[misc] # noqa: B023
    if not found:
        raise VssError(f"{source.path} has no COCO JSON with images and annotations", "name the JSON, or its folder")


Images = dict[int, tuple[str, Size]]


def read_index(reading: Reading, name: str, spool: Spool) -> tuple[Images, dict[int, int]]:
    """Images by id, with name and size, and the class of each category; annotations go to the spool by their image.

    Raises
    ------
    VssError
        It is no such JSON, or a category that is used is unknown.
    """
    where = str(reading.source.place(name))
    images: Images = {}
    names: dict[int, str] = {}
    used: set[int] = set()
    with reading.source.open(name) as file:
        try:
            for key, part in json_parts(file, where):
                if key == "images":
                    height, width = int(part["height"]), int(part["width"])
                    require_pixels(height, width, f"{where}: image {part['file_name']}")
                    images[int(part["id"])] = str(part["file_name"]), (height, width)
                elif key == "categories":
                    names[int(part["id"])] = str(part["name"])
                elif key == "annotations":
                    used.update(int(one["category_id"]) for one in part.get("segments_info", [part]))
                    spool.add(int(part["image_id"]), part)
        except DAMAGE as cause:
            what = f"lacks {cause}" if isinstance(cause, KeyError) else str(cause)
            raise VssError(f"{where} is no COCO JSON: a part {what}", "export it again") from cause
    missing = [number for number in used if number not in names]
    if missing:
        raise VssError(f"{where} has annotations of category {missing[0]}, which it does not name", "export it again")
    strays = sum(1 for number in spool.places() if number not in images)
    if strays:
        reading.left_out["images with annotations that the file does not list"] += strays
    by_name = reading.names.require([names[number] for number in sorted(used)], where)
    return images, {number: by_name[names[number]] for number in used}


def _draw(reading: Reading, spool: Spool, number: int, classes: dict[int, int], size: Size, name: str) -> np.ndarray:
    shapes = (_shape(part, classes[int(part["category_id"])], reading) for part in spool.values(number))
    where = f"{reading.source.place(name)}: image {number}"
    return draw_shapes((shape for shape in shapes if shape is not None), size, reading.names.uncovered, where)


def _shape(part: dict[str, Any], index: int, reading: Reading) -> Draw | None:
    segmentation = part.get("segmentation")
    if not segmentation:
        reading.left_out["boxes"] += 1
        return None
    if isinstance(segmentation, dict):
        return pixels(lambda size: decode_segmentation(segmentation, size), index)
    return polygon(segmentation, index)


def decode_segmentation(segmentation: dict[str, Any], size: Size) -> np.ndarray:
    """A mask (H, W) bool from COCO's runs, packed or as a list; ValueError where they are of another size."""
    if list(segmentation["size"]) != list(size):
        raise ValueError(f"a mask of {segmentation['size']} in an image of {list(size)} (height, width)")
    counts = segmentation["counts"]
    runs = unpack_counts(counts) if isinstance(counts, str) else np.asarray(counts, np.int64).reshape(-1)
    return decode_counts(runs, size)
