"""Ultralytics' loader reads the labels that vss writes for YOLO; it paints the border of polygons too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from exchange_samples import LABELS, SIZE, TABLE, write_as
from PIL import Image
from ultralytics.data.utils import check_det_dataset, polygon2mask, verify_image_label


def test_labels(tmp_path: Path) -> None:
    write_as("yolo", tmp_path)
    (tmp_path / "images" / "train").mkdir(parents=True)
    for address, label in LABELS.items():
        name = address.replace("/", "_")
        image = tmp_path / "images" / "train" / f"{name}.png"
        Image.new("RGB", SIZE[::-1]).save(image)
        given = (str(image), str(tmp_path / f"labels/train/{name}.txt"), "", False, len(TABLE.names), 0, 0, False)
        _, found, shape, segments, _, missing, _, _, corrupt, message = verify_image_label(given)
        assert (tuple(shape), missing, corrupt) == (SIZE, 0, 0), message
        for index in range(len(TABLE.names)):
            ours = [part for part, (kind, *_) in zip(segments, found, strict=True) if int(kind) == index]
            mask = np.zeros(SIZE, bool)
            for part in ours:
                mask |= polygon2mask(SIZE, [(part * SIZE[::-1]).ravel()]).astype(bool)
            assert not ((label == index) & ~mask).any(), "all pixels of the class are covered"
    assert check_det_dataset(str(tmp_path / "data.yaml"), autodownload=False)["names"] == dict(enumerate(TABLE.names))
