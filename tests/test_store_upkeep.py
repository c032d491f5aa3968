"""``vss cache``: sizes of stores, verification, repair, and removing what dead processes left."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from store_crashes import dead_process
from store_samples import SIZE, change_group, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.pipeline.workspace import newest_store
from vsscli.store.reader import open_store
from vsscli.store.upkeep import collect, measure
from vsscli.store.verify import repair, verify
from vsscli.store.work import WorkFolder, this_process
from vsscli.store.writer import StoreWriter

MEANS = {"alley": distributions(2, 3), "street": distributions(1, 130)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_predictions(tmp_path_factory.mktemp("template") / "a.zarr", prediction_header(), MEANS).path


@pytest.fixture
def path(tmp_path: Path, template: Path) -> Path:
    """A store in its place in a workspace."""
    return Path(shutil.copytree(template, tmp_path / "runs" / "stores" / "sample" / "val" / "a.zarr"))


def shard(path: Path, video: str, name: str, number: int) -> Path:
    return next(file for file in (path / video / name / "c" / str(number)).rglob("0") if file.is_file())


def flip(file: Path) -> None:
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 3] ^= 4
    file.write_bytes(whole)


def cache(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = run(["cache", *map(str, arguments)])
    said = capsys.readouterr()
    return code, said.out, said.err


def predict_again(path: Path) -> list[tuple[str, int]]:
    """Continue the store as the command that made it would; return the segments written."""
    made = []
    with StoreWriter(path, prediction_header()) as writer:
        for video, means in MEANS.items():
            made += [(video, segment.start // 64) for segment in writer.pending(video, stems(len(means)), SIZE)]
    write_predictions(path, prediction_header(), MEANS)
    return made


def test_damage_is_named_and_repaired_so_that_the_next_run_makes_just_that(
    path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    work = path.parents[3]
    flip(shard(path, "street", "entropy", 1))
    code, out, err = cache(capsys, "verify", "--workspace", work)
    assert code == 2
    assert "1 damaged video found" in err
    assert "vss cache repair" in err
    assert "street" in out
    assert "alley" not in out
    before = snapshot(path / "alley")
    code, out, err = cache(capsys, "repair", "--workspace", work, "--json")
    assert code == 0
    assert json.loads(out)["repaired"] == [{"store": str(path), "videos": [], "segments": {"street": [1]}}]
    assert verify(open_store(path)) == []
    with pytest.raises(VssError, match="not there yet"):
        open_store(path).label("street", 64)
    assert cache(capsys, "verify", "--stores", path)[0] == 0
    assert snapshot(path / "alley") == before
    assert predict_again(path) == [("street", 1)]
    assert snapshot(path) == snapshot(template)
    assert [entry.name for entry in path.parent.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("harm", ["record", "array", "link"])
def test_a_video_whose_metadata_is_damaged_goes_whole(path: Path, template: Path, tmp_path: Path, harm: str) -> None:
    if harm == "record":
        (path / "alley" / "zarr.json").write_text("{")
    elif harm == "array":
        text = (path / "alley" / "label" / "zarr.json").read_text()
        (path / "alley" / "label" / "zarr.json").write_text(text.replace('"uint8"', '"int8"'))
    else:
        (path / "alley").rename(tmp_path / "elsewhere")
        (tmp_path / "elsewhere" / "zarr.json").write_text("{")
        (path / "alley").symlink_to(tmp_path / "elsewhere")
    store = open_store(path)
    damaged = verify(store)
    assert [(damage.video, damage.segment) for damage in damaged] == [("alley", None)]
    assert repair(store, damaged).videos == ("alley",)
    assert open_store(path).videos() == ("street",)
    assert predict_again(path) == [("alley", 0)]
    assert snapshot(path) == snapshot(template)
    if harm == "link":
        assert (tmp_path / "elsewhere" / "label").is_dir()  # what it pointed to is not ours to remove


def test_a_video_whose_record_is_lost_is_named_dropped_and_made_again(
    path: Path, template: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path / "street" / "zarr.json").unlink()
    with pytest.raises(VssError, match=r"street holds arrays .* no record") as refused:
        predict_again(path)
    assert "`vss cache repair`" in refused.value.hint
    damaged = verify(open_store(path))
    assert [(damage.video, damage.segment) for damage in damaged] == [("street", None)]
    assert "zarr.json is missing" in damaged[0].what
    assert cache(capsys, "gc", "--stores", path)[0] == 0
    assert cache(capsys, "repair", "--stores", path)[0] == 0
    assert verify(open_store(path)) == []
    assert predict_again(path) == [("street", 0), ("street", 1), ("street", 2)]
    assert snapshot(path) == snapshot(template)


def test_a_video_that_is_being_written_is_not_repaired(path: Path) -> None:
    flip(shard(path, "street", "label", 0))
    work = WorkFolder(path)
    work.lock("street")
    store = open_store(path)
    with pytest.raises(VssError, match="being written by process"):
        repair(store, verify(store))
    assert len(open_store(path).record("street").segments) == 3
    work.release("street")
    work.tidy()


def test_sizes_are_told_by_array_and_video(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = cache(capsys, "du", "--stores", path, "--json")
    assert code == 0
    (facts,) = json.loads(out)
    on_disk = {name: len(content) for name, content in snapshot(path).items()}
    for video in facts["videos"]:
        assert video["present"] == video["frames"] == len(MEANS[video["name"]])
        for name, size in video["bytes"].items():
            assert size == sum(n for file, n in on_disk.items() if file.startswith(f"{video['name']}/{name}/c/"))
    assert facts["metadata"] == sum(size for file, size in on_disk.items() if file.endswith("zarr.json"))
    assert facts["leftovers"] == 0
    assert facts["bytes"] == sum(on_disk.values())
    code, out, _ = cache(capsys, "ls", "--workspace", path.parents[3])
    assert out.splitlines()[-1].split()[:4] == ["prediction", "sample/val", "2", "133"]
    assert "whole" in out
    assert str(path) in cache(capsys, "du", "--stores", path)[1]


def test_an_unfinished_store_is_listed_as_what_it_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(shard(path, "street", "label", 2))
    assert cache(capsys, "repair", "--stores", path)[0] == 0
    assert "131 of 133 frames" in cache(capsys, "ls", "--stores", path)[1]


def test_gc_removes_what_the_dead_left_and_nothing_else(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(path)
    stray = path / "street" / "label" / "c" / "0" / "0" / "0"
    flip(stray)  # repair drops the segment from the record; then a writer dies before it records the new file
    store = open_store(path)
    repair(store, verify(store))
    recorded = snapshot(path)
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"half")
    work = WorkFolder(path)
    for video, holder in (("alley", {**this_process(), "pid": dead_process(), "started": None}), ("street", None)):
        work.lock(video)
        work.lock_path(video).write_text(json.dumps(holder))
        work.staging(video).mkdir(parents=True)
        (work.staging(video) / "label").write_bytes(b"half")
    (work.path / "locks" / "lane.new").write_text("{")
    work.staging("__root__").mkdir()
    nobody = path.with_name(".b.zarr.work")  # its store never came to be
    (nobody / "staging" / "__root__").mkdir(parents=True)
    assert measure(path).leftovers > 0
    code, out, _ = cache(capsys, "gc", "--workspace", path.parents[3], "--json")
    assert code == 0
    removed = json.loads(out)["removed"]
    assert str(stray) in removed
    assert len(removed) == 8
    assert snapshot(path) == recorded != before
    assert [entry.name for entry in path.parent.iterdir()] == ["a.zarr"]
    assert cache(capsys, "gc", "--workspace", path.parents[3])[1] == "no leftovers\n"


def test_gc_of_what_is_no_store_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, what in (("typo.zarr", "does not exist"), (path.parent, "is not a store")):
        code, out, err = cache(capsys, "gc", "--stores", path.parent / name)
        assert (code, out) == (2, "")
        assert what in err
    work = WorkFolder(path.with_name("begun.zarr"))  # its writer died before the store had a header
    work.staging("__root__").mkdir(parents=True)
    assert cache(capsys, "gc", "--stores", work.store)[0] == 0
    assert not work.path.exists()


def test_gc_leaves_what_the_living_hold(path: Path) -> None:
    change_group(path / "street" / "zarr.json", lambda values: values.update(segments={}))
    work = WorkFolder(path)
    work.lock("street")
    work.staging("street").mkdir(parents=True)
    held = snapshot(path.parent)
    assert collect(path) == []
    assert snapshot(path.parent) == held
    assert work.staging("street").is_dir()
    work.release("street")
    removed = collect(path)
    assert len(removed) == 3 * 4
    assert measure(path).leftovers == 0


def test_a_workspace_without_stores_says_how_to_make_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("ls", "du", "verify", "repair"):
        code, _, err = cache(capsys, action, "--workspace", tmp_path)
        assert code == 2
        assert "vss predict" in err
    assert cache(capsys, "gc", "--workspace", tmp_path)[0] == 0
    assert cache(capsys, "scrub")[0] == 2


def test_a_store_of_another_format_is_listed_with_its_remedy(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    workspace, old = path.parents[3], path.with_name("old.zarr")
    shutil.copytree(path, old)
    values = json.loads((old / "zarr.json").read_text())
    values["attributes"]["vss"]["format"] = 1
    (old / "zarr.json").write_text(json.dumps(values))
    remedy = "remove it and run the command that made it"
    code, out, err = cache(capsys, "ls", "--workspace", workspace)
    assert code == 0
    listed = {line.split()[-1]: line for line in out.splitlines()}
    assert "whole" in listed[str(path)]
    assert "unreadable" in listed[str(old)]
    assert f"{old} has format 1; this version reads formats 2 to 4" in " ".join(err.split())
    assert remedy in " ".join(err.split())
    whole, facts = json.loads(cache(capsys, "ls", "--workspace", workspace, "--json")[1])
    assert whole["store"] == str(path)
    assert facts == {
        "store": str(old),
        "state": "unreadable",
        "bytes": sum(map(len, snapshot(old).values())),
        "cause": f"{old} has format 1; this version reads formats 2 to 4",
        "hint": remedy,
    }
    code, _, err = cache(capsys, "verify", "--workspace", workspace)
    assert code == 0
    assert "not verified" in err
    # Where nothing else is left, what was passed over is named by whoever looks for a prediction.
    shutil.rmtree(path)
    assert cache(capsys, "ls", "--workspace", workspace)[0] == 0
    for look in (partial(newest_store, split="val"), newest_store):
        with pytest.raises(VssError, match="no prediction") as raised:
            look(workspace)
        assert f"skipped: {old} has format 1" in raised.value.hint
        assert remedy in raised.value.hint
    (old / "zarr.json").unlink()  # cut off before it had a header
    assert "is not a store" in cache(capsys, "ls", "--workspace", workspace)[2].replace("\n", " ")


def test_every_chunk_is_covered(path: Path, template: Path) -> None:
    generator = np.random.default_rng(0)
    shards = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")
    for file in shards:
        whole = file.read_bytes()
        place = int(generator.integers(len(whole)))
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert len(verify(open_store(path))) == 1, (file, place)
        file.write_bytes(whole)
    assert verify(open_store(path)) == []
