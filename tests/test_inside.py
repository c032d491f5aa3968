"""Nothing is deleted or written outside a store or a workspace, whatever links it contains."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from link_samples import MEANS, place_of_sample, shard, swap, work_of
from listener import Listener
from store_samples import SIZE, prediction_header, snapshot, stems, write_predictions

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.inside import Inside, require_inside
from vsscli.pipeline.cache import collect_leftovers, repair_stores, verify_stores
from vsscli.pipeline.workspace import run_folder, store_path
from vsscli.recipes.pipeline import Pipeline
from vsscli.stages.job import Job
from vsscli.stages.kinds.train import RUN
from vsscli.store.reader import open_store
from vsscli.store.record import Segment
from vsscli.store.upkeep import collect, remove
from vsscli.store.verify import repair, verify
from vsscli.store.work import WorkFolder
from vsscli.store.writer import StoreWriter
from vsscli.training.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in its place in a workspace."""
    return write_predictions(tmp_path / "runs/stores/sample/val/a.zarr", prediction_header(), MEANS).path


# The module


def test_what_is_below_is_written_moved_and_removed(tmp_path: Path) -> None:
    inside = Inside(tmp_path / "new" / "root")
    inside.write(tmp_path / "new/root/a/b.txt", b"1")
    inside.move_file(tmp_path / "new/root/a/b.txt", tmp_path / "new/root/c/d.txt")
    assert inside.files(tmp_path / "new/root") == [tmp_path / "new/root/c/d.txt"]
    inside.move_folder(tmp_path / "new/root/c", tmp_path / "new/root/e")
    assert inside.unlink(tmp_path / "new/root/e/d.txt")
    assert not inside.unlink(tmp_path / "new/root/e/d.txt")
    assert not inside.unlink(tmp_path / "new/root/nowhere/d.txt")
    inside.rmdir(tmp_path / "new/root/e")
    inside.write(tmp_path / "new/root/a/b.txt", b"1")
    inside.remove(tmp_path / "new/root/a")
    inside.remove(tmp_path / "new/root/a")
    assert os.listdir(tmp_path / "new/root") == []


@pytest.mark.parametrize("by_handle", [True, False])
def test_no_step_goes_through_a_link(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch, by_handle: bool
) -> None:
    monkeypatch.setattr("vsscli.inside.BY_HANDLE", by_handle)
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(others)
    (root / "file").symlink_to(others / "a.txt")
    inside, before = Inside(root), snapshot(others)
    for do in (
        lambda: inside.write(root / "link" / "new", b""),
        lambda: inside.unlink(root / "link" / "a.txt"),
        lambda: inside.remove(root / "link" / "street"),
        lambda: inside.rmdir(root / "link" / "alley"),
        lambda: inside.move_file(root / "link" / "a.txt", root / "a.txt"),
        lambda: inside.make(root / "link" / "new"),
        lambda: inside.write(root / ".." / "others" / "a.txt", b""),
        lambda: inside.unlink(others / "a.txt"),
    ):
        with pytest.raises(VssError, match=r"link|is not in"):
            do()
    if by_handle:
        with pytest.raises(VssError, match="is a link"):
            inside.open(root / "file", os.O_RDWR)
    assert not inside.holds(root / "link")
    assert inside.files(root / "link") == []
    inside.write(root / "file", b"mine")
    assert (root / "file").read_bytes() == b"mine"
    inside.remove(root / "link")
    assert snapshot(others) == before
    assert not (root / "link").is_symlink()


def test_the_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    Inside(tmp_path / "runs").write(tmp_path / "runs/a/b", b"1")
    assert (tmp_path / "disk/a/b").read_bytes() == b"1"
    require_inside(tmp_path / "runs", tmp_path / "runs/a")


# Stores


