"""``vss remap``, ``vss show`` and ``vss doctor`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from cli_process import vss
from PIL import Image

from vsscli.cli.app import run
from vsscli.data.classes import ClassTable
from vsscli.data.layouts import plain_data
from vsscli.pipeline.environment import inspect_environment
from vsscli.store.encode import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter

TABLE = ClassTable("street", ("road", "sky", "car"), ((128, 64, 128), (70, 130, 180), (0, 0, 142)))
SIZE = (24, 32)
STEMS = ("0001", "0002", "0003")


def draw_mask() -> np.ndarray:
    """Values as on disk: void 0, then road 1, sky 2, car 3."""
    mask = np.ones(SIZE, np.uint8)
    mask[:8] = 2
    mask[12:18, 10:20] = 3
    mask[-2:] = 0
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two small videos in VSPW's layout."""
    root = tmp_path / "street"
    for video in ("one", "two"):
        for folder in ("origin", "mask"):
            (root / "data" / video / folder).mkdir(parents=True)
        for stem in STEMS:
            image = np.full((*SIZE, 3), 90, np.uint8)
            Image.fromarray(image).save(root / "data" / video / "origin" / f"{stem}.jpg")
            Image.fromarray(draw_mask()).save(root / "data" / video / "mask" / f"{stem}.png")
    (root / "classes.json").write_text(json.dumps(TABLE.to_dict()))
    (root / "train.txt").write_text("one\n")
    (root / "val.txt").write_text("one\ntwo\n")
    return root


def make_store(path: Path, root: Path, kind: str = "prediction") -> Path:
    """A store that predicts both videos of the split `val`, and knows them for certain."""
    encoding = Encoding(kept=3)
    header = Header(
        kind=kind,  # type: ignore[arg-type]
        table=TABLE,
        scores="logits",
        source={"weights": "none"},
        encoding=encoding.to_dict(),
        data={"name": "street", "split": "val", "root": str(root), "section": plain_data(root).model_dump(mode="json")},
    )
    certain = np.full((3, *SIZE), 0.005, np.float32)
    np.put_along_axis(certain, np.maximum(draw_mask(), 1)[None].astype(np.intp) - 1, 0.99, axis=0)
    frame = encode(certain, certain, encoding)
    with StoreWriter(path, header) as writer:
        for video in ("one", "two"):
            for segment in writer.pending(video, STEMS, SIZE):
                writer.write(video, segment, {name: np.stack([values] * 3) for name, values in frame.items()})
    return path


# show


