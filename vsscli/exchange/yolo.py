"""YOLO's segments: a text a frame, a polygon a line, in shares of width and height; ``data.yaml`` names the classes.

The format has polygons alone. A region with holes becomes one that goes around them and back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import yaml

from vsscli.data.classes import parse_classes
from vsscli.data.classfiles import parse_class_lines
from vsscli.errors import VssError
from vsscli.exchange.items import Found, Item, Reading, Size, flat_name
from vsscli.exchange.shapes import draw_shapes, polygon
from vsscli.exchange.shapewriter import ShapeWriter
from vsscli.yamltext import parse_yaml

FOLDER, CLASSES = "labels/train/", ("data.yaml", "data.yml", "classes.txt", "obj.names")


class YoloWriter(ShapeWriter):
    """``labels/train/<video>_<stem>.txt``: YOLO looks for images beside, in ``images/train``, under the same names."""

    def add(self, item: Item) -> None:
        lines = []
        size = np.array(item.size[::-1])
        for index, rings in self.polygons(item):
            for ring in rings:
                shares = (ring / size).ravel()
                lines.append(" ".join([str(index), *(f"{share:.8g}" for share in shares)]))
        self.sink.write(
            f"{FOLDER}{flat_name(item.video, item.stem)}.txt", "".join(f"{line}\n" for line in lines).encode()
        )

    def finish(self) -> dict[str, float]:
        values = {"train": "images/train", "val": "images/train"}
        text = yaml.safe_dump(
            values | {"names": dict(enumerate(self.table.names))}, sort_keys=False, allow_unicode=True
        )
        self.sink.write("data.yaml", text.encode())
        return super().finish()


def read_yolo(reading: Reading) -> Iterator[Found]:
    """A frame for each text that has a line."""
    source = reading.source
    classes = _classes(reading)
    notes = {*CLASSES, "train.txt", "val.txt", "test.txt", "readme.txt", "readme.roboflow.txt"}
    texts = [name for name in source.matching("*.txt") if PurePosixPath(name).name.lower() not in notes]
    if not texts:
        raise VssError(f"{source.path} holds no labels of YOLO (*.txt)", "name the folder that has labels/ in it")
    for name in texts:
        lines = source.read(name).decode("utf-8", errors="replace").splitlines()
        polygons = list(_polygons(lines, classes, str(source.place(name)), reading))
        if not polygons:
            reading.left_out["frames without polygons"] += 1
            continue
        yield Found(name[:-4], None, lambda size, polygons=polygons, name=name: _draw(reading, name, polygons, size))  # type: ignore[misc]


def _polygons(lines: list[str], classes: list[int], where: str, reading: Reading) -> Iterator[tuple[int, np.ndarray]]:
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        try:
            index, shares = int(words[0]), np.array(words[1:], np.float64)
        except ValueError as cause:
            raise VssError(f"{where}:{number}: {line[:60]!r} is no line of YOLO's", "export it again") from cause
        if not 0 <= index < len(classes):
            raise VssError(
                f"{where}:{number}: class {index}, and {len(classes)} are named", "add its name to data.yaml"
            )
        if len(shares) == 4:
            reading.left_out["boxes"] += 1
        elif len(shares) < 6 or len(shares) % 2:
            raise VssError(f"{where}:{number}: {len(shares)} numbers make no polygon", "export it again")
        else:
            yield classes[index], shares.reshape(-1, 2)


def _draw(reading: Reading, name: str, polygons: list[tuple[int, np.ndarray]], size: Size) -> np.ndarray:
    shapes = (polygon([shares * (size[1], size[0])], index) for index, shares in polygons)
    return draw_shapes(shapes, size, reading.names.uncovered, str(reading.source.place(name)))


def _classes(reading: Reading) -> list[int]:
    """The class of each of YOLO's numbers, by the names that the source gives them."""
    source = reading.source
    file = next((found for name in CLASSES if (found := source.named(name)) is not None), None)
    if file is None:
        raise VssError(f"{source.path} does not name its classes", "put data.yaml or classes.txt beside the labels")
    where = str(source.place(file))
    text = source.read(file, 2**20).decode("utf-8-sig", errors="replace")
    if file.lower().endswith((".yaml", ".yml")):
        values = parse_yaml(text, where)
        names = values.get("names") if isinstance(values, dict) else None
        if isinstance(names, dict):
            names = [names.get(number, names.get(str(number))) for number in range(len(names))]
    else:
        names = parse_class_lines(text, where)
    called = [entry.name for entry in parse_classes(names, where)]
    by_name = reading.names.require(called, where)
    return [by_name[name] for name in called]