LINKS: dict[str, Callable[[Path], Path]] = {
    "work": work_of,
    "locks": lambda store: work_of(store) / "locks",
    "staging": lambda store: work_of(store) / "staging",
    "guard": lambda store: work_of(store) / "guard",
    "lock": lambda store: work_of(store) / "locks" / "alley.json",
    "staged": lambda store: work_of(store) / "staging" / "alley",
    "video": lambda store: store / "alley",
    "record": lambda store: store / "alley" / "zarr.json",
    "array": lambda store: store / "alley" / "label",
    "shards": lambda store: store / "alley" / "label" / "c",
    "segment": lambda store: store / "alley" / "label" / "c" / "0",
    "unrecorded": lambda store: store / "alley" / "label" / "c" / "7",
    "shard": lambda store: shard(store, "alley", 0),
}


@pytest.mark.parametrize("where", LINKS)
@pytest.mark.parametrize("target", [".", "x", "c", "c/0", "a.txt"])
def test_clearing_repairing_and_writing_leave_alone_what_links_lead_to(
    path: Path, others: Path, where: str, target: str
) -> None:
    before = snapshot(others)
    swap(LINKS[where](path), others / target)
    for do in (
        lambda: collect(path),
        lambda: repair(open_store(path), verify(open_store(path))),
        lambda: repair(open_store(path), verify(open_store(path))),
        lambda: collect(path),
        lambda: write_predictions(path, prediction_header(), MEANS),
        lambda: remove(path),
        lambda: collect(path),
    ):
        said = ""
        try:
            do()
        except VssError as refused:
            said = refused.message
        assert not said or "link" in said or "zarr.json" in said
        assert snapshot(others) == before


@pytest.mark.parametrize("where", [name for name in LINKS if name not in ("work", "guard")])
def test_a_store_in_which_links_were_put_is_mended(path: Path, others: Path, tmp_path: Path, where: str) -> None:
    whole = snapshot(path)
    swap(LINKS[where](path), others)
    collect(path)
    repair(open_store(path), verify(open_store(path)))
    write_predictions(path, prediction_header(), MEANS)
    collect(path)
    assert verify(open_store(path)) == []
    assert {name: data for name, data in snapshot(path).items() if name in whole} == whole
    assert not work_of(path).exists()


def test_recorded_files_that_are_links_are_damage(path: Path, tmp_path: Path) -> None:
    file = shard(path, "street", 1)
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    damaged = verify(open_store(path))
    assert [(damage.video, damage.segment) for damage in damaged] == [("street", 1)]
    assert "is a link" in damaged[0].what
    repair(open_store(path), damaged)
    assert (tmp_path / "moved").is_file()
    assert not file.is_symlink()


def test_a_store_that_its_owner_linked_goes_on_working(tmp_path: Path, path: Path) -> None:
    whole = snapshot(path)
    (tmp_path / "disk").mkdir()
    real = path.rename(tmp_path / "disk" / "b.zarr")
    path.symlink_to(real)
    shutil.rmtree(real / "alley")
    with StoreWriter(path, prediction_header()) as writer:
        assert writer.pending("alley", stems(3), SIZE) == [Segment(0, 3)]
        assert work_of(real).is_dir()  # beside the store itself, so that nothing is moved between disks
    write_predictions(path, prediction_header(), MEANS)
    (real / "street/label/c/9").mkdir()
    (real / "street/label/c/9/0").write_text("left")
    assert collect(path) == [path / "street/label/c/9/0"]
    file = shard(real, "street", 0)
    file.write_bytes(file.read_bytes()[:-1])
    assert repair(open_store(path), verify(open_store(path))).segments == {"street": (0,)}
    write_predictions(path, prediction_header(), MEANS)
    assert snapshot(path) == whole
    assert sorted(os.listdir(tmp_path / "disk")) == ["b.zarr"]
    remove(path)
    assert not path.is_symlink()
    assert (real / "zarr.json").is_file()


def test_a_link_to_a_store_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").symlink_to(tmp_path / "disk" / "a.zarr")
    with pytest.raises(VssError, match=r"is a link to .* which does not exist"):
        write_predictions(tmp_path / "a.zarr", prediction_header(), MEANS)
    assert not (tmp_path / "disk").exists()


