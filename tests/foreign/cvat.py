"""CVAT's client library takes the masks and the function that vss writes; the server itself is not at hand."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import cvat_sdk.auto_annotation as cvataa
import numpy as np
import pytest
from cvat_cli._internal.common import FunctionLoader
from cvat_sdk.masks import decode_mask, encode_mask
from exchange_samples import LABELS, SIZE, TABLE, write_as, write_store
from PIL import Image

from vsscli.errors import VssError
from vsscli.exchange.cvat import boxed_runs
from vsscli.exchange.functions import CVAT, Answering, function_text
from vsscli.exchange.polygons import paint


@pytest.mark.parametrize(("form", "files"), [("cvat", ["annotations"]), ("cvat-video", ["day1", "day2"])])
def test_masks_in_the_xml(tmp_path: Path, form: str, files: list[str]) -> None:
    write_as(form, tmp_path)
    roots = (ElementTree.parse(tmp_path / f"{name}.xml").getroot() for name in files)
    images = [image for root in roots for image in root.findall("image")]
    for image, label in zip(images, LABELS.values(), strict=True):
        drawn = np.full(SIZE, 255, np.uint8)
        for mask in image.findall("mask"):
            left, top, width, height = (int(mask.get(key, "")) for key in ("left", "top", "width", "height"))
            points = [*map(int, mask.get("rle", "").split(",")), left, top, left + width - 1, top + height - 1]
            piece = decode_mask(points, image_width=SIZE[1], image_height=SIZE[0])
            drawn[piece] = TABLE.names.index(mask.get("label", ""))
        np.testing.assert_array_equal(drawn, label)


def test_runs_are_those_of_the_library() -> None:
    generator = np.random.default_rng(0)
    for _ in range(100):
        mask = generator.random(tuple(generator.integers(1, 20, 2))) < generator.random()
        if mask.any():
            runs, left, top, width, height = boxed_runs(mask)
            assert [*runs, left, top, left + width - 1, top + height - 1] == encode_mask(mask)


@pytest.mark.parametrize("polygons", [False, True])
def test_the_function_is_loaded_and_answers(tmp_path: Path, polygons: bool) -> None:
    store = write_store(tmp_path / "a.zarr")
    (tmp_path / "function.py").write_text(function_text(CVAT, Answering(store=store)))
    function = FunctionLoader(None, tmp_path / "function.py", {}).load()
    assert isinstance(function.spec, cvataa.DetectionFunctionSpec)
    assert [label.name for label in function.spec.labels] == list(TABLE.names)
    image = Image.new("RGB", SIZE[::-1])
    for address, label in LABELS.items():
        context = SimpleNamespace(frame_name=f"{address}.jpg", conf_threshold=None, conv_mask_to_poly=polygons)
        drawn = np.full(SIZE, 255, np.uint8)
        for shape in function.detect(context, image):
            assert not hasattr(shape, "id")
            assert shape.frame == 0
            if polygons:
                assert shape.type.value == "polygon"
                paint(drawn, [np.reshape(shape.points, (-1, 2))], shape.label_id)
            else:
                assert shape.type.value == "mask"
                drawn[decode_mask(shape.points, image_width=SIZE[1], image_height=SIZE[0])] = shape.label_id
        np.testing.assert_array_equal(drawn, np.where(label == 255, 0, label))
    context = SimpleNamespace(frame_name="strange.jpg", conf_threshold=None, conv_mask_to_poly=polygons)
    assert function.detect(context, image) == []


def test_frames_of_a_video_are_found_with_its_name(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr")
    (tmp_path / "function.py").write_text(function_text(CVAT, Answering(store=store)))
    function = FunctionLoader(None, tmp_path / "function.py", {"video": "day2"}).load()
    context = SimpleNamespace(frame_name="frame_000007", conf_threshold=None, conv_mask_to_poly=False)
    assert function.detect(context, Image.new("RGB", SIZE[::-1]))


def test_frames_that_are_numbered_from_1_on_are_those_of_a_task_from_0_on(tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", first=1)
    (tmp_path / "function.py").write_text(function_text(CVAT, Answering(store=store)))
    with pytest.raises(VssError, match="begin with number 1"):
        FunctionLoader(None, tmp_path / "function.py", {"video": "day1"}).load()
    function = FunctionLoader(None, tmp_path / "function.py", {"video": "day1", "first": 1}).load()
    for number in (0, 1):
        context = SimpleNamespace(frame_name=f"frame_{number:06d}", conf_threshold=None, conv_mask_to_poly=False)
        drawn = np.full(SIZE, 255, np.uint8)
        for shape in function.detect(context, Image.new("RGB", SIZE[::-1])):
            drawn[decode_mask(shape.points, image_width=SIZE[1], image_height=SIZE[0])] = shape.label_id
        label = LABELS[f"day1/{number:03d}"]
        np.testing.assert_array_equal(drawn, np.where(label == 255, 0, label))