def test_show_draws_the_newest_store_of_the_workspace(root: Path, tmp_path: Path) -> None:
    make_store(tmp_path / "runs" / "stores" / "street" / "val" / "a.zarr", root)
    done = vss("show", "--frames", "2", "--videos", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    names = [f"{video}/{stem}.png" for video in ("one", "two") for stem in ("0001", "0003")]
    folder = Path("runs", "pictures", "a")
    assert done.stdout.splitlines() == [str(folder / name) for name in names]
    with Image.open(tmp_path / folder / names[0]) as picture:
        assert picture.format == "PNG"
        assert picture.width > 3 * 320  # prediction, truth, entropy


def test_show_takes_one_video_and_prints_json(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "a.zarr", root)
    out = tmp_path / "pictures"
    assert run(["show", "--store", str(store), "--video", "two", "--out", str(out), "--json", "--quiet"]) == 0
    captured = capsys.readouterr()
    pictures = [str(out / "two" / f"{stem}.png") for stem in STEMS]
    assert json.loads(captured.out) == {"store": str(store), "pictures": pictures}
    assert captured.err == ""


def test_show_follows_data_that_has_moved(root: Path, tmp_path: Path) -> None:
    store = make_store(tmp_path / "a.zarr", root)
    moved = root.rename(tmp_path / "elsewhere")
    assert run(["show", "--store", str(store), "--out", str(tmp_path / "p")]) == 2
    assert not (tmp_path / "p").exists()
    assert run(["show", "--store", str(store), "--data", str(moved), "--out", str(tmp_path / "p")]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--store", "a.zarr", "--video", "three"], ["no video 'three'", "one, two"]),
        (["--store", "nothing.zarr"], ["nothing.zarr"]),
        ([], ["no prediction store in", "vss predict"]),
    ],
)
def test_show_says_what_is_missing(
    arguments: list[str],
    words: list[str],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    make_store(tmp_path / "a.zarr", root)
    assert run(["show", *arguments]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    for word in words:
        assert word in text


def test_show_refuses_frames_of_another_size(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = make_store(tmp_path / "a.zarr", root)
    for path in root.glob("data/*/*/*"):
        with Image.open(path) as image:
            image.resize((16, 12), Image.Resampling.NEAREST).save(path)
    assert run(["show", "--store", str(store), "--out", str(tmp_path / "p")]) == 2
    assert "is 32x24, its frame" in capsys.readouterr().err


# remap


def write_mapping(folder: Path) -> Path:
    path = folder / "own.yaml"
    path.write_text("source: [road, sky, car]\ntarget: vspw124\nmap: {0: ignore, road: road, sky: sky, car: ignore}\n")
    return path


def test_remap_rewrites_masks_and_reports_what_was_kept(root: Path, tmp_path: Path) -> None:
    arguments = ["remap", "--source", write_mapping(tmp_path), "--masks", root / "data", "--out", "new"]
    done = vss(*arguments, "--json", "--workers", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    mask = draw_mask()
    assert figures["masks"] == 6
    assert figures["pixels"] == 6 * mask.size
    assert figures["kept"] == 6 * int(np.isin(mask, (1, 2)).sum())
    assert (figures["source_classes"], figures["kept_classes"]) == (3, 2)
    assert figures["classes"] == {"road": 6 * int((mask == 1).sum()), "sky": 6 * int((mask == 2).sum())}
    again = vss(*arguments, "--workers", "1", cwd=tmp_path)
    assert again.returncode == 0
    assert "6 of 6 masks" in again.stderr
    assert "2 of 3 classes of own are kept, 2 of 124 occur" in again.stderr
    assert again.stdout.splitlines()[0].split() == ["class", "pixels", "share"]


def test_remap_shows_what_becomes_of_each_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["remap", "--source", "cityscapes", "--show", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["source"], told["target"], len(told["mapping"])) == ("cityscapes", "vspw124", 19)
    assert (told["mapping"]["sidewalk"], told["mapping"]["terrain"]) == ("path", None)
    assert run(["remap", "--source", "cityscapes", "--show"]) == 0
    captured = capsys.readouterr()
    rows = [line.split() for line in captured.out.splitlines()]
    assert ["sidewalk", "path"] in rows
    assert ["terrain", "ignore"] in rows
    assert captured.err == "16 of 19 classes of cityscapes have a class of vspw124\n"


def test_remap_still_knows_the_sources_first_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = str(write_mapping(tmp_path))
    assert run(["remap", "--mapping", own, "--show", "--json"]) == 0
    wanted = {"source": "own", "target": "vspw124", "mapping": {"road": "road", "sky": "sky", "car": None}}
    assert json.loads(capsys.readouterr().out) == wanted
    assert run(["remap", "--help"]) == 0
    assert "--mapping" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [("gone.yaml", None, "gone.yaml"), ("bad.yaml", "map: [", "bad.yaml"), ("odd.yaml", "target: vspw124\n", "map")],
)
def test_remap_refuses_a_bad_mapping_and_writes_nothing(
    name: str, text: str | None, word: str, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    out = tmp_path / "new"
    assert run(["remap", "--source", str(tmp_path / name), "--masks", str(root / "data"), "--out", str(out)]) == 2
    text = capsys.readouterr().err
    assert word in text
    assert len(text.splitlines()) <= 12
    assert not out.exists()


# doctor


def test_doctor_finds_nothing_wrong_with_sound_data(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["doctor", "--data", str(root), "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["ok"] is True
    assert report["faults"] == []
    assert report["versions"]["torch"]
    assert report["cores"] >= 1
    assert "val: 2 videos, 6 frames, with masks" in captured.err


def test_doctor_lists_every_fault_and_exits_with_2(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = root / "data" / "one"
    (one / "origin" / "0001.jpg").write_bytes(b"")
    (one / "origin" / "0002.jpg").write_bytes((one / "origin" / "0003.jpg").read_bytes()[:-40])
    two = root / "data" / "two" / "mask"
    Image.fromarray(np.full(SIZE, 9, np.uint8)).save(two / "0001.png")
    Image.fromarray(np.ones((12, 16), np.uint8)).save(two / "0002.png")
    done = vss("doctor", "--data", root, "--json", cwd=tmp_path)
    assert done.returncode == 2
    faults = json.loads(done.stdout)["faults"]
    named = {str(Path(fault["where"]).relative_to(root / "data")) for fault in faults}
    assert named == {"one/origin/0001.jpg", "one/origin/0002.jpg", "two/mask/0001.png", "two/mask/0002.png"}
    assert all(fault["what"] and fault["remedy"] for fault in faults)
    assert len({fault["where"] for fault in faults}) == len(faults)  # though `one` is in two splits
    last = done.stderr.splitlines()[-3:]
    assert last == ["error: 4 faults found", "", "hint: each is listed above with its remedy"]
    assert run(["doctor", "--data", str(root), "--quiet"]) == 2
    assert capsys.readouterr().out.count("  remedy: ") == 5  # that of the video in two splits is a warning


def test_doctor_reads_the_data_set_of_a_recipe(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text(f"name: a\ndata: {{name: street, root: {root}, classes: classes.json, unlabelled: [test]}}\n")
    assert run(["doctor", "--recipe", str(recipe), "--json"]) == 2
    faults = json.loads(capsys.readouterr().out)["faults"]
    assert len(faults) == 1
    assert "test.txt" in faults[0]["what"]


def test_doctor_names_a_folder_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--data", str(tmp_path / "gone"), "--json"]) == 2
    assert "gone" in json.loads(capsys.readouterr().out)["faults"][0]["what"]


class NoGpu:
    @staticmethod
    def is_available() -> bool:
        return False


def installation(torch: str, vision: str | None, vision_fails: Exception | None = None) -> list[tuple[str, str]]:
    """What is found wrong with a pair of torch and torchvision."""

    def import_module(name: str) -> ModuleType:
        if name == "torchvision" and vision_fails is not None:
            raise vision_fails
        module = ModuleType(name)
        module.cuda = NoGpu  # type: ignore[attr-defined]
        return module

    versions = {"torch": torch, "torchvision": vision}
    found = inspect_environment(Path(), version_of=lambda name: versions.get(name, "1.0"), import_module=import_module)
    return [(problem.what, problem.remedy) for problem in found.problems]


def test_an_installation_that_fits_has_no_problems() -> None:
    assert installation("2.14.1", "0.29.1") == []


def test_torch_and_torchvision_of_different_builds_are_recognised() -> None:
    # The words of torchvision 0.29.1 beside torch 2.14.1+cpu.
    problems = installation("2.14.1+cpu", "0.29.1", RuntimeError("operator torchvision::nms does not exist"))
    assert len(problems) == 1
    what, remedy = problems[0]
    assert "torch 2.14.1+cpu and torchvision 0.29.1 are different builds" in what
    assert "torch==2.14.1 torchvision==0.29.1" in remedy
    assert "https://download.pytorch.org/whl/cpu" in remedy


def test_another_failure_of_torchvision_is_told_too() -> None:
    problems = installation("2.14.1", "0.29.1", OSError("libjpeg.so: cannot open\nmore"))
    assert "import torchvision fails with torch 2.14.1: libjpeg.so: cannot open" in problems[0][0]


@pytest.mark.parametrize(("version", "old"), [("2.9.1", True), ("2.10.0", False), ("2.14.1+cu130", False)])
def test_a_torch_that_can_be_made_to_run_code_is_named(version: str, old: bool) -> None:
    problems = installation(version, "0.29.1")
    assert bool(problems) is old
    if old:
        assert "torch>=2.10" in problems[0][1]


def test_what_is_not_installed_is_named() -> None:
    assert installation("2.14.1", None)[0][0] == "torchvision is not installed"
