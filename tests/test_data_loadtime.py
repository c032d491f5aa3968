"""Reading masks of another data set in the recipe's classes gives what `vss remap` writes, without writing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vsscli.data.check import check_videos
from vsscli.data.classes import load_class_table
from vsscli.data.config import Data
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.mapping import load_mapping
from vsscli.data.masks import read_mask, write_mask
from vsscli.data.remap import remap_masks
from vsscli.data.samples import LabelledFrames
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.evaluation.score import score

SIZE = (6, 8)
SKY = load_class_table("vspw124").names.index("sky")

# Some of each data set's own mask values, void among them.
SOURCES = {
    "ade20k": (0, 1, 3, 31, 127, 150),
    "cocostuff": (0, 12, 105, 181, 255),
    "cityscapes": (0, 7, 21, 24, 33),
    "camvid": (0, 1, 8, 11),
    "coco-panoptic": (0, 1, 187, 200),
}


def draw(folder: Path, source: str, names: tuple[str, ...] = ("a", "b")) -> None:
    """Frames and masks as the data set calls them, of random values."""
    draws = np.random.default_rng(3)
    frame, ending = ("_leftImg8bit", "_gtFine_labelIds") if source == "cityscapes" else ("", "")
    for name in names:
        (folder / "origin").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE[::-1]).save(folder / "origin" / f"{name}{frame}.png")
        values = draws.choice(np.array(SOURCES[source], np.uint8), SIZE)
        write_mask(folder / "mask" / f"{name}{ending}.png", values)
        if source == "coco-panoptic":  # segment 2 * 256 + c of category c; 0 stays void
            red_green_blue = np.stack([values, np.where(values, 2, 0), np.zeros(SIZE)], axis=2).astype(np.uint8)
            Image.fromarray(red_green_blue).save(folder / "mask" / f"{name}.png")
    if source == "coco-panoptic":
        segments = [{"id": 512 + category, "category_id": category} for category in SOURCES[source][1:]]
        annotations = [{"file_name": f"{name}.png", "segments_info": segments} for name in names]
        (folder / "mask.json").write_text(json.dumps({"annotations": annotations}))


def opened(root: Path, **values: Any) -> Dataset:
    (root / "train.txt").write_text("one\n")
    return open_dataset(Data.model_validate({"name": "other", "root": str(root), **values}))


def labels(dataset: Dataset) -> list[np.ndarray]:
    frames = LabelledFrames(dataset.split("train"), dataset.ids, dataset.table.num_classes)
    return [frames.load(index).labels for index in range(len(frames))]


@pytest.mark.parametrize("source", SOURCES)
def test_reading_through_a_mapping_gives_the_arrays_that_remap_writes(source: str, tmp_path: Path) -> None:
    draw(tmp_path / "own" / "data" / "one", source)
    draw(tmp_path / "new" / "data" / "one", source)
    masks = tmp_path / "own" / "data" / "one" / "mask"
    for path in (tmp_path / "new" / "data" / "one" / "mask").iterdir():
        path.unlink()
    remap_masks(masks, tmp_path / "new" / "data" / "one" / "mask", load_mapping(source), workers=1)
    read, written = opened(tmp_path / "own", remap=source), opened(tmp_path / "new")
    for ours, theirs in zip(labels(read), labels(written), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert SKY in ours or source == "cityscapes"
    for ours, theirs in zip(read.split("train")[0].frames, written.split("train")[0].frames, strict=True):
        assert ours.mask is not None
        assert theirs.mask is not None
        assert ours.stem == theirs.stem
        np.testing.assert_array_equal(read.ids.read(ours.mask), read_mask(theirs.mask))


def test_checking_and_scoring_read_through_the_mapping_too(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "one", "ade20k")
    dataset = opened(tmp_path, remap="ade20k")
    videos = dataset.split("train")
    assert check_videos(videos, dataset.meaning, masks=True).faults == ()
    remap_masks(tmp_path / "data" / "one" / "mask", tmp_path / "labels" / "one", load_mapping("ade20k"), workers=1)
    for path in (tmp_path / "labels" / "one").glob("*.png"):
        label = read_mask(path)
        write_mask(path, np.where(label == 255, 0, label - 1).astype(np.uint8))
    figures = score(videos, FolderLabels(tmp_path / "labels"), dataset.table, dataset.ids, metrics=("miou", "acc"))
    assert figures.values["acc"] == 1.0
    write_mask(tmp_path / "data" / "one" / "mask" / "a.png", np.full(SIZE, 151, np.uint8))
    faults = check_videos(videos, dataset.meaning, masks=True).faults
    assert [(fault.path.name, "value 151" in fault.what) for fault in faults] == [("a.png", True)]


def test_a_mapping_of_ones_own_lies_in_the_data_sets_folder(tmp_path: Path) -> None:
    draw(tmp_path / "data" / "one", "camvid")
    (tmp_path / "classes.yaml").write_text("[sky, rest]")
    (tmp_path / "own.yaml").write_text("target: classes.yaml\nothers: ignore\nmap: {1: sky, 8: rest}\n")
    dataset = opened(tmp_path, remap="own.yaml", classes="classes.yaml")
    raw = read_mask(tmp_path / "data" / "one" / "mask" / "a.png")
    np.testing.assert_array_equal(labels(dataset)[0], np.select([raw == 1, raw == 8], [0, 1], 255))
    with pytest.raises(
        VssError, match=r"mapping own converts masks to the classes of classes, not to those of vspw124"
    ):
        opened(tmp_path, remap="own.yaml")
    with pytest.raises(VssError, match="mapping nowhere is neither"):
        opened(tmp_path, remap="nowhere")
