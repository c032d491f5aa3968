"""From models or a store to pseudo-labels: what is refused, and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from listener import Listener
from PIL import Image
from store_samples import SIZE, class_table, distributions, prediction_header, stems, write_predictions

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline import pseudo as module
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.pseudo import pseudo


@pytest.fixture
def no_prediction(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a network was asked for")

    monkeypatch.setattr(module, "predict_split", refuse)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"percentile": 180}, "percentile 180 is not above 0 and at most 100"),
        ({"percentile": float("nan")}, "percentile nan"),
        ({"threshold": 3}, "threshold 3 is not in"),
        ({"weights": [-1, 2]}, "weight -1.0"),
        ({"weights": [0, 0]}, "all weights are 0"),
        ({"weights": [1]}, "1 weights for 2 models"),
    ],
)
def test_bad_numbers_are_refused_before_hours_of_prediction(
    options: dict[str, Any], message: str, tmp_path: Path, no_prediction: None
) -> None:
    with pytest.raises(VssError, match=message):
        pseudo([Path("a.pt"), Path("b.pt")], context=Context(tmp_path), **options)


@pytest.mark.parametrize("options", [{"tta": True}, {"plan": "flip"}, {"weights": [1]}])
def test_how_to_predict_is_refused_with_a_store(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(VssError, match=r"--tta|weights for 0 models"):
        pseudo(store=tmp_path / "a.zarr", context=Context(tmp_path), **options)


def test_a_store_that_lacks_videos_is_not_taken_for_a_whole_one(tmp_path: Path) -> None:
    root = tmp_path / "street"
    for video in ("a", "b"):
        (root / "data" / video / "origin").mkdir(parents=True)
        for stem in stems(2):
            Image.new("RGB", (SIZE[1], SIZE[0])).save(root / "data" / video / "origin" / f"{stem}.jpg")
    (root / "val.txt").write_text("a\nb")
    (root / "classes.json").write_text(json.dumps(class_table().to_dict()))
    header = prediction_header()
    header.data.update(split="val", root=str(root), section={"name": "street", "classes": "classes.json"})
    scores = distributions(0, 2)
    listener = Listener()
    context = Context(tmp_path / "runs", talk=listener)
    part = write_predictions(tmp_path / "part.zarr", header, {"a": scores})
    pseudo(store=part.path, percentile=50, context=context)
    assert len(listener.warned) == 1
    assert "holds 1 of the 2 videos of split 'val', not b" in listener.warned[0]
    ensemble([part.path, part.path], out=tmp_path / "fused.zarr", context=context)
    ensemble([part.path], temporal=1, out=tmp_path / "smooth.zarr", context=context)
    assert len(listener.warned) == 3
    whole = write_predictions(tmp_path / "whole.zarr", header, {"a": scores, "b": scores})
    pseudo(store=whole.path, percentile=50, context=context)
    assert len(listener.warned) == 3
