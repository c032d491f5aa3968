"""Figures on frames that were trained on are marked."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from store_samples import change_group, distributions, prediction_header, write_predictions

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.classes import ClassTable
from vsscli.data.config import Data
from vsscli.data.layouts import open_dataset, plain_data
from vsscli.data.masks import read_mask, write_mask
from vsscli.fusion.sources import data_of
from vsscli.fusion.threshold import Threshold
from vsscli.pipeline.evaluate import evaluate
from vsscli.pipeline.reliability import report_reliability
from vsscli.pipeline.report import write_report

TABLE, SIZE, FRAMES = ClassTable("street", ("road", "sky"), ((1, 2, 3), (4, 5, 6))), (8, 12), 6


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two videos; `copy` is `v` again."""
    root = tmp_path / "street"
    rng = np.random.default_rng(1)
    for video in ("v", "w"):
        for t in range(FRAMES):
            place = root / "data" / video / "origin"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(place / f"{t:05d}.png")
            mask = np.repeat(np.array([1, 2], np.uint8), 6)[None].repeat(8, 0)
            write_mask(root / "data" / video / "mask" / f"{t:05d}.png", mask)
    shutil.copytree(root / "data" / "v", root / "data" / "copy")
    for name in ("train", "val", "copy"):
        (root / f"{name}.txt").write_text({"train": "v", "val": "w", "copy": "copy"}[name] + "\n")
    (root / "labelled.txt").write_text("v/00000\nv/00003\n")
    (root / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    return root


def store_of(root: Path, out: Path, split: str, video: str, noted: dict[str, Any]) -> Path:
    header = replace(
        prediction_header(2),
        table=TABLE,
        data={"name": "street", "split": split, "root": str(root), **noted},
    )
    write_predictions(out, header, {video: distributions(1, FRAMES, 2, SIZE)})
    return out


def note(root: Path, **data: Any) -> dict[str, Any]:
    told = plain_data(root).model_copy(update={"name": "street", **data}).model_dump(mode="json")
    return {"section": told, "learned": [told]}


@pytest.mark.parametrize(
    ("split", "video", "data", "learned"),
    [
        ("train", "v", {}, 6),
        ("train", "v", {"labelled": "labelled.txt"}, 2),
        ("copy", "copy", {}, 6),
        ("copy", "copy", {"labelled": "labelled.txt"}, 6),
        ("val", "w", {}, 0),
        ("val", "w", {"train": ("train", "val")}, 6),
        ("copy", "copy", {"train": "gone"}, 0),
    ],
)
def test_frames_that_were_trained_on_are_counted_and_marked(
    root: Path, tmp_path: Path, split: str, video: str, data: dict[str, Any], learned: int
) -> None:
    store = store_of(root, tmp_path / "a.zarr", split, video, note(root, **data))
    heard = Listener()
    done = evaluate(
        context=Context(tmp_path, talk=heard), prediction=store, metrics=("miou",), protocol="vspw", workers=1
    )
    assert done.learned == learned
    assert done.origin().get("trained_on", 0) == learned
    columns, (*_, row) = done.table()
    said = f"{learned} of 6 frames with masks were trained on: figures on them say nothing about new video"
    assert (columns[1:], row[1:]) == ((("trained on",), (f"{learned} of 6 frames",)) if learned else ((), ()))
    assert (said in heard.warned) == bool(learned)


def test_figures_of_held_out_frames_come_first(root: Path, tmp_path: Path) -> None:
    write_mask(root / "data" / "v" / "mask" / "00003.png", np.zeros(SIZE, np.uint8) + 1)  # one of the two learned from
    store = store_of(root, tmp_path / "a.zarr", "train", "v", note(root, labelled="labelled.txt"))
    label = np.stack(distributions(1, FRAMES, 2, SIZE)).argmax(1)
    masks = np.array([read_mask(root / "data" / "v" / "mask" / f"{t:05d}.png") for t in range(FRAMES)]) - 1

    def miou(frames: list[int]) -> float:
        ious = [
            ((label[frames] == k) & (masks[frames] == k)).sum() / ((label[frames] == k) | (masks[frames] == k)).sum()
            for k in (0, 1)
        ]
        return float(np.mean(ious))

    context = Context(tmp_path, talk=(heard := Listener()))
    done = evaluate(store, metrics=("miou", "vc2"), workers=1, context=context)
    assert done.held_out is not None
    assert (done.held_out.figures.frames, done.held_out.marks) == (4, {})
    assert done.held_out.figures.values["miou"] == pytest.approx(miou([1, 2, 4, 5]))
    assert done.held_out.figures.notes["windows"]["vc2"] == 1  # frames 1 and 2; the protocol leaves out the last
    assert done.figures.values["miou"] == pytest.approx(miou([*range(FRAMES)]))
    assert [row[2] for row in done.table()[1]] == ["0 of 4 frames", "2 of 6 frames"]
    assert [row[0] for row in done.table()[1]] == [f"{miou([1, 2, 4, 5]):.4f}", f"{miou([*range(FRAMES)]):.4f}"]
    assert done.origin()["held_out"]["miou"] == done.held_out.figures.values["miou"]
    assert evaluate(store, metrics=("tc",), context=context).held_out is None  # it compares with no mask

    report = write_report([store], context=context)
    (values,) = report.summary["predictions"]
    assert values["held_out"]["frames"] == 4
    assert values["held_out"]["scores"]["miou"] == pytest.approx(miou([1, 2, 4, 5]))
    assert (values["scores"]["miou"], values["trained_on"]) == (done.figures.values["miou"], 2)
    cells = r'scope="row">[^<]*?, ([^<]*)</th><td data-value="([\d.]+)" data-metric="miou"'
    shown = re.findall(cells, report.page.read_text())
    assert [what for what, _ in shown] == ["4 held-out frames", "all frames (2 of 6 trained on)"]
    assert [float(value) for _, value in shown] == pytest.approx([miou([1, 2, 4, 5]), miou([*range(FRAMES)])])
    assert any(f"held out: miou {miou([1, 2, 4, 5]):.4f}" in line for line in heard.said)

    whole = write_report([store_of(root, tmp_path / "b.zarr", "val", "w", note(root))], context=context)
    assert "held_out" not in whole.summary["predictions"][0]
    assert "trained on" not in whole.page.read_text()


def test_the_report_on_reliable_pixels_is_marked(root: Path, tmp_path: Path) -> None:
    store = store_of(root, tmp_path / "a.zarr", "train", "v", note(root))
    heard = Listener()
    report = report_reliability(store, Threshold(0.5), context=Context(talk=heard))
    assert report.learned == 6
    assert report.columns[2] == "right (trained on)"
    assert json.loads(report.figures.read_text())["trained_on"] == 6
    assert "6 of 6 frames with masks were trained on" in heard.warned[-1]
    other = report_reliability(store_of(root, tmp_path / "b.zarr", "val", "w", note(root)), Threshold(0.5))
    assert (other.learned, other.columns[2]) == (0, "right")


def test_what_is_made_of_several_stores_knows_what_all_of_them_learned_from() -> None:
    one, other = ({"section": {"name": "a"}, "learned": [{"name": name}]} for name in ("a", "b"))
    headers = [replace(prediction_header(2), data=data) for data in (one, other, one, {})]
    assert data_of(*headers) == {"section": {"name": "a"}, "learned": [{"name": "a"}, {"name": "b"}]}
    assert data_of(headers[3]) == {}
    fused = [replace(headers[0], data={"chosen_on": [{"split": split}]}) for split in ("val", "train", "val")]
    assert data_of(headers[3], *fused) == {"chosen_on": [{"split": "val"}, {"split": "train"}]}
    assert fused[0].fingerprint == fused[1].fingerprint  # how weights were come by does not change what they make


def test_stores_of_earlier_versions_are_known_by_their_data(root: Path, tmp_path: Path) -> None:
    section = note(root)["section"]
    store = store_of(root, tmp_path / "a.zarr", "train", "v", {})

    def of_format_3(header: dict[str, Any]) -> None:
        header["encoding"]["predictor"] = "up"
        header.update(format=3, summary={"data": section})

    change_group(store / "zarr.json", of_format_3)
    assert evaluate(context=Context(tmp_path), prediction=store, metrics=("miou",), protocol="vspw").learned == 6
    assert open_dataset(Data.model_validate(section)).split("train")


@pytest.mark.parametrize("told", [[], [3], [{"name": 3}]])
def test_a_note_that_is_none_is_no_reason_to_fail(root: Path, tmp_path: Path, told: Any) -> None:
    store = store_of(root, tmp_path / "a.zarr", "train", "v", note(root) | {"learned": told})
    assert run(["eval", "--pred", str(store), "--metric", "miou", "--quiet"]) == 0
