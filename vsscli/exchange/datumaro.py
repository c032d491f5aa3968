"""Datumaro's own JSON, masks as runs. Written only: Datumaro turns it into whatever it knows."""

from __future__ import annotations

from vsscli.data.classes import ClassTable
from vsscli.exchange.items import Choices, Item, Writer
from vsscli.exchange.jsonfiles import json_text
from vsscli.exchange.rle import class_runs, pack_counts
from vsscli.exchange.sink import Sink

NAME = "annotations/default.json"


class DatumaroWriter(Writer):
    """``annotations/default.json``; a frame's id is its address."""

    def __init__(self, sink: Sink, table: ClassTable, choices: Choices) -> None:
        super().__init__(sink, table, choices)
        self._items, self._frames = sink.scratch(), 0

    def add(self, item: Item) -> None:
        masks = [
            {
                "id": 0,
                "type": "mask",
                "attributes": {},
                "group": 0,
                "label_id": index,
                "rle": {"counts": pack_counts(counts), "size": list(item.size)},
                "z_order": 0,
            }
            for index, counts in class_runs(item.label, self.table.num_classes)
        ]
        image = {"path": item.file_name, "size": list(item.size)}
        entry = {"id": item.name, "annotations": masks, "attr": {"frame": item.number}, "image": image}
        self._items.write(b",\n" * (self._frames > 0) + json_text(entry))
        self._frames += 1

    def finish(self) -> dict[str, float]:
        labels = [{"name": name, "parent": "", "attributes": []} for name in self.table.names]
        colours = [{"label_id": index, "r": r, "g": g, "b": b} for index, (r, g, b) in enumerate(self.table.colours)]
        head = {
            "dm_format_version": "1.0",
            "media_type": 2,  # images
            "infos": {},
            "categories": {
                "label": {"labels": labels, "label_groups": [], "attributes": []},
                "mask": {"colormap": colours},
            },
        }
        self.sink.gather(NAME, json_text(head)[:-1] + b',"items":[\n', self._items, b"]}\n")
        return {}
