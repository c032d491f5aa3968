"""``vss submit`` from the command line."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from cli_process import vss
from submission_samples import ENTRIES, VIDEOS, write_labels, write_split, write_store, zip_of

from vsscli.cli.app import run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_split(tmp_path / "street")


def workspace_store(tmp_path: Path, root: Path, name: str, split: str = "test", shift: int = 0, age: int = 0) -> Path:
    path = write_store(tmp_path / "runs" / "stores" / "street" / split / f"{name}.zarr", root, split=split, shift=shift)
    when = path.stat().st_mtime - age
    os.utime(path, (when, when))
    return path


def test_the_newest_store_of_the_test_split_is_packed_and_found_right(root: Path, tmp_path: Path) -> None:
    workspace_store(tmp_path, root, "old", shift=1, age=100)
    newest = workspace_store(tmp_path, root, "new", age=50)
    workspace_store(tmp_path, root, "other", split="val")
    done = vss("submit", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["file"] == "runs/submission.zip"
    assert (facts["pred"], facts["split"], facts["frames"]) == (str(newest.relative_to(tmp_path)), "test", 6)
    again = vss("submit", "--pred", newest, "--out", "again.zip", "--workers", "1", cwd=tmp_path)
    assert again.stdout.split()[-1] == facts["sha256"]
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "runs" / "submission.zip").read_bytes()
    for arguments in (["--data", root, "--split", "test"], []):
        checked = vss("submit", "--check", "again.zip", *arguments, "--json", cwd=tmp_path)
        assert checked.returncode == 0, checked.stderr
        report = json.loads(checked.stdout)
        assert report["ok"] is True
        assert (report["frames"], report["entries"], report["faults"]) == (6, 6, [])


def test_a_folder_of_masks_is_packed_with_the_data_it_is_of(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels, out = write_labels(tmp_path / "labels"), tmp_path / "s.zip"
    assert run(["submit", "--pred", str(labels), "--out", str(out)]) == 2
    assert "add --data ROOT or --recipe FILE" in capsys.readouterr().err
    options = ["--data", str(root), "--label-offset", "1", "--prefix", "top"]
    assert run(["submit", "--pred", str(labels), "--out", str(out), *options]) == 0
    with zipfile.ZipFile(out) as packed:
        assert packed.namelist() == [f"top/{entry}" for entry in ENTRIES]
    assert run(["submit", "--check", str(out), *options]) == 0
    captured = capsys.readouterr()
    assert captured.err.endswith("s.zip contains every frame of split 'test', and nothing else\n")
    assert run(["submit", "--check", str(out), "--data", str(root)]) == 2
    assert "hint: the videos are in a folder of the zip" in capsys.readouterr().err


def test_a_recipe_says_what_the_data_is(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "a.yaml"
    recipe.write_text(f"name: a\ndata: {{name: street, root: {root}, classes: classes.json}}\n")
    workspace_store(tmp_path, root, "a")
    common = ["--recipe", str(recipe), "--workspace", str(tmp_path / "runs")]
    assert run(["submit", *common, "--out", str(tmp_path / "s.zip"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pred"].endswith("a.zarr")
    assert run(["submit", "--check", str(tmp_path / "s.zip"), *common]) == 0
    recipe.write_text(recipe.read_text().replace("street,", "lanes,"))
    assert run(["submit", *common, "--out", str(tmp_path / "s.zip")]) == 2
    assert "no prediction of split 'test' of lanes" in capsys.readouterr().err


def test_data_and_split_override_what_the_store_says(root: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", root, split="val")
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "half.txt").write_text(VIDEOS[0])
    arguments = ["submit", "--pred", str(store), "--out", str(tmp_path / "s.zip"), "--data", str(moved)]
    assert run(arguments) == 2, "there is no split val"
    assert run([*arguments, "--split", "half"]) == 0
    with zipfile.ZipFile(tmp_path / "s.zip") as packed:
        assert {name.split("/")[0] for name in packed.namelist()} == {VIDEOS[0]}


def test_a_store_that_lacks_a_video_is_refused(root: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "a.zarr", root)
    shutil.rmtree(store / "one")
    done = vss("submit", "--pred", store, "--out", "s.zip", cwd=tmp_path)
    assert done.returncode == 2
    assert "3 of 6 frames can't be submitted: 3 missing" in done.stderr
    assert "\n  one/0001: has no prediction\n" in done.stderr
    assert "hint: run the predict command again" in done.stderr
    assert not list(tmp_path.glob("*s.zip*"))


def test_a_bad_zip_is_told_with_a_list_and_exit_code_2(root: Path, tmp_path: Path) -> None:
    zip_of(tmp_path / "s.zip", [("../up\x1b[2J.png", b""), *((f"x/{n}.png", b"") for n in range(30))])
    done = vss("submit", "--check", "s.zip", "--data", root, cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stdout.splitlines()
    assert lines[0] == r"path: ../up\x1b[2J.png leads out of the folder it is unpacked in"
    assert "surplus: x/9.png is not a frame of the split (0 bytes)" in lines
    assert "surplus: … and 20 more" in lines
    assert f"missing: {ENTRIES[0]} is not in the zip" in lines
    assert "error: s.zip: 37 faults (1 path, 30 surplus, 6 missing)" in done.stderr
    as_json = vss("submit", "--check", "s.zip", "--data", root, "--json", "--quiet", cwd=tmp_path)
    assert as_json.returncode == 2
    report = json.loads(as_json.stdout)
    assert report["ok"] is False
    assert report["counts"] == {"path": 1, "surplus": 30, "missing": 6}
    assert report["faults"][0]["kind"] == "path"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.zip", "street"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--check", "a.zip", "--out", "b.zip"], "--out has no meaning"),
        (["--check", "a.zip"], "no prediction of split 'test' in runs"),
        (["--check", "gone.zip", "--data", "street"], "gone.zip can't be read"),
        (["--split", "val"], "vss predict --model CHECKPOINT --split val"),
        (["--pred", "gone"], "no prediction at gone"),
        (["--pred", "street"], "street does not name the data set"),
        (["--pred", "street/test.txt", "--data", "street"], "no folder of predictions at street/test.txt"),
        (["--pred", "street", "--data", "street", "--label-offset", "252"], "0..255"),
        (["--pred", "street", "--data", "street", "--label-offset", "-1"], "'--label-offset'"),
        (["--pred", "street", "--data", "street", "--prefix", "../up"], "leads out"),
        (["--pred", "street", "--data", "street", "--split", "gone"], "there are test"),
        (["--pred", "street", "--data", "street", "--out", "street"], "is a folder"),
    ],
)
def test_wrong_arguments_are_told(
    arguments: list[str],
    words: str,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["submit", *arguments]) == 2
    text = capsys.readouterr().err
    assert words in text
    assert "hint: " in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["street"]
