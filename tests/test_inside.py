"""Nothing is deleted or written outside of a store or a workspace, whatever links lie in it."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from listener import Listener
from PIL import Image
from store_crashes import dead_process
from store_samples import SIZE, distributions, prediction_header, snapshot, stems, write_predictions

import vsscli
from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.data.mapping import load_mapping
from vsscli.data.remap import remap_masks
from vsscli.drawn.config import Scene
from vsscli.drawn.scene import draw_scene
from vsscli.errors import VssError
from vsscli.files import clear_folder, clear_parts, whole_file, write_text
from vsscli.inside import Inside, require_folder, require_inside
from vsscli.pipeline import masks as masks_module
from vsscli.pipeline.cache import collect_leftovers, repair_stores, verify_stores
from vsscli.pipeline.workspace import run_folder, store_path
from vsscli.recipes.pipeline import Pipeline
from vsscli.stages.job import Job
from vsscli.stages.kinds.train import RUN
from vsscli.store.lock import only_one
from vsscli.store.reader import open_store
from vsscli.store.record import Segment
from vsscli.store.upkeep import collect, remove
from vsscli.store.verify import repair, verify
from vsscli.store.work import WorkFolder, read_holder, this_process
from vsscli.store.writer import StoreWriter
from vsscli.training.journal import Journal

MEANS = {"alley": distributions(2, 3), "street": distributions(1, 66)}


@pytest.fixture
def others(tmp_path: Path) -> Path:
    """A folder of somebody's, which must stay as it is."""
    folder = tmp_path / "others"
    for name in ("alley", "street", "c/0/0/0", "x/1/0/0"):
        (folder / name).mkdir(parents=True)
    for name in ("a.txt", "0.json", "alley.json", "street/b", "c/0/0/0/0", "x/1/0/0/0", "last.pt", "00000.png"):
        (folder / name).write_text(f"of somebody: {name}")
    return folder


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store in its place in a workspace."""
    return write_predictions(tmp_path / "runs/stores/sample/val/a.zarr", prediction_header(), MEANS).path


def work_of(store: Path) -> Path:
    return store.with_name(f".{store.name}.work")


def shard(path: Path, video: str, number: int) -> Path:
    return path / video / "label" / "c" / str(number) / "0" / "0"


def place_of_sample(workspace: Path) -> Path:
    return store_path(workspace, prediction_header(), "x")


def swap(place: Path, target: Path) -> None:
    """Put a link in the place of whatever is there."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(target)


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
    with pytest.raises(VssError, match=r"is a link to .* which is not there"):
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


