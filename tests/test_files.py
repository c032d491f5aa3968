"""Files are written and removed atomically, and never through a link."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from link_samples import swap
from PIL import Image
from store_crashes import dead_process
from store_crashes import part_of as left_by
from store_samples import snapshot

import vsscli
from vsscli.context import Context
from vsscli.data.mapping import load_mapping
from vsscli.data.remap import remap_masks
from vsscli.drawn.config import Scene
from vsscli.drawn.scene import draw_scene
from vsscli.errors import VssError
from vsscli.files import clear_folder, clear_parts, is_running, part_of, whole_file, write_text
from vsscli.pipeline import masks as masks_module


def test_a_file_is_not_written_through_a_link_in_its_place_or_beside_it(tmp_path: Path, others: Path) -> None:
    before = snapshot(others)
    for place in (tmp_path / "out" / "a.txt", part_of(tmp_path / "out" / "a.txt")):
        swap(place, others / "a.txt")
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
        part.rename(left_by(place, dead_process()))
        part.write_text("2")
    assert len(os.listdir(tmp_path)) == 2
    clear_parts(place)
    assert os.listdir(tmp_path) == [place.name]


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    left_by(place, dead_process()).write_text("half")
    with whole_file(place, sync=False) as part:
        part.write_text("1")
    assert len(os.listdir(tmp_path)) == 2  # in a folder of thousands of masks, looking for it would take too long
    write_text(place, "2")
    assert os.listdir(tmp_path) == [place.name]


def test_clearing_unfinished_files_takes_links_by_themselves(tmp_path: Path, others: Path) -> None:
    before, dead = snapshot(others), dead_process()
    one, two, three = (tmp_path / "out" / f"{name}.png" for name in "abc")
    swap(left_by(one, dead), others / "a.txt")
    swap(left_by(one, dead * 10**10), others)
    swap(left_by(one, 0), others / "street")
    swap(left_by(two, dead), others)
    part_of(one).touch()
    (left_by(three, dead) / "folder").mkdir(parents=True)
    clear_parts(one)
    assert len(os.listdir(one.parent)) == 3
    clear_folder(one.parent, ".png")
    assert os.listdir(one.parent) == [part_of(one).name]
    assert snapshot(others) == before


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="other systems tell no more than a number")
def test_what_has_ended_does_not_run_even_if_nobody_asks_for_its_exit_code() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        assert not is_running(child)
    finally:
        os.waitpid(child, 0)
    assert is_running(os.getpid())
    assert is_running(os.getppid())


def test_what_another_machine_is_writing_is_not_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, dead = tmp_path / "a.zip", dead_process()
    left_by(place, dead).touch()
    monkeypatch.setattr(socket, "gethostname", lambda: "node-2.cluster")
    left_by(place, dead).touch()
    clear_parts(place)
    (other,) = tmp_path.iterdir()
    assert "node-2" not in other.name


def test_a_scene_is_drawn_beside_links_and_clears_what_is_half_drawn(tmp_path: Path, others: Path) -> None:
    before, dead = snapshot(others), dead_process()
    scene = Scene(videos=1, unlabelled_videos=1, val_videos=1, frames=1, size=(32, 32))
    root = tmp_path / "street"
    (left_by(root, dead) / "data").mkdir(parents=True)
    swap(left_by(root, 0), others)
    swap(part_of(root), others)
    with pytest.raises(VssError, match="cannot draw"):
        draw_scene(scene, root)
    part_of(root).unlink()
    draw_scene(scene, root)
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
    checkpoint = SimpleNamespace(recipe={}, config=None, table=SimpleNamespace(names=("a",)))
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
