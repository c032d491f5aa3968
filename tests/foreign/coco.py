"""pycocotools and panopticapi read what vss writes; their masks are the labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from exchange_samples import LABELS, SIZE, TABLE, write_as
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from vsscli.exchange.items import Choices
from vsscli.exchange.polygons import paint
from vsscli.exchange.rle import class_runs, pack_counts


@pytest.mark.parametrize("polygons", [False, True])
def test_instances(tmp_path: Path, polygons: bool) -> None:
    write_as("coco", tmp_path / "a.json", Choices(polygons=polygons))
    coco = COCO(str(tmp_path / "a.json"))
    assert [kind["name"] for kind in coco.loadCats(coco.getCatIds())] == list(TABLE.names)
    images = coco.loadImgs(coco.getImgIds())
    for image, (address, label) in zip(images, LABELS.items(), strict=True):
        assert image["file_name"] == f"{address}.png"
        drawn = np.full(SIZE, 255, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
            mask = coco.annToMask(annotation) > 0
            drawn[mask] = annotation["category_id"] - 1
            assert annotation["area"] == (label == annotation["category_id"] - 1).sum()
            x, y, width, height = annotation["bbox"]
            box = np.zeros(SIZE, bool)
            box[y : y + height, x : x + width] = True
            assert not (mask & ~box).any()
        np.testing.assert_array_equal(drawn, label)


def test_panoptic(tmp_path: Path) -> None:
    write_as("coco-panoptic", tmp_path)
    values = json.loads((tmp_path / "annotations/panoptic.json").read_text())
    for entry, label in zip(values["annotations"], LABELS.values(), strict=True):
        ids = rgb2id(np.array(Image.open(tmp_path / "annotations/panoptic" / entry["file_name"])))
        drawn = np.full(SIZE, 255, np.uint8)
        for segment in entry["segments_info"]:
            assert (ids == segment["id"]).sum() == segment["area"]
            drawn[ids == segment["id"]] = segment["category_id"] - 1
        np.testing.assert_array_equal(drawn, label)


def test_runs_are_packed_letter_by_letter_as_pycocotools_packs_them() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        mask = generator.random(tuple(generator.integers(1, 40, 2))) < generator.random()
        for _, counts in class_runs(np.where(mask, 0, 255).astype(np.uint8), 1):
            theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
            assert pack_counts(counts) == theirs


def test_polygons_are_filled_alike_but_for_pixels_on_the_edge() -> None:
    generator = np.random.default_rng(1)
    differing = covered = 0
    for _ in range(200):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 8))
        points = 50 + generator.uniform(15, 45, (8, 1)) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        ours = np.zeros((100, 100), np.uint8)
        paint(ours, [points], 1)
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], 100, 100)))
        differing, covered = differing + int((ours != theirs).sum()), covered + int(theirs.sum())
    assert differing / covered < 0.02
