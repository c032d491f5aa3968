"""Figures of sparse labels, and misleading figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from PIL import Image

from vsscli.context import Context
from vsscli.data.config import Data
from vsscli.data.layouts import plain_data
from vsscli.data.masks import write_mask
from vsscli.errors import VssError
from vsscli.pipeline.evaluate import Evaluation, evaluate
from vsscli.recipes.schema import Recipe

FRAMES, SIZE = 12, (6, 9)


def truth(t: int) -> np.ndarray:
    """Classes 0, 1, 2 in columns that move."""
    return np.roll(np.repeat(np.arange(3, dtype=np.uint8), 3)[None].repeat(SIZE[0], 0), t // 4, axis=1)


def data_set(root: Path, *, first: int = 1, layout: str = "vspw", masks: range = range(FRAMES)) -> Data:
    video, images = (root / "val" / "v", root / "val" / "v") if layout == "folders" else (root / "data" / "v", None)
    images = images or video / "origin"
    images.mkdir(parents=True)
    for t in range(FRAMES):
        Image.new("RGB", SIZE[::-1], (t, 0, 0)).save(images / f"{t:02d}.png")
        if t in masks:
            write_mask(video / "mask" / f"{t:02d}.png", truth(t) + np.uint8(first))
    (root / "val.txt").write_text("v\n")
    (root / "classes.json").write_text(json.dumps(["road", "sky", "car"]))
    return plain_data(root, layout=layout, classes="classes.json")  # type: ignore[arg-type]


def predictions(folder: Path, step: int = 0) -> Path:
    for t in range(FRAMES):
        write_mask(folder / "v" / f"{t:02d}.png", truth(t) + np.uint8(step))
    return folder


def scored(data: Data, pred: Path, metrics: tuple[str, ...] = ("miou", "vc2"), **how: Any) -> Evaluation:
    recipe = Recipe.model_validate({"name": "r", "data": data.model_dump()})
    return evaluate(
        context=Context(pred, **how),
        prediction=pred,
        recipe=recipe,
        split="val",
        metrics=metrics,
        protocol="vspw",
        workers=1,
    )


@pytest.mark.parametrize("layout", ["vspw", "folders"])
def test_of_sparse_labels_the_labelled_frames_count(tmp_path: Path, layout: str) -> None:
    data = data_set(tmp_path / "data", layout=layout, masks=range(0, FRAMES, 5))
    heard = Listener()
    done = scored(data, predictions(tmp_path / "pred"), talk=heard)
    told = done.figures.to_json()
    assert (told["miou"], told["vc2"], told["frames"], told["without_mask"]) == (1.0, None, 3, 9)
    assert (
        "9 of 12 frames have no mask: only the other 3 count; VC averages only windows whose frames all have one"
        in heard.warned
    )
    assert done.figures.reasons == ("nothing to average for VC2: each of the 10 windows has a frame without a mask",)


def test_predictions_of_frames_without_a_mask_are_not_asked_for(tmp_path: Path) -> None:
    data, pred = data_set(tmp_path / "data", masks=range(0, FRAMES, 5)), predictions(tmp_path / "pred")
    (pred / "v" / "01.png").unlink()
    assert scored(data, pred).figures.values["miou"] == 1.0
    (pred / "v" / "05.png").unlink()
    with pytest.raises(VssError, match=r"05\.png is not there"):
        scored(data, pred)


def test_one_missing_mask_is_said_and_costs_its_windows(tmp_path: Path) -> None:
    data, pred = data_set(tmp_path / "data"), predictions(tmp_path / "pred")
    whole = scored(data, pred).figures
    (tmp_path / "data" / "data" / "v" / "mask" / "05.png").unlink()
    heard = Listener()
    figures = scored(data, pred, talk=heard).figures
    assert heard.warned[0].startswith("1 of 12 frames have no mask: only the other 11 count")
    assert (whole.notes["windows"], figures.notes["windows"]) == ({"vc2": 10}, {"vc2": 8})
    assert figures.values["vc2"] == 1.0


def test_masks_from_0_against_themselves_are_said(tmp_path: Path) -> None:
    done = scored(data_set(tmp_path / "data", first=0), predictions(tmp_path / "pred"), ("miou", "acc"))
    assert done.figures.values["miou"] < 0.5
    shifted, beside = done.warnings
    assert "hold 0, which is void, in " in shifted
    assert "data.first_id: 0" in shifted
    assert "are predicted as the class after their own" in beside
    assert done.origin()["warnings"] == list(done.warnings)


def test_predictions_that_count_from_1_are_said(tmp_path: Path) -> None:
    done = scored(data_set(tmp_path / "data"), predictions(tmp_path / "pred", step=1), ("miou",))
    assert "predictions hold value 3, beyond the 3 classes 0..2, in 33.3% of the labelled pixels" in done.warnings[0]
    assert "subtract 1" in done.warnings[0]


@pytest.mark.parametrize(("held", "word"), [(255, "hold 255, not a class"), (7, "hold value 7, beyond")])
def test_predictions_without_a_meaning_are_said(tmp_path: Path, held: int, word: str) -> None:
    data, pred = data_set(tmp_path / "data"), predictions(tmp_path / "pred")
    write_mask(pred / "v" / "03.png", np.full(SIZE, held, np.uint8))
    done = scored(data, pred)
    assert f"predictions {word}" in done.warnings[0]
    assert "in 8.3% of the labelled pixels, which count as wrong" in done.warnings[0]


def test_sound_figures_are_not_doubted(tmp_path: Path) -> None:
    done = scored(data_set(tmp_path / "data"), predictions(tmp_path / "pred"))
    assert done.warnings == ()
    assert "warnings" not in done.origin()
    assert "without_mask" not in done.figures.to_json()


def test_values_beyond_the_table_count_as_void_and_are_said(tmp_path: Path) -> None:
    data, pred = data_set(tmp_path / "data"), predictions(tmp_path / "pred")
    mask = truth(3) + np.uint8(1)
    mask[mask == 2] = 77
    write_mask(tmp_path / "data" / "data" / "v" / "mask" / "03.png", mask)
    done = scored(data, pred, ("miou",))
    assert "hold value 77 (2.8% of the pixels)" in done.warnings[0]
    assert done.figures.values["miou"] == 1.0


def test_a_split_without_a_labelled_pixel_is_refused_with_a_mapping(tmp_path: Path) -> None:
    data, pred = data_set(tmp_path / "data"), predictions(tmp_path / "pred")
    for t in range(FRAMES):
        write_mask(tmp_path / "data" / "data" / "v" / "mask" / f"{t:02d}.png", (truth(t) + np.uint8(1)) * np.uint8(10))
    with pytest.raises(VssError, match="no pixel of split 'val' has a class") as caught:
        scored(data, pred, ("miou",))
    assert "{10: road, 20: sky, 30: car}" in caught.value.hint
    assert scored(data, pred, ("vc2",)).warnings[0].startswith("no pixel of split 'val' has a class")
