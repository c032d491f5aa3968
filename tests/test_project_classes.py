"""``vss classes``: counting, renaming, merging and dropping, with masks and stores as they are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import refusal
from PIL import Image
from store_samples import distributions, prediction_header, write_predictions

from vsscli.cli.app import run
from vsscli.data.classes import IGNORE, ClassTable, load_class_table
from vsscli.data.config import Data
from vsscli.data.layouts import open_dataset
from vsscli.data.masks import to_classes, write_mask
from vsscli.project.classes import dropped, merged, renamed
from vsscli.project.files import class_table

NAMES = ("road", "car", "truck", "bird")
TABLE = ClassTable("street", NAMES, ((1, 2, 3), (4, 5, 6), (7, 8, 9), (10, 11, 12)))
LABEL = np.array([[0, 1, 2, 3, 1, IGNORE]], np.uint8)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `vss init` leaves it: one video of two frames, one of them labelled."""
    (tmp_path / "clip").mkdir()
    for t in range(2):
        Image.new("RGB", (6, 1)).save(tmp_path / "clip" / f"{t:05d}.png")
    write_mask(tmp_path / "labels" / "clip" / "00000.png", LABEL, TABLE)
    (tmp_path / "classes.yaml").write_text(class_table(TABLE))
    (tmp_path / "dataset.yaml").write_text(
        "name: dataset\ndata:\n  name: street\n  root: .\n  layout: files\n  videos: [clip]\n  val: train\n"
        "  masks: labels/{video}/{frame}.png\n  classes: classes.yaml\n"
    )
    (tmp_path / "vss.yaml").write_text("name: street\nstages: {}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def labels(project: Path) -> tuple[tuple[str, ...], list[int]]:
    data = Data(
        name="street",
        root=str(project),
        layout="files",
        videos=("clip",),
        val="train",
        masks="labels/{video}/{frame}.png",
        classes="classes.yaml",
    )
    dataset = open_dataset(data)
    (mask,) = [frame.mask for video in dataset.split("labelled") for frame in video.frames]
    assert mask is not None
    return dataset.table.names, to_classes(dataset.ids.read(mask), dataset.ids, dataset.table.num_classes, mask)[
        0
    ].tolist()


def test_edits_keep_the_former_names() -> None:
    once = merged(TABLE, ["truck", "car"], "vehicle")
    assert once.names == ("road", "vehicle", "bird")
    assert once.colours == ((1, 2, 3), (4, 5, 6), (10, 11, 12))
    twice = dropped(renamed(once, "vehicle", "wheels"), ["road"])
    assert twice.names == ("wheels", "bird")
    assert dict(twice.former) == {"car": 0, "truck": 0, "vehicle": 0, "road": IGNORE}
    assert (twice.translation(NAMES) or ())[:5] == (IGNORE, 0, 0, 1, IGNORE)
    assert twice.translation(("sky",)) is None
    back = renamed(renamed(TABLE, "car", "auto"), "auto", "car")
    assert (back.names, dict(back.former)) == (NAMES, {"auto": 1})


def test_merging_into_one_of_them_takes_its_colour() -> None:
    found = merged(TABLE, ["road", "bird"])
    assert (found.names, found.colours[0]) == (("bird", "car", "truck"), (10, 11, 12))


@pytest.mark.parametrize(
    ("work", "what"),
    [
        (lambda: renamed(TABLE, "car", "road"), "'road'"),
        (lambda: renamed(TABLE, "van", "car"), "'van'"),
        (lambda: merged(TABLE, ["car"]), "two"),
        (lambda: merged(TABLE, ["car", "truck"], "road"), "'road'"),
        (lambda: dropped(TABLE, NAMES), "no class"),
        (lambda: renamed(dropped(TABLE, ["truck"]), "car", "truck"), "'truck', which was dropped"),
        (lambda: merged(renamed(TABLE, "truck", "lorry"), ["car", "bird"], "truck"), "'truck', which has another"),
    ],
)
def test_edits_that_make_no_table_are_refused(work: object, what: str) -> None:
    assert what in refusal(work).message  # type: ignore[arg-type]


def test_masks_are_read_by_former_names_after_each_edit(project: Path) -> None:
    before = (project / "labels" / "clip" / "00000.png").read_bytes()
    assert run(["classes", "rename", "road", "street", "-q"]) == 0
    assert run(["classes", "merge", "car", "truck", "--into", "vehicle", "-q"]) == 0
    assert labels(project) == (("street", "vehicle", "bird"), [0, 1, 1, 2, 1, IGNORE])
    assert run(["classes", "drop", "street", "-q"]) == 0
    assert labels(project) == (("vehicle", "bird"), [IGNORE, 0, 0, 1, 0, IGNORE])
    assert (project / "labels" / "clip" / "00000.png").read_bytes() == before
    assert dict(load_class_table("classes.yaml", project).former)["road"] == IGNORE


def test_masks_of_numbers_would_be_read_wrongly_and_are_refused(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_mask(project / "labels" / "clip" / "00001.png", LABEL)
    text = (project / "classes.yaml").read_text()
    assert run(["classes", "drop", "bird", "-q"]) == 2
    assert "00001.png" in capfd.readouterr().err
    assert (project / "classes.yaml").read_text() == text
    assert run(["classes", "rename", "bird", "crow", "-q"]) == 0


def test_classes_are_counted(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classes", "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)["train"]
    assert (told["masks"], told["labelled"]) == (1, pytest.approx(5 / 6))
    assert [row["pixels"] for row in told["classes"]] == [1, 2, 1, 1]
    assert run(["classes", "-q"]) == 0
    assert "40.00%" in capsys.readouterr().out


def test_a_store_of_the_former_classes_is_scored_as_the_new_ones(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    header = replace(prediction_header(len(NAMES)), table=TABLE)
    section = {
        "name": "street",
        "root": str(project),
        "layout": "files",
        "videos": ["clip"],
        "val": "train",
        "masks": "labels/{video}/{frame}.png",
        "classes": "classes.yaml",
    }
    header.data.update(split="train", root=str(project), section=section)
    scores = distributions(0, 2, len(NAMES), (1, 6))
    store = write_predictions(project / "p.zarr", header, {"clip": scores}).path
    assert run(["classes", "merge", "car", "truck", "--into", "vehicle", "--json", "-q"]) == 0
    assert json.loads(capfd.readouterr().out)["former"] == {"car": 1, "truck": 1}
    assert run(["eval", "--pred", str(store), "--metric", "acc", "--json", "-q"]) == 0
    told = json.loads(capfd.readouterr().out)
    predicted = np.array([0, 1, 1, 2])[scores[0].argmax(axis=0)[0]]
    wanted = np.array([0, 1, 1, 2, 1])
    assert told["acc"] == pytest.approx(float((predicted[:5] == wanted).mean()))
    assert run(["show", "--store", str(store), "-q"]) == 2
    assert "have changed since" in capfd.readouterr().err
