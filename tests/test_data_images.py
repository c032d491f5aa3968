"""Data sets of images in their published layouts: every image is a video of one frame."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from vsscli.data.check import check_videos
from vsscli.data.classes import load_class_table
from vsscli.data.config import Data
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.samples import LabelledFrames
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels
from vsscli.evaluation.score import score
from vsscli.pipeline.inspection import inspect_data

NAMES = load_class_table("vspw124").names
SIZE = (6, 8)
# Mask values of a class that VSPW has: sky, road, person, ….
CASES: dict[str, tuple[int, str]] = {
    "ade20k": (3, "sky"),
    "cocostuff": (0, "person"),
    "coco-panoptic": (187, "sky"),
    "cityscapes": (23, "sky"),
}
# Where the owners put an image and its mask of the splits `train` and `val`, and a variant of it.
PLACES = {
    "ade20k": [
        ("images/{}/a.jpg", "annotations/{}/a.png", "training", "validation"),
        ("ADEChallengeData2016/images/{}/a.jpg", "ADEChallengeData2016/annotations/{}/a.png", "training", "validation"),
    ],
    "cocostuff": [
        ("{}/a.jpg", "stuffthingmaps/{}/a.png", "train2017", "val2017"),
        ("images/{}/a.jpg", "annotations/{}/a.png", "train2017", "val2017"),
    ],
    "coco-panoptic": [
        ("{}/a.jpg", "annotations/panoptic_{}/a.png", "train2017", "val2017"),
        ("images/{}/a.jpg", "panoptic_{}/a.png", "train2017", "val2017"),
    ],
    "cityscapes": [
        ("leftImg8bit/{}/ulm/ulm_1_leftImg8bit.png", "gtFine/{}/ulm/ulm_1_gtFine_labelIds.png", "train", "val"),
        (
            "leftImg8bit_trainvaltest/leftImg8bit/{}/ulm/ulm_1_leftImg8bit.png",
            "gtFine_trainvaltest/gtFine/{}/ulm/ulm_1_gtFine_labelIds.png",
            "train",
            "val",
        ),
    ],
}


def put(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def draw(root: Path, layout: str, variant: int = 0) -> None:
    """One image and its mask, all of one class, in each of both splits."""
    image, mask, *splits = PLACES[layout][variant]
    value = CASES[layout][0]
    for split in splits:
        put(root / image.format(split), np.zeros((*SIZE, 3), np.uint8))
        if layout != "coco-panoptic":
            put(root / mask.format(split), np.full(SIZE, value, np.uint8))
            continue
        png = root / mask.format(split)
        put(png, np.full((*SIZE, 3), [7, 0, 0], np.uint8))
        told = {"annotations": [{"file_name": "a.png", "segments_info": [{"id": 7, "category_id": value}]}]}
        png.parent.with_suffix(".json").write_text(json.dumps(told))


def opened(root: Path, layout: str, **values: Any) -> Dataset:
    remap = {} if layout == "images" else {"remap": layout}
    return open_dataset(Data.model_validate({"name": "them", "root": str(root), "layout": layout, **remap, **values}))


@pytest.mark.parametrize("layout", CASES)
@pytest.mark.parametrize("variant", [0, 1])
def test_published_trees_are_videos_of_one_frame_in_vspws_classes(layout: str, variant: int, tmp_path: Path) -> None:
    draw(tmp_path, layout, variant)
    dataset = opened(tmp_path, layout)
    stem = "ulm_1_leftImg8bit" if layout == "cityscapes" else "a"
    for split in ("train", "val", "labelled"):
        videos = dataset.split(split)
        assert [frame.address for video in videos for frame in video.frames] == [f"{stem}/{stem}"]
        label = LabelledFrames(videos, dataset.ids, dataset.table.num_classes).load(0).labels
        np.testing.assert_array_equal(label, np.full(SIZE, NAMES.index(CASES[layout][1])))
        assert check_videos(videos, dataset.meaning, masks=True).faults == ()


@pytest.mark.parametrize("layout", CASES)
def test_the_doctor_knows_published_trees_without_a_recipe(layout: str, tmp_path: Path) -> None:
    draw(tmp_path, layout)
    assert plain_data(tmp_path).layout == layout
    assert inspect_data(plain_data(tmp_path), None, described=False).faults == []
    next(tmp_path.glob(PLACES[layout][0][1].format("*"))).write_bytes(b"")
    faults = inspect_data(plain_data(tmp_path), None, described=False).faults
    assert ["empty" in fault.what for fault in faults] == [True]


def test_images_are_scored_and_windows_of_several_frames_count_for_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "data-set", "ade20k")
    dataset = opened(tmp_path / "data-set", "ade20k")
    put(tmp_path / "labels" / "a" / "a.png", np.full(SIZE, NAMES.index("sky"), np.uint8))
    labels = FolderLabels(tmp_path / "labels")
    scored = score(dataset.split("val"), labels, dataset.table, dataset.ids, metrics=("miou", "acc", "vc8"))
    assert scored.values["acc"] == 1.0
    assert np.isnan(scored.values["vc8"])


def test_templates_say_where_images_and_masks_are(tmp_path: Path) -> None:
    for split, place in (("a", "pictures/a"), ("b", "pictures/b/more")):
        put(tmp_path / place / "x.png", np.zeros((*SIZE, 3), np.uint8))
        put(tmp_path / place.replace("pictures", "truth") / "x.png", np.full(SIZE, 2, np.uint8))
        assert split in place
    (tmp_path / "classes.json").write_text('["one", "two"]')
    where = {"images": "pictures/{split}", "masks": "truth/{split}", "classes": "classes.json"}
    dataset = opened(tmp_path, "images", train=["a", "b"], **where)
    assert [frame.address for video in dataset.split("labelled") for frame in video.frames] == ["x/x", "more_x/x"]
    frames = LabelledFrames(dataset.split("labelled"), dataset.ids, 2)
    assert [set(frames.load(index).labels.flat) for index in range(2)] == [{1}, {1}]
    without = opened(tmp_path, "images", train="a", images="pictures/{split}", classes="classes.json")
    assert without.split("train")[0].frames[0].mask is None
    with pytest.raises(VssError, match=r"data\.masks is not set"):
        without.split("labelled")


def test_what_was_looked_for_is_named(tmp_path: Path) -> None:
    draw(tmp_path, "ade20k")
    with pytest.raises(VssError, match=r"split 'test' .*images/test or ADEChallengeData2016/images/test is not in"):
        opened(tmp_path, "ade20k").split("test")
    put(tmp_path / "images" / "test" / "a.jpg", np.zeros((*SIZE, 3), np.uint8))
    assert len(opened(tmp_path, "ade20k").split("test")) == 1
    with pytest.raises(VssError, match=r"no masks: annotations/test or"):
        opened(tmp_path, "ade20k", train="test").split("labelled")


def test_a_mapping_that_reads_other_masks_than_the_layout_has_is_refused(tmp_path: Path) -> None:
    draw(tmp_path, "cityscapes")
    with pytest.raises(VssError, match=r"mapping ade20k reads masks written as values.*written as cityscapes"):
        opened(tmp_path, "cityscapes", remap="ade20k")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"layout": "images"}, "needs `images`"),
        ({"layout": "ade20k", "masks": "m/{split}"}, "`masks` is only for layout images"),
        ({"layout": "images", "images": "{split.__class__}"}, "no other braces"),
        ({"layout": "coco-panoptic"}, "needs `remap`"),
    ],
)
def test_sections_that_can_not_be_meant_are_refused(values: dict[str, str], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Data.model_validate(values)


def test_two_images_of_one_name_are_refused(tmp_path: Path) -> None:
    for place in ("c_x.png", "c/x.png"):
        put(tmp_path / "pictures" / place, np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "classes.json").write_text('["one", "two"]')
    with pytest.raises(VssError, match="two images named c_x"):
        opened(tmp_path, "images", images="pictures", classes="classes.json").split("train")


def test_many_images_open_in_little_time(tmp_path: Path) -> None:
    for folder, suffix in (("images/training", "jpg"), ("annotations/training", "png")):
        (tmp_path / folder).mkdir(parents=True)
        for number in range(5000):
            (tmp_path / folder / f"{number:06d}.{suffix}").touch()
    begun = time.process_time()
    videos = opened(tmp_path, "ade20k").split("labelled")
    assert len(videos) == 5000
    assert time.process_time() - begun < 2.5  # 24 times as many: COCO's 118,000 in a minute at the very worst
