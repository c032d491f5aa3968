"""Datumaro reads what vss writes for CVAT, VOC, COCO, YOLO and itself, and what it writes is read by vss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from datumaro.components.annotation import AnnotationType
from datumaro.components.dataset import Dataset
from exchange_samples import ADDRESSES, LABELS, SIZE, TABLE, read_as, write_as
from PIL import Image


def drawn(item: object, names: list[str]) -> np.ndarray:
    """The labels that Datumaro has for a frame."""
    label = np.full(SIZE, 255, np.uint8)
    for annotation in item.annotations:  # type: ignore[attr-defined]
        if annotation.type == AnnotationType.mask and names[annotation.label] in TABLE.names:
            label[np.asarray(annotation.image, bool)] = TABLE.names.index(names[annotation.label])
    return label


@pytest.mark.parametrize(
    ("form", "theirs"),
    [("cvat", "cvat"), ("voc", "voc_segmentation"), ("coco", "coco_instances"), ("datumaro", "datumaro")],
)
def test_masks(tmp_path: Path, form: str, theirs: str) -> None:
    write_as(form, tmp_path)
    for address in ADDRESSES:
        for folder in ("images/default", "images", "JPEGImages"):
            path = tmp_path / folder / f"{address}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", SIZE[::-1]).save(path)
    dataset = Dataset.import_from(str(tmp_path), theirs)
    names = [label.name for label in dataset.categories()[AnnotationType.label]]
    found = {item.id: drawn(item, names) for item in dataset}
    assert found.keys() == LABELS.keys()
    for address, label in LABELS.items():
        np.testing.assert_array_equal(found[address], label)


@pytest.mark.parametrize(
    ("form", "theirs"), [("coco", "coco_instances"), ("voc", "voc_segmentation"), ("cvat", "cvat")]
)
def test_what_it_writes_is_read(tmp_path: Path, form: str, theirs: str) -> None:
    write_as("datumaro", tmp_path / "a")
    for address in ADDRESSES:
        path = tmp_path / "a" / "images" / f"{address}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(path)
    dataset = Dataset.import_from(str(tmp_path / "a"), "datumaro")
    dataset.export(str(tmp_path / "b"), theirs, save_media=False)
    found = read_as(form, tmp_path / "b")
    assert len(found) == len(LABELS)
    for name, label in found.items():
        address = name.rpartition(".")[0] if name.endswith((".png", ".jpg")) else name
        np.testing.assert_array_equal(label, LABELS[address])


def test_tasks_of_videos_have_frames_by_number(tmp_path: Path) -> None:
    write_as("cvat-video", tmp_path)
    found = {}
    for video in ("day1", "day2"):
        (tmp_path / video / "images").mkdir(parents=True)
        (tmp_path / f"{video}.xml").rename(tmp_path / video / "annotations.xml")
        for number in (0, 1, 7):  # it insists on files of these names
            Image.new("RGB", SIZE[::-1]).save(tmp_path / video / "images" / f"frame_{number:06d}", "PNG")
        dataset = Dataset.import_from(str(tmp_path / video), "cvat")
        names = [label.name for label in dataset.categories()[AnnotationType.label]]
        found |= {f"{video}/{item.attributes['frame']:03d}": drawn(item, names) for item in dataset}
    assert found.keys() == LABELS.keys()
    for address, label in LABELS.items():
        np.testing.assert_array_equal(found[address], label)
