"""Locks of stores that nobody holds, and workspaces that can't be locked."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from link_samples import MEANS, work_of
from store_samples import SIZE, prediction_header, stems, write_predictions

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.inside import Inside, require_folder
from vsscli.store.lock import only_one
from vsscli.store.upkeep import collect
from vsscli.store.work import WorkFolder, read_holder, this_process
from vsscli.store.writer import StoreWriter


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in its place in a workspace."""
    return write_predictions(tmp_path / "runs/stores/sample/val/a.zarr", prediction_header(), MEANS).path


@pytest.mark.parametrize("pid", [0, -1, True, False, 10**40, 2**63, None, "1", 1.0, [], {}])
def test_a_lock_of_no_process_is_nobodys(path: Path, pid: object) -> None:
    shutil.rmtree(path / "alley")
    lock = work_of(path) / "locks" / "alley.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(json.dumps({**this_process(), "pid": pid}))
    with StoreWriter(path, prediction_header()) as writer:
        assert writer.pending("alley", stems(3), SIZE)
        assert (read_holder(lock) or {})["pid"] == os.getpid()


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "", "null", '"\\ud800"', '{"pid": 1e999}'])
def test_a_lock_that_says_nothing_is_nobodys(path: Path, text: str) -> None:
    lock = work_of(path) / "locks" / "alley.json"
    lock.parent.mkdir(parents=True)
    lock.write_text(text)
    (work_of(path) / "locks" / "folder.json").mkdir()
    assert len(collect(path)) == 2
    assert not work_of(path).exists()


@pytest.mark.parametrize("kind", ["proc", "file", "below a file", "dead link", "below a dead link", "loop"])
def test_a_workspace_that_can_not_be_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    place = {
        "proc": Path("/proc/x"),
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "runs",
        "dead link": tmp_path / "link",
        "below a dead link": tmp_path / "link" / "runs",
        "loop": tmp_path / "loop",
    }[kind]
    if kind == "proc":
        with pytest.raises(VssError, match="cannot write /proc/x"):
            write_predictions(place / "a.zarr", prediction_header(), MEANS)
        with pytest.raises(VssError, match="cannot write /proc/x"), only_one(place / "loop", "x", "run", ""):
            pass
        return
    with pytest.raises(VssError):
        require_folder(place, "workspace")
    for verb in (["cache", "ls"], ["train", "--recipe", "student"], ["run", "demo/loop"], ["eval"]):
        assert run([*verb, "--workspace", str(place)]) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert str(place.name) in said or "link" in said
    assert not (tmp_path / "nowhere").exists()


def test_a_guard_that_vanishes_for_ever_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def vanish(*arguments: object) -> int:
        raise FileNotFoundError

    monkeypatch.setattr(Inside, "open", vanish)
    with pytest.raises(VssError, match="removed"), WorkFolder(path).guard():
        pass


def test_forced_stores_lie_beside_the_one_that_is_there(path: Path) -> None:
    other = replace(prediction_header(), source={"weights": "other"})
    with StoreWriter(path, other, force=True) as writer:
        assert writer.path.parent == path.parent
