"""Label Studio's own converter reads the brushes that vss writes, and its RLE is read by vss."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from exchange_samples import LABELS, SIZE, TABLE, write_as
from label_studio_sdk.converter.brush import decode_rle, encode_rle
from label_studio_sdk.label_interface import LabelInterface

from vsscli.exchange.rle import unpack_brush


def test_brushes(tmp_path: Path) -> None:
    write_as("label-studio", tmp_path)
    for task, label in zip(json.loads((tmp_path / "tasks.json").read_text()), LABELS.values(), strict=True):
        drawn = np.full(SIZE, 255, np.uint8)
        for result in task["predictions"][0]["result"]:
            mask = decode_rle(result["value"]["rle"]).reshape(*SIZE, 4)[..., 3] > 0
            drawn[mask] = TABLE.names.index(result["value"]["brushlabels"][0])
        np.testing.assert_array_equal(drawn, label)


def test_the_configuration_is_valid_and_fits_the_results(tmp_path: Path) -> None:
    write_as("label-studio", tmp_path)
    interface = LabelInterface((tmp_path / "labels.xml").read_text())
    interface.validate()
    control = interface.get_control("label")
    assert list(control.labels) == list(TABLE.names)
    assert control.to_name == ["image"]


def test_brushes_of_the_converter_are_read() -> None:
    generator = np.random.default_rng(0)
    for _ in range(30):
        mask = generator.random(tuple(generator.integers(1, 30, 2))) < generator.random()
        packed = encode_rle(np.repeat((mask * np.uint8(255)).ravel(), 4))
        np.testing.assert_array_equal(unpack_brush(packed, mask.shape), mask)