def test_a_file_is_not_written_through_a_link_in_its_place_or_beside_it(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    for name in ("a.txt", f".a.txt.{os.getpid()}.part"):
        swap(tmp_path / "out" / name, others / "a.txt")
    write_text(tmp_path / "out" / "a.txt", "mine")
    assert (tmp_path / "out" / "a.txt").read_text() == "mine"
    assert not (tmp_path / "out" / "a.txt").is_symlink()
    assert os.listdir(tmp_path / "out") == ["a.txt"]
    assert snapshot(others) == before


def test_a_file_of_the_longest_name_is_written_and_cleared(tmp_path: Path) -> None:
    place = tmp_path / ("é" * 125 + ".json")
    write_text(place, "1")
    with pytest.raises(RuntimeError), whole_file(place):
        raise RuntimeError
    assert os.listdir(tmp_path) == [place.name]
    with whole_file(place) as part:
        part.rename(part.with_name(part.name.replace(f".{os.getpid()}.", f".{dead_process()}.")))
        part.write_text("2")
    assert len(os.listdir(tmp_path)) == 2
    clear_parts(place)
    assert os.listdir(tmp_path) == [place.name]


def test_clearing_unfinished_files_takes_links_by_themselves(tmp_path: Path, others: Path) -> None:
    before, dead = snapshot(others), dead_process()
    swap(tmp_path / "out" / f".a.png.{dead}.part", others / "a.txt")
    swap(tmp_path / "out" / f".a.png.{dead}0000000000.part", others)
    swap(tmp_path / "out" / ".a.png.0.part", others / "street")
    swap(tmp_path / "out" / f".b.png.{dead}.part", others)
    (tmp_path / "out" / f".a.png.{os.getpid()}.part").touch()
    (tmp_path / "out" / f".c.png.{dead}.part" / "folder").mkdir(parents=True)
    clear_parts(tmp_path / "out" / "a.png")
    assert len(os.listdir(tmp_path / "out")) == 3
    clear_folder(tmp_path / "out", ".png")
    assert os.listdir(tmp_path / "out") == [f".a.png.{os.getpid()}.part"]
    assert snapshot(others) == before


def test_a_scene_is_drawn_beside_links_and_clears_what_is_half_drawn(tmp_path: Path, others: Path) -> None:
    before, dead = snapshot(others), dead_process()
    scene = Scene(videos=1, unlabelled_videos=1, val_videos=1, frames=1, size=(32, 32))
    (tmp_path / f".street.{dead}.part" / "data").mkdir(parents=True)
    swap(tmp_path / ".street.0.part", others)
    swap(tmp_path / f".street.{os.getpid()}.part", others)
    with pytest.raises(VssError, match="cannot draw"):
        draw_scene(scene, tmp_path / "street")
    (tmp_path / f".street.{os.getpid()}.part").unlink()
    draw_scene(scene, tmp_path / "street")
    assert sorted(os.listdir(tmp_path)) == ["others", "street"]
    (tmp_path / "street/scene.json").write_text(json.dumps({"drawing": 0}))
    swap(tmp_path / "street/data", others)
    with pytest.raises(VssError, match="other parameters"):
        draw_scene(scene, tmp_path / "street")
    swap(tmp_path / "empty", others / "alley")
    with pytest.raises(VssError):
        draw_scene(scene, tmp_path / "empty")
    assert snapshot(others) == before


def test_remapping_writes_and_clears_nothing_behind_a_link(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    (tmp_path / "masks" / "street").mkdir(parents=True)
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "masks" / "street" / "00000.png")
    table = {"name": "t", "classes": [{"id": 0, "name": "a", "colour": [1, 2, 3]}]}
    for name in ("s.json", "t.json"):
        (tmp_path / name).write_text(json.dumps(table))
    (tmp_path / "m.yaml").write_text("source: s.json\ntarget: t.json\nmap:\n  0: ignore\n  a: a\n")
    mapping = load_mapping(str(tmp_path / "m.yaml"))
    swap(tmp_path / "out" / "street", others)
    for force in (True, False):
        with pytest.raises(VssError, match=r"link|holds files|out of"):
            remap_masks(tmp_path / "masks", tmp_path / "out", mapping, force=force, workers=1)
        assert snapshot(others) == before


def test_predicted_masks_replace_nothing_behind_a_link(
    tmp_path: Path, others: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(others)
    swap(tmp_path / "out" / "street", others)
    (tmp_path / "in" / "street").mkdir(parents=True)
    Image.fromarray(np.ones((4, 4, 3), np.uint8)).save(tmp_path / "in" / "street" / "00000.png")
    checkpoint = SimpleNamespace(recipe={}, table=SimpleNamespace(names=("a",)))
    monkeypatch.setattr(masks_module, "open_model", lambda *a, **k: checkpoint)
    monkeypatch.setattr(masks_module, "recipe_from_dict", lambda *a: SimpleNamespace(predict=None))
    for name in ("chosen_plan", "read_out"):
        monkeypatch.setattr(masks_module, name, lambda *a, **k: None)
    monkeypatch.setattr(masks_module, "made_by", lambda *a: {})
    with pytest.raises(VssError, match="out of"):
        masks_module.predict_input(
            Path("m.pt"), tmp_path / "in", tmp_path / "out", context=Context(tmp_path), force=True
        )
    assert snapshot(others) == before


ALLOWED = {
    "inside.py": "the module that does it",
    "files.py": "beside the file, by names of our own",
    "store/work.py": "a link in the store's own place, by itself",
    "store/remote.py": "object stores know no links",
    "data/remap.py": "goes on with a file that it has just written",
    "data/remapped.py": "goes on with a file that it has just written",
    "drawn/scene.py": "in a folder made under our process's own name",
    "training/journal.py": "goes on with a file that it has just written",
}
REMOVING = re.compile(
    r"\.unlink\(|rmtree|\.rmdir\(|\bos\.(replace|rename|remove)\b|\.rename\(|\.write_(text|bytes)\(|open\(\"[wax]"
)


def test_every_place_that_removes_or_overwrites_is_known() -> None:
    house = Path(vsscli.__file__).parent
    found = set()
    for file in house.rglob("*.py"):
        lines = [line for line in file.read_text().splitlines() if REMOVING.search(line)]
        lines = [line for line in lines if not re.search(r"inside\.\w+\(|Inside\(|\bpart\b|write_text\(path", line)]
        if lines:
            found.add(str(file.relative_to(house)))
    assert found <= set(ALLOWED), "remove and overwrite through vsscli.inside or vsscli.files"


# Locks


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


# Workspaces that can't be


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
    with pytest.raises(VssError, match="removed as often as it is made"), WorkFolder(path).guard():
        pass


def test_forced_stores_lie_beside_the_one_that_is_there(path: Path) -> None:
    other = replace(prediction_header(), source={"weights": "other"})
    with StoreWriter(path, other, force=True) as writer:
        assert writer.path.parent == path.parent
