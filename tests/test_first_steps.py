"""docs/first-steps.md, followed to the letter on two small clips, and what a project is asked besides."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from video_samples import SIZE, write_clip

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.data.png import parse_png
from vsscli.project import init
from vsscli.project.sizing import Size, measured_size
from vsscli.recipes.load import load_recipe

PAGE = Path(__file__).parents[1] / "docs" / "first-steps.md"
ROAD, SKY = (128, 64, 128), (70, 130, 180)
SMALL = """
model: {encoder: test_resnet, channels: 16, pretrained: none}
augment: {size: 48, crop: [32, 64]}
train: {batch_size: 2, warmup: 1, workers: 0, threads: 1}
predict: {size: 48, tta: {scales: [1.0], flip: true}}
"""


CORRECTED: list[str] = []
"""What the annotator of this test corrected."""


def commands() -> list[list[str]]:
    """All commands of the page."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def vss(*arguments: str) -> None:
    assert run([*arguments, "--quiet"]) == 0, arguments


@pytest.fixture
def street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the page begins with."""
    folder = tmp_path / "street"
    for seed, name in enumerate(("a", "b")):
        write_clip(folder / "clips" / f"{name}.mp4", frames=14, seed=seed)
        for number in range(1, 14, 2):
            pixels = np.full((*SIZE, 3), SKY, np.uint8)
            pixels[20 + number :] = ROAD
            path = folder / "masks" / name / f"{name}_{number:06d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (folder / "labelmap.txt").write_text("background:0,0,0::\nroad:128,64,128::\nsky:70,130,180::\n")
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_page_has_few_commands_with_few_options() -> None:
    assert len(commands()) <= 10
    assert all(sum(word.startswith("--") for word in command) <= 3 for command in commands())


def test_the_page_followed_to_the_letter(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(init, "measured_size", lambda *given, **options: Size(4, 2, "measured"))
    for command in commands():
        if command[0] == "cd":
            monkeypatch.chdir(street)
            continue
        if command == ["vss", "import", "corrected.zip"]:
            _correct(street)
            scored = _scored(street)
        vss(*command[1:])
        if command == ["vss", "init"]:  # clips of 48 by 64 pixels need a smaller network
            student = street / "student.yaml"
            student.write_text(student.read_text().replace("dataset.yaml]", "dataset.yaml, small.yaml]"))
            (street / "small.yaml").write_text(f"name: small\n{SMALL}")
    table = json.loads((street / "runs" / "street" / "summary.json").read_text())
    assert table
    assert len(list((street / "exported" / "png").rglob("*.png"))) == 28
    label = parse_png((street / "exported" / "png" / "a" / "000000.png").read_bytes())
    assert label.classes
    assert sorted(path.name for path in (street / "exported" / "videos").glob("*.mp4")) == ["a.mp4", "b.mp4"]
    before = (street / "dataset.yaml").read_text()
    vss("init", "--yes", "--no-measure")  # what was exported is no new clip
    assert (street / "dataset.yaml").read_text() == before
    corrected = Image.open(street / "labels" / CORRECTED[0])
    assert len(np.unique(np.asarray(corrected))) == 1
    assert scored
    assert _scored(street) == scored  # so the figures of both rounds can be compared
    assert CORRECTED[0].removesuffix(".png") not in scored


def _scored(street: Path) -> set[str]:
    """The held-out frames that have a mask."""
    val = open_dataset(load_recipe(street / "dataset.yaml").data, street).split("val")
    return {frame.address for video in val for frame in video.frames if frame.mask is not None}


def _correct(street: Path) -> None:
    """What an annotator does to the draft: one frame becomes road from top to bottom."""
    with zipfile.ZipFile(street / "next" / "draft.zip") as draft:
        text = draft.read("annotations.xml").decode()
    images = re.findall(r"<image .*?</image>", text, re.S)
    head = images[0][: images[0].index(">") + 1]
    CORRECTED.append(re.search(r'name="([^"]+)"', head)[1].replace("_", "/", 1))  # type: ignore[index]
    height, width = SIZE
    box = f"0.0,0.0;{width}.0,0.0;{width}.0,{height}.0;0.0,{height}.0"
    polygon = f'<polygon label="road" occluded="0" points="{box}" z_order="0"></polygon>'
    text = text[: text.index("<image ")] + f"{head}{polygon}</image>" + "</annotations>"
    with zipfile.ZipFile(street / "corrected.zip", "w") as corrected:
        corrected.writestr("annotations.xml", text)


def test_commands_do_the_stages_of_a_project(
    street: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(street)
    assert run(["run"]) == 2
    assert "vss init" in capsys.readouterr().err
    assert run(["train"]) == 2
    assert run(["predict"]) == 2
    vss("init", "--yes", "--no-measure")
    shutil.rmtree(street / "runs", ignore_errors=True)
    (street / "student.yaml").write_text(
        f"extends: [start/cpu.yaml, dataset.yaml]\nname: student\n{SMALL}".replace("train: {", "train: {steps: 2, ")
    )
    vss("train")
    runs = street / "runs" / "street"
    assert (runs / "student" / "last.pt").is_file()
    assert not (runs / "retrained").exists()
    vss("pseudo", "--percentile", "60")
    capsys.readouterr()
    assert run(["run", "pseudo", "--set", "stages.pseudo.percentile=60", "--json", "--quiet"]) == 0
    assert {stage["status"] for stage in json.loads(capsys.readouterr().out)["stages"]} == {"cached"}
    assert run(["run", "nothing"]) == 2


@pytest.mark.slow
def test_steps_are_measured_on_this_machine(street: Path) -> None:
    init.init_project(street, measure=False)
    size = measured_size(street / "student.yaml", 5, 100, Context(data_root=street), scored=True)
    assert 100 <= size.steps <= 20_000
    assert size.validate_every == size.steps // 3
    assert size.minutes is not None
    assert size.minutes[1] > 0
    assert re.fullmatch(r"about \d+ minutes? on this machine, [\d.e+-]+ s a step", size.reason)
