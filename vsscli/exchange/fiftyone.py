"""FiftyOne's data set on disk (`fiftyone.types.FiftyOneDataset`), with masks as files. Written only.

Value 0 is void, as FiftyOne has it, and value k + 1 class k; ``metadata.json`` has the names.
"""

from __future__ import annotations

import numpy as np

from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.png import encode_label
from vsscli.exchange.items import Choices, Item, Writer
from vsscli.exchange.jsonfiles import json_text
from vsscli.exchange.sink import Sink

FIELD = "labels"
MASKS = f"fields/{FIELD}/"


class FiftyOneWriter(Writer):
    """``samples.json``, ``metadata.json``, and a mask a frame."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._samples, self._frames = sink.scratch(), 0

    def add(self, item: Item) -> None:
        mask = f"{MASKS}{item.name}.png"
        values = np.where(item.label == IGNORE, 0, item.label + 1).astype(np.uint8)
        self.sink.write(mask, encode_label(values, self.table.palette(1)))
        sample = {
            "filepath": item.file_name if item.image is None else str(item.image.resolve()),
            "tags": [],
            "video": item.video,
            "frame": item.number,
            FIELD: {"_cls": "Segmentation", "tags": [], "mask_path": mask},
        }
        self._samples.write(b",\n" * (self._frames > 0) + json_text(sample))
        self._frames += 1

    def finish(self) -> dict[str, float]:
        self.sink.gather("samples.json", b'{"samples":[\n', self._samples, b"]}\n")
        targets = {str(value): name for value, name in enumerate(self.table.names, start=1)}
        self.sink.write("metadata.json", json_text({"media_type": "image", "info": {"mask_targets": targets}}))
        return {}
