"""COCO panoptic's JSON: the category of each segment of a panoptic PNG.

The file for COCO's training images is hundreds of megabytes of text, and a dozen times that as Python objects. So it is
read piece by piece, and five bytes are kept for each segment.
"""

from __future__ import annotations

import json
import os
from array import array
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from vsscli.errors import VssError
from vsscli.jsonparts import json_parts
from vsscli.structured import Limits

PART = Limits(2**24, 5_000_000, 32)
"""Of one image's annotation, which usually has a few thousand characters."""

SEGMENT_IDS = 2**24
"""Number of ids in three bytes of a pixel; 0 is void."""


@dataclass(frozen=True)
class Segments:
    """The segments of all images in a JSON file.

    ``places`` maps the name of each PNG to where its segments begin and end in ``ids`` (uint32) and ``categories``
    (uint8); ``names`` has the names of categories, if the JSON file has them.
    """

    path: Path
    places: dict[str, tuple[int, int]]
    ids: np.ndarray
    categories: np.ndarray
    names: dict[int, str]

    def of(self, png: Path) -> tuple[np.ndarray, np.ndarray]:
        """Segment ids, ascending, and categories of one image: (N,) uint32 and (N,) uint8."""
        if png.name not in self.places:
            raise VssError(
                f"{self.path} has no annotation with file_name {png.name!r}, which {png} needs",
                "use the JSON that belongs to these PNGs",
            )
        start, end = self.places[png.name]
        order = np.argsort(self.ids[start:end], kind="stable")
        ids, categories = self.ids[start:end][order], self.categories[start:end][order]
        twice = np.flatnonzero((ids[1:] == ids[:-1]) & (categories[1:] != categories[:-1]))
        if len(twice):
            raise VssError(
                f"{self.path} gives segment {ids[twice[0]]} of {png.name} the categories "
                f"{categories[twice[0]]} and {categories[twice[0] + 1]}",
                "download the JSON again",
            )
        return ids, categories


def segments_beside(folder: Path) -> Path:
    """The JSON file of a folder of panoptic PNGs, beside it and with its name."""
    place = Path(os.path.abspath(folder))
    return place.with_name(f"{place.name}.json")


_reading = Lock()  # threads that need the same file wait for the first one instead of reading it, too


def load_segments(path: Path) -> Segments:
    """Read a panoptic JSON file, which is cached. `VssError` names the image and the value that are wrong."""
    try:
        state = os.stat(path)
    except OSError as cause:
        raise VssError(
            f"panoptic JSON {path} can't be read: {cause.strerror}",
            "the JSON of a folder of panoptic PNGs is beside it: panoptic_val2017/ and panoptic_val2017.json",
        ) from cause
    with _reading:
        return _load(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=4)
def _load(path: Path, changed: int, size: int) -> Segments:
    places: dict[str, tuple[int, int]] = {}
    ids, categories, names = array("I"), array("B"), dict[int, str]()
    try:
        with path.open("rb") as file:
            for key, value in json_parts(file, PART):
                if key == "annotations":
                    name, segments = _annotation(value, path)
                    if name in places:
                        raise VssError(f"{path} has two annotations with file_name {name!r}", "download the JSON again")
                    places[name] = len(ids), len(ids) + len(segments)
                    ids.extend(segment for segment, _ in segments)
                    categories.extend(category for _, category in segments)
                elif key == "categories" and isinstance(value, dict) and type(value.get("id")) is int:
                    names[value["id"]] = str(value.get("name"))
    except (OSError, ValueError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise VssError(f"panoptic JSON {path} is damaged: {reason}", "download or extract it again") from cause
    if not places:
        raise VssError(f"{path} is not a panoptic JSON: it has no list `annotations`", "give COCO's panoptic_*.json")
    return Segments(path, places, np.array(ids, np.uint32), np.array(categories, np.uint8), names)


def _annotation(value: Any, path: Path) -> tuple[str, list[tuple[int, int]]]:
    """The name of an annotation's PNG, and id and category of its segments."""
    name = value.get("file_name") if isinstance(value, dict) else None
    infos = value.get("segments_info") if isinstance(value, dict) else None
    if not isinstance(name, str) or not isinstance(infos, list):
        raise VssError(
            f"{path} has an annotation without file_name or segments_info: {json.dumps(value)[:80]}",
            "give a panoptic JSON (panoptic_*.json), not one of instances or captions",
        )
    segments = []
    for info in infos:
        segment, category = (info.get("id"), info.get("category_id")) if isinstance(info, dict) else (None, None)
        if type(segment) is not int or not 0 < segment < SEGMENT_IDS:
            raise VssError(f"{path}: {name} has a segment with id {segment!r}", "ids are 1 to 16777215")
        if type(category) is not int or not 0 < category < 255:
            raise VssError(
                f"{path}: segment {segment} of {name} has category_id {category!r}",
                "categories with ids from 1 to 254 can be remapped",
            )
        segments.append((segment, category))
    return name, segments