# Workspaces


def test_the_cache_of_a_workspace_ends_where_a_link_leads_out(tmp_path: Path, path: Path) -> None:
    mine = tmp_path / "mine" / "b.zarr"
    shutil.copytree(path, mine)
    (mine / "street/label/c/9").mkdir()
    (mine / "street/label/c/9/0").write_text("mine")
    file = shard(mine, "street", 0)
    file.write_bytes(file.read_bytes()[:-1])
    WorkFolder(mine).path.joinpath("staging").mkdir(parents=True)
    before = snapshot(mine.parent)
    runs = tmp_path / "runs"
    (path.parent / "b.zarr").symlink_to(mine)
    (path.parent.parent / "link").symlink_to(mine.parent)
    (runs / "stores" / "link").symlink_to(tmp_path)
    listener = Listener()
    assert collect_leftovers(runs, talk=listener) == []
    assert sum("leads to" in line for line in listener.warned) >= 2
    assert repair_stores(verify_stores(runs, talk=listener)) == []
    assert snapshot(mine.parent) == before
    assert collect_leftovers(runs, [path.parent / "b.zarr"]) == [path.parent / "b.zarr/street/label/c/9/0"]


def test_a_workspace_that_its_owner_linked_goes_on_working(tmp_path: Path, path: Path) -> None:
    (tmp_path / "runs").rename(tmp_path / "disk")
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    (path / "street/label/c/9").mkdir()
    (path / "street/label/c/9/0").write_text("left")
    assert collect_leftovers(tmp_path / "runs") == [path / "street/label/c/9/0"]
    assert run_folder(tmp_path / "runs", "student") == tmp_path / "runs" / "student"
    assert store_path(tmp_path / "runs", prediction_header(), "x").parent == path.parent


@pytest.mark.parametrize("link", ["stores", "stores/sample", "stores/sample/val", "student"])
def test_results_are_not_put_where_a_link_leads_out(tmp_path: Path, others: Path, link: str) -> None:
    swap(tmp_path / "runs" / link, others)
    place = partial(run_folder, recipe_name="student") if link == "student" else place_of_sample
    with pytest.raises(VssError, match=r"leads to .*others.*, out of"):
        place(tmp_path / "runs")


def test_discarding_a_run_takes_nothing_behind_a_link(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    swap(tmp_path / "runs/loop/student", others)
    stages = {"student": {"do": "train", "recipe": "student"}, "val": {"do": "predict", "model": "student"}}
    job = Job(Pipeline.model_validate({"name": "loop", "stages": stages}), {}, Context(tmp_path / "runs"))
    with pytest.raises(VssError, match="is a link"):
        job.kind("student").discard([])
    assert snapshot(others) == before
    (tmp_path / "runs/loop/student").unlink()
    for name in RUN:
        swap(tmp_path / "runs/loop/student" / name, others / "a.txt")
    job.kind("student").discard([])
    assert os.listdir(tmp_path / "runs/loop/student") == []
    Inside(tmp_path / "runs").write(tmp_path / "runs/loop/student/last.pt.shares/8-0-of-1-a.pt", b"1")
    job.kind("student").discard([])
    assert os.listdir(tmp_path / "runs/loop/student") == []
    store = write_predictions(tmp_path / "mine.zarr", prediction_header(), MEANS).path
    (tmp_path / "runs/a.zarr").symlink_to(store)
    job.kind("val").discard([store, tmp_path / "runs/a.zarr"])
    assert verify(open_store(store)) == []
    assert snapshot(others) == before


def test_a_journal_is_not_written_through_a_link(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    swap(tmp_path / "run" / "journal.jsonl", others / "a.txt")
    journal = Journal(tmp_path / "run" / "journal.jsonl", 0)
    journal.record(1, {"loss": 1.0})
    journal.close()
    assert snapshot(others) == before
    assert json.loads((tmp_path / "run" / "journal.jsonl").read_text())["loss"] == 1.0


# Whole files


# Locks


# Workspaces that can't be
