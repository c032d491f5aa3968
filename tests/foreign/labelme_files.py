"""labelme's own functions read the JSON that vss writes; its window is not needed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from exchange_samples import LABELS, SIZE, TABLE, write_as
from labelme import utils
from labelme._label_file import _load_shape_json_obj


def test_masks(tmp_path: Path) -> None:
    write_as("labelme", tmp_path)
    values = {name: index + 1 for index, name in enumerate(TABLE.names)}
    for address, label in LABELS.items():
        shapes = json.loads((tmp_path / f"{address}.json").read_text())["shapes"]
        classes, _ = utils.shapes_to_label(SIZE, [_load_shape_json_obj(shape) for shape in shapes], values)
        np.testing.assert_array_equal(classes, np.where(label == 255, 0, label + 1))
