"""``vss eval`` and ``vss vc``: output when there is nothing to score."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from store_samples import distributions, prediction_header, write_predictions

from vsscli.cli.app import run
from vsscli.data.classes import ClassTable

TABLE = ClassTable("street", ("road", "sky"), ((128, 64, 128), (70, 130, 180)))
VIDEOS = {"brief": 2, "flickering": 4, "short": 1, "steady": 4}


@pytest.fixture
def scored(tmp_path: Path) -> list[str]:
    """Videos of one to four frames, and masks in which one video flickers: options that name both."""
    root, masks = tmp_path / "street", tmp_path / "masks"
    for video, frames in VIDEOS.items():
        for t in range(frames):
            for folder, value in (
                (root / "data" / video / "origin", 90),
                (root / "data" / video / "mask", 1),
                (masks / video, 1 if video == "flickering" and t % 2 else 0),
            ):
                folder.mkdir(parents=True, exist_ok=True)
                kind = "jpg" if folder.name == "origin" else "png"
                Image.fromarray(np.full((4, 6), value, np.uint8)).save(folder / f"{t:05d}.{kind}")
    (root / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    (root / "val.txt").write_text("\n".join(VIDEOS))
    return ["--data", str(root), "--pred", str(masks), "--split", "val"]


def test_videos_without_a_window_come_last(scored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["vc", "--n", "2", "--per-video", *scored]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    videos = [row[:3] for row in rows if row and row[0] in VIDEOS]
    assert videos == [
        ["flickering", "4", "0.0000"],
        ["steady", "4", "1.0000"],
        ["brief", "2", "-"],
        ["short", "1", "-"],
    ]


@pytest.mark.parametrize("command", [["eval", "--metric", "vc16"], ["vc", "--n", "16"]])
def test_why_no_window_counts_is_said(command: list[str], scored: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*command, "--quiet", *scored]) == 0
    said = capfd.readouterr()
    assert "nan" in said.out
    assert "nothing to average for VC16: the longest video that counts has 4 frames, and VC16 needs more" in said.err
    assert run(["eval", "--metric", "miou", "vc2", "--quiet", *scored]) == 0
    assert "VC" not in capfd.readouterr().err


def test_ground_truth_that_never_stays_or_has_no_label_is_said(
    scored: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    for mask in Path(scored[1]).glob("data/*/mask/*.png"):
        Image.fromarray(np.full((4, 6), 255 if int(mask.stem) % 2 else 0, np.uint8)).save(mask)
    assert run(["eval", "--metric", "miou", "vc2", "--quiet", *scored]) == 2
    assert "no pixel of split 'val' has a class" in capfd.readouterr().err
    assert run(["vc", "--n", "2", "--quiet", *scored]) == 0
    said = capfd.readouterr().err
    assert "warning: no pixel of split 'val' has a class" in said
    assert "in no window of 2 frames does a pixel keep its class" in said


def test_the_other_metrics_are_named_like_the_first(scored: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--metric", "TC", "biou", "--json", "--quiet", *scored]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told)[:3] == ["tc", "biou", "protocol"]
    assert told["followed"] == 1.0
    assert run(["eval", "--metric", "biou", "--per-class", *scored]) == 0
    assert capsys.readouterr().out.split()[:2] == ["class", "BIoU"]
    assert run(["vc", "--n", "2", "--tc", "--per-video", *scored]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert rows[0][:4] == ["video", "frames", "VC2", "TC"]
    assert ["flickering", "4", "0.0000", "0.0000"] in [row[:4] for row in rows]
    assert run(["eval", "--metric", "ece", "--quiet", *scored]) == 2
    assert "ece needs probabilities" in capsys.readouterr().err


def test_with_a_recipe_the_newest_store_is_one_of_its_data(
    scored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, runs = Path(scored[1]), tmp_path / "runs"
    for age, name in enumerate(("other", "street")):  # the newer one is of other data
        header = replace(prediction_header(2), table=TABLE, data={"name": name, "split": "val", "root": str(root)})
        store = runs / "stores" / name / "val" / f"{name}.zarr"
        means = {video: distributions(1, frames, 2, (4, 6)) for video, frames in VIDEOS.items()}
        write_predictions(store, header, means)
        when = store.stat().st_mtime - 100 * age
        os.utime(store, (when, when))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        json.dumps({"name": "r", "data": {"name": "street", "root": str(root), "classes": "classes.json"}})
    )
    named = ["--recipe", str(recipe), "--workspace", str(runs), "--quiet", "--json"]
    for command in (["eval", "--metric", "miou"], ["vc", "--n", "2"]):
        assert run([*command, *named]) == 0
        assert json.loads(capsys.readouterr().out)["pred"] == str(runs / "stores" / "street" / "val" / "street.zarr")
