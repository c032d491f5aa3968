"""COCO's panoptic format: PNGs whose colours number segments, and a JSON that says the category of each."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from vsscli.data.classes import ClassTable
from vsscli.data.masks import read_colour_mask
from vsscli.errors import VssError
from vsscli.exchange.coco import categories, image_entry, read_index
from vsscli.exchange.items import Choices, Found, Item, Reading, Size, Writer
from vsscli.exchange.jsonfiles import json_text
from vsscli.exchange.shapes import DAMAGE
from vsscli.exchange.shapewriter import box_of, class_masks
from vsscli.exchange.sink import Sink
from vsscli.exchange.spool import Spool

NAME, FOLDER = "annotations/panoptic.json", "annotations/panoptic/"


class PanopticWriter(Writer):
    """A segment for each class of a frame, numbered as its category."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._images, self._annotations = sink.scratch(), sink.scratch()
        self._frames = 0

    def add(self, item: Item) -> None:
        comma = b",\n" * (self._frames > 0)
        self._frames += 1
        file = f"{item.name}.png"
        values = np.where(item.label < self.table.num_classes, item.label + 1, 0).astype(np.uint8)
        segments = []
        for index, mask in class_masks(item.label, self.table.num_classes):
            number = {"id": index + 1, "category_id": index + 1}
            segments.append({**number, "area": int(mask.sum()), "bbox": box_of(mask), "iscrowd": 0})
        picture = io.BytesIO()
        zeros = np.zeros_like(values)
        Image.fromarray(np.stack([values, zeros, zeros], axis=2)).save(picture, "PNG")
        self.sink.write(FOLDER + file, picture.getvalue())
        self._images.write(comma + json_text(image_entry(item, self._frames)))
        entry = {"image_id": self._frames, "file_name": file, "segments_info": segments}
        self._annotations.write(comma + json_text(entry))

    def finish(self) -> dict[str, float]:
        kinds = [{**kind, "isthing": 0} for kind in categories(self.table)]
        head = b'{"info":{"description":"vss"},"licenses":[],"categories":' + json_text(kinds)
        pieces = (head, b',\n"images":[\n', self._images, b'],\n"annotations":[\n', self._annotations, b"]}\n")
        self.sink.gather(NAME, *pieces)
        return {}


def read_panoptic(reading: Reading) -> Iterator[Found]:
    """The frames of all panoptic JSON files in a source; each file's PNGs lie in a folder that is called like it."""
    source, found = reading.source, 0
    masks = {name.lower(): name for name in source.matching("*.png")}
    for name in source.matching("*.json"):
        with Spool() as spool:
            images, classes = read_index(reading, name, spool)
            for number, (file, size) in images.items():
                for part in spool.values(number):
                    found += 1
                    mask = _mask_of(name, str(part.get("file_name", "")), masks)
                    if mask is None:
                        raise VssError(
                            f"{source.path} lacks the PNG {part.get('file_name')} of {name}",
                            f"put the PNGs beside it, in a folder {PurePosixPath(name).stem}",
                        )
                    try:
                        segments = {int(one["id"]): classes[int(one["category_id"])] for one in part["segments_info"]}
                    except DAMAGE as cause:
                        what = f"{source.place(name)}: the annotation of image {number}"
                        raise VssError(f"{what} can't be read: {cause}", "export it again") from cause
                    yield Found(file, size, lambda size, mask=mask, of=segments: _read(reading, mask, of, size))  # type: ignore[misc]
    if not found:
        raise VssError(f"{source.path} has no panoptic JSON with annotations", "name the folder of JSON and PNGs")


def _mask_of(name: str, file: str, masks: dict[str, str]) -> str | None:
    folder = name.rpartition(".")[0]
    places = (f"{folder}/{file}", f"{folder.rpartition('/')[0]}/{file}".lstrip("/"), file)
    found = next((masks[place.lower()] for place in places if place.lower() in masks), None)
    return found or next((masks[place] for place in masks if place.endswith(f"/{file.lower()}")), None)


def _read(reading: Reading, mask: str, segments: dict[int, int], size: Size) -> np.ndarray:
    path = reading.source.place(mask)
    pixels = read_colour_mask(path, reading.source.read(mask)).astype(np.uint32)
    if pixels.shape[:2] != size:
        raise VssError(f"mask {path} is not {size[1]}x{size[0]}, as its image (width x height)", "export it again")
    numbers = pixels[..., 0] | pixels[..., 1] << 8 | pixels[..., 2] << 16
    known = np.array(sorted({0, *segments}), np.uint32)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    strange = numbers[known[places] != numbers]
    if len(strange):
        raise VssError(f"mask {path} has segment {strange[0]}, of which the JSON says nothing", "export both again")
    classes = {0: reading.names.uncovered, **segments}
    return np.array([classes[number] for number in known.tolist()], np.uint8)[places]
