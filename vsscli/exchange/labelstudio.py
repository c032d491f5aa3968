"""Label Studio's JSON: a task a frame, with brushes, which are exact, or polygons in per cent of width and height.

Written as predictions, which Label Studio shows as drafts. Read, a task's latest annotation counts, and its prediction
only where nobody has annotated it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.data.pixels import require_pixels
from vsscli.errors import VssError
from vsscli.exchange.items import Choices, Found, Item, Reading, Size
from vsscli.exchange.jsonfiles import json_parts, json_text
from vsscli.exchange.rle import pack_brush, unpack_brush
from vsscli.exchange.shapes import DAMAGE, Draw, draw_shapes, pixels, polygon
from vsscli.exchange.shapewriter import ShapeWriter
from vsscli.exchange.sink import Sink

NAME, CONFIG = "tasks.json", "labels.xml"
BRUSH, POLYGON = "brushlabels", "polygonlabels"


class LabelStudioWriter(ShapeWriter):
    """``tasks.json`` and the labeling configuration that it is for."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._tasks, self._frames = sink.scratch(), 0

    def add(self, item: Item) -> None:
        found = self._polygons(item) if self.choices.polygons else self._brushes(item)
        prediction = {"model_version": "vss", "result": list(found)}
        task = {"data": {"image": item.file_name}, "predictions": [prediction]}
        self._tasks.write(b",\n" * (self._frames > 0) + json_text(task))
        self._frames += 1

    def _brushes(self, item: Item) -> Iterator[dict[str, Any]]:
        for index, mask in self.masks(item):
            value = {"format": "rle", "rle": pack_brush(mask), BRUSH: [self.table.names[index]]}
            yield result(f"b{index}", BRUSH, value, item.size)

    def _polygons(self, item: Item) -> Iterator[dict[str, Any]]:
        share = 100 / np.array(item.size[::-1])
        for index, rings in self.polygons(item):
            for number, ring in enumerate(rings):
                points = np.round(ring * share, 8).tolist()
                value = {"points": points, "closed": True, POLYGON: [self.table.names[index]]}
                yield result(f"p{index}-{number}", POLYGON, value, item.size)

    def finish(self) -> dict[str, float]:
        self.sink.gather(NAME, b"[\n", self._tasks, b"]\n")
        if not self.sink.single:
            self.sink.write(CONFIG, labeling_config(self.table, polygons=self.choices.polygons).encode())
        return super().finish()


def result(name: str, kind: str, value: dict[str, Any], size: Size) -> dict[str, Any]:
    """One result of a task, for the configuration of `labeling_config`."""
    return {
        "id": name,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": size[1],
        "original_height": size[0],
        "image_rotation": 0,
        "value": value,
    }


def labeling_config(table: ClassTable, *, polygons: bool = False) -> str:
    """The labeling configuration of a project with these classes."""
    tag = "PolygonLabels" if polygons else "BrushLabels"
    rows = "".join(
        f'    <Label value={quoteattr(name)} background="#{bytes(colour).hex()}"/>\n'
        for name, colour in zip(table.names, table.colours, strict=True)
    )
    image = '  <Image name="image" value="$image" zoom="true"/>\n'
    return f'<View>\n{image}  <{tag} name="label" toName="image">\n{rows}  </{tag}>\n</View>\n'


def read_label_studio(reading: Reading) -> Iterator[Found]:
    """The tasks of all JSON files in a source."""
    source, found = reading.source, 0
    for name in source.matching("*.json"):
        where = str(source.place(name))
        with source.open(name) as file:
            for key, task in json_parts(file, where):
                if key or not isinstance(task, dict) or not isinstance(task.get("data"), dict):
                    raise VssError(f"{where} is no list of Label Studio's tasks", "export as JSON, not JSON-MIN or CSV")
                found += 1
                one = _found(task, f"{where}: task {task.get('id', found)}", reading)
                if one is not None:
                    yield one
    if not found:
        raise VssError(f"{source.path} holds no JSON of Label Studio", "name the JSON that it exported")


def _found(task: dict[str, Any], where: str, reading: Reading) -> Found | None:
    try:
        results = _results(task, reading)
        if not results:
            reading.left_out["tasks without annotations"] += 1
            return None
        name = image_of(task)
        (size,) = {(int(one["original_height"]), int(one["original_width"])) for one in results}
        kinds = [one["type"] for one in results]
        labels = [str(_only(one["value"][kind])) for one, kind in zip(results, kinds, strict=True)]
        if any(float(one.get("image_rotation") or 0) for one in results):
            raise ValueError("its image was turned")
        require_pixels(*size, where)
        classes = reading.names.require(labels, where)
        shapes = [_shape(one, kind, classes[label]) for one, kind, label in zip(results, kinds, labels, strict=True)]
    except DAMAGE as cause:
        raise VssError(f"{where} has a result that can't be read: {cause}", "open it in Label Studio") from cause
    return Found(name, size, lambda size: draw_shapes(shapes, size, reading.names.uncovered, where))


def _results(task: dict[str, Any], reading: Reading) -> list[dict[str, Any]]:
    """The results of a task that are areas of a class."""
    annotations = [one for one in task.get("annotations") or () if not one.get("was_cancelled")]
    if annotations:
        latest = max(annotations, key=lambda one: str(one.get("updated_at") or one.get("created_at") or ""))
    else:
        latest = next(iter(task.get("predictions") or ()), None)
        reading.remarks["tasks that nobody annotated: taken from their predictions"] += latest is not None
    found = []
    for one in (latest or {}).get("result") or ():
        if one.get("type") in (BRUSH, POLYGON):
            found.append(one)
        else:
            reading.left_out[f"results of type {one.get('type')}"] += 1
    return found


def image_of(task: dict[str, Any]) -> str:
    """The image of a task: the one of its data that looks like a file."""
    data = task["data"]
    for key in ("image", "img", *data):
        value = data.get(key)
        if isinstance(value, str) and re.search(r"\.\w{3,4}($|\?)", value):
            return value
    return str(data["image"])


def _only(labels: list[str]) -> str:
    (label,) = labels
    return label


def _shape(one: dict[str, Any], kind: str, index: int) -> Draw:
    value = one["value"]
    if kind == BRUSH:
        return pixels(lambda size: unpack_brush(value["rle"], size), index)
    share = np.array([one["original_width"], one["original_height"]]) / 100
    return polygon([np.asarray(value["points"], np.float64) * share], index)
