"""labelme: a JSON a frame, with ``mask`` shapes, which are exact, or polygons."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from vsscli.data.pixels import require_pixels
from vsscli.data.png import parse_png
from vsscli.errors import VssError
from vsscli.exchange.items import Found, Item, Reading, Size
from vsscli.exchange.jsonfiles import PART, json_text
from vsscli.exchange.shapes import DAMAGE, Draw, draw_shapes, pixels, polygon
from vsscli.exchange.shapewriter import ShapeWriter, box_of
from vsscli.structured import parse_json

VERSION = "5.4.1"
"""The first version whose `mask` shapes are those of today."""


class LabelmeWriter(ShapeWriter):
    """``<video>/<stem>.json``; frames lie where they lie, and the image is named by its file's name."""

    def add(self, item: Item) -> None:
        height, width = item.size
        shapes = list(self._polygons(item) if self.choices.polygons else self._masks(item))
        values: dict[str, Any] = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": PurePosixPath(item.file_name).name,
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        self.sink.write(f"{item.name}.json", json_text(values))

    def _masks(self, item: Item) -> Iterator[dict[str, Any]]:
        for index, mask in self.masks(item):
            left, top, width, height = box_of(mask)
            piece = io.BytesIO()
            Image.fromarray(mask[top : top + height, left : left + width].astype(np.uint8)).save(piece, "PNG")
            corners: list[list[float]] = [[left, top], [left + width - 1, top + height - 1]]
            shape = _shape_of(self.table.names[index], "mask", corners)
            yield {**shape, "mask": base64.b64encode(piece.getvalue()).decode("ascii")}

    def _polygons(self, item: Item) -> Iterator[dict[str, Any]]:
        for index, rings in self.polygons(item):
            for ring in rings:
                yield _shape_of(self.table.names[index], "polygon", np.round(ring, 2).tolist())


def _shape_of(label: str, kind: str, points: list[list[float]]) -> dict[str, Any]:
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def read_labelme(reading: Reading) -> Iterator[Found]:
    """A frame for each JSON that has shapes."""
    source, found = reading.source, 0
    for name in source.matching("*.json"):
        where = str(source.place(name))
        values = parse_json(source.read(name), where, "save it again in labelme", PART)
        if not isinstance(values, dict) or not isinstance(values.get("shapes"), list):
            reading.left_out["other JSON files"] += 1
            continue
        found += 1
        if not values["shapes"]:
            reading.left_out["frames without shapes"] += 1
            continue
        try:
            size = int(values["imageHeight"]), int(values["imageWidth"])
            require_pixels(*size, where)
            labels = [str(shape["label"]) for shape in values["shapes"]]
            classes = reading.names.require(labels, where)
            drawn = [
                _read_shape(shape, classes[label], reading)
                for label, shape in zip(labels, values["shapes"], strict=True)
            ]
        except DAMAGE as cause:
            raise VssError(f"{where} is no file of labelme: {cause}", "save it again in labelme") from cause
        shapes = [draw for draw in drawn if draw is not None]
        frame = name[: -len(".json")]
        yield Found(frame, size, lambda size, shapes=shapes, where=where: _draw(shapes, size, reading, where))  # type: ignore[misc]
    if not found:
        raise VssError(f"{source.path} holds no JSON of labelme", "name the folder or zip that labelme saved to")


def _draw(shapes: list[Draw], size: Size, reading: Reading, where: str) -> np.ndarray:
    return draw_shapes(shapes, size, reading.names.uncovered, where)


def _read_shape(shape: dict[str, Any], index: int, reading: Reading) -> Draw | None:
    kind = shape.get("shape_type") or "polygon"
    if kind == "polygon":
        return polygon([np.asarray(shape["points"], np.float64)], index)
    if kind == "mask":
        (x, y), _ = shape["points"]
        return pixels(lambda size: _decode(str(shape["mask"]), size), index, (int(x), int(y)))
    reading.left_out[f"{kind}s"] += 1
    return None


def _decode(text: str, size: Size) -> np.ndarray:
    """A mask's piece from its PNG, (h, w) bool; ValueError where it is no such, or larger than the image."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as cause:
        raise ValueError(f"its mask is not in base 64: {cause}") from cause
    png = parse_png(data)
    if png.height > size[0] or png.width > size[1]:
        raise ValueError(f"a mask of {png.width}x{png.height} in an image of {size[1]}x{size[0]}")
    return np.array(png.open(png.inflate()).convert("L")) > 0
