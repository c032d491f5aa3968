"""Locks of stores that nobody holds, and workspaces that can't be locked."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
from link_samples import MEANS, work_of
from store_samples import SIZE, prediction_header, stems, write_predictions

from vsscli.cli.app import run
from vsscli.engine.attempt import attempt
from vsscli.errors import VssError
from vsscli.inside import Inside, require_folder
from vsscli.store.lock import only_one
from vsscli.store.reader import open_store
from vsscli.store.upkeep import collect
from vsscli.store.work import WorkFolder, read_holder, this_process
from vsscli.store.writer import StoreWriter

LISTS = ("top_class", "top_probability")


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


def claimed_elsewhere(writer: StoreWriter, path: Path, silent: float, **changes: object) -> None:
    """The lock of alley as if another machine had written it, without a sign of life for some seconds."""
    lock = work_of(path) / "locks" / "alley.json"
    lock.write_text(json.dumps({**json.loads(lock.read_text()), "host": "another machine", **changes}))
    then = time.time() - silent
    os.utime(lock, (then, then))


def test_a_lock_of_another_machine_is_taken_over_when_its_heart_stood_still(path: Path) -> None:
    store = open_store(path)
    arrays = {name: store.read("alley", name, slice(3)) for name in ("label", "entropy", *LISTS)}
    shutil.rmtree(path / "alley")
    with StoreWriter(path, prediction_header()) as gone, StoreWriter(path, prediction_header()) as other:
        (segment,) = gone.pending("alley", stems(3), SIZE)
        claimed_elsewhere(gone, path, silent=200)
        with pytest.raises(VssError, match="another machine") as held:
            other.pending("alley", stems(3), SIZE)
        assert "taken over 5 minutes after" in held.value.hint
        claimed_elsewhere(gone, path, silent=400)
        assert other.pending("alley", stems(3), SIZE) == [segment]
        with pytest.raises(VssError, match=f"taken over by process {os.getpid()}"):
            gone.write("alley", segment, arrays)
        gone.close()
        other.write("alley", segment, arrays)
    assert open_store(path).record("alley").is_complete


def test_a_lock_is_taken_over_at_once_by_the_next_attempt_at_the_same_piece_of_work(path: Path) -> None:
    shutil.rmtree(path / "alley")
    with StoreWriter(path, prediction_header()) as gone, StoreWriter(path, prediction_header()) as other:
        with attempt("call 7"):
            (segment,) = gone.pending("alley", stems(3), SIZE)
            with pytest.raises(VssError, match="being written by process"):  # alive, on this machine
                other.pending("alley", stems(3), SIZE)
        claimed_elsewhere(gone, path, silent=0)
        for piece in ("", "call 8"):
            with attempt(piece), pytest.raises(VssError, match="another machine"):
                other.pending("alley", stems(3), SIZE)
        with attempt("call 7"):
            assert other.pending("alley", stems(3), SIZE) == [segment]


def test_a_lock_of_an_earlier_version_is_never_taken_over(path: Path) -> None:
    shutil.rmtree(path / "alley")
    with StoreWriter(path, prediction_header()) as gone, StoreWriter(path, prediction_header()) as other:
        gone.pending("alley", stems(3), SIZE)
        lock = work_of(path) / "locks" / "alley.json"
        holder = {name: value for name, value in this_process().items() if name != "beats"}
        lock.write_text(json.dumps({**holder, "host": "another machine"}))
        os.utime(lock, (0, 0))
        with pytest.raises(VssError, match="another machine") as held:
            other.pending("alley", stems(3), SIZE)
        assert f"remove {lock}" in held.value.hint
        lock.unlink()


def test_a_heart_beats_while_a_video_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vsscli.store.heartbeat.EVERY", 0.05)
    shutil.rmtree(path / "alley")
    with StoreWriter(path, prediction_header()) as writer:
        writer.pending("alley", stems(3), SIZE)
        lock = work_of(path) / "locks" / "alley.json"
        os.utime(lock, (0, 0))
        deadline = time.monotonic() + 20
        while not lock.stat().st_mtime and time.monotonic() < deadline:
            time.sleep(0.02)
        assert time.time() - lock.stat().st_mtime < 30
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
    for command in (["cache", "ls"], ["train", "--recipe", "student"], ["run", "demo/loop"], ["eval"]):
        assert run([*command, "--workspace", str(place)]) == 2
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
