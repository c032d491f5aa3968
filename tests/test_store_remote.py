"""Stores at a URL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import fsspec
import pytest
import zarr
from store_crashes import dead_process
from store_samples import SIZE, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import Threshold, write_pseudo
from vsscli.store.files import group_bytes
from vsscli.store.reader import open_source, open_store
from vsscli.store.remote import RemotePath, place_of, work_for
from vsscli.store.upkeep import collect, measure
from vsscli.store.verify import repair, verify
from vsscli.store.work import this_process
from vsscli.store.writer import StoreWriter

URL = "memory://bucket/a.zarr"
MEANS = {"alley": distributions(2, 3), "street": distributions(1, 70)}


@pytest.fixture(autouse=True)
def empty() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def objects(files: fsspec.AbstractFileSystem, below: str) -> dict[str, bytes]:
    return {key.removeprefix(f"/{below}/"): files.cat_file(key) for key in files.find(f"/{below}")}


def test_a_url_and_what_a_path_makes_of_it_are_one_place(tmp_path: Path) -> None:
    assert str(place_of(Path(URL))) == str(place_of(URL)) == URL
    assert place_of(tmp_path) == tmp_path
    with pytest.raises(VssError, match="can't be opened"):
        place_of("nosuchkind://bucket/a.zarr")


def test_the_objects_are_the_files_of_a_local_store(tmp_path: Path, empty: fsspec.AbstractFileSystem) -> None:
    remote = write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    local = write_predictions(tmp_path / "a.zarr", prediction_header(), MEANS)
    assert objects(empty, "bucket/a.zarr") == snapshot(local.path)
    assert remote.videos() == ("alley", "street")
    for t in (0, 69):
        assert (remote.probabilities("street", t) == local.probabilities("street", t)).all()
    assert (zarr.open_group(URL, mode="r")["street/label"][...] == local.read("street", "label", slice(None))).all()
    assert verify(remote) == []
    assert empty.find("/bucket/.a.zarr.work") == []
    assert measure(Path(URL)).total == sum(map(len, snapshot(local.path).values()))


def test_fusions_and_pseudo_labels_are_made_at_a_url(tmp_path: Path) -> None:
    stores = [
        write_predictions(f"memory://bucket/{name}.zarr", prediction_header(weights=name), MEANS)  # type: ignore[arg-type]
        for name in "ab"
    ]
    fused = open_store(fuse(stores, [1, 1], "memory://bucket/f.zarr"))
    assert fused.header.source["stores"][0]["address"] == "memory://bucket/a.zarr"
    pseudo = open_store(write_pseudo(fused, "memory://bucket/p.zarr", Threshold(0.3)).path)
    assert open_source(pseudo).fingerprint == fused.fingerprint
    here = open_store(fuse(stores, [1, 1], tmp_path / "f.zarr"))
    assert here.digest("street") == fused.digest("street")


def breaking_after(number: int, plain: Callable[..., None]) -> Callable[..., None]:
    """Puts objects until ``number`` of them exist; then the connection fails."""
    left = iter(range(number))

    def put(*arguments: object, **options: object) -> None:
        if next(left, None) is None:
            raise OSError(5, "gone")
        plain(*arguments, **options)

    return put


def test_a_writer_that_died_is_gone_on_from(
    tmp_path: Path, empty: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = snapshot(write_predictions(tmp_path / "a.zarr", prediction_header(), MEANS).path)
    plain = type(empty).pipe_file
    for number in range(10**6):
        empty.store.clear()
        with monkeypatch.context() as patch:
            patch.setattr(type(empty), "pipe_file", breaking_after(number, plain))
            try:
                write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
                complaint = ""
            except VssError as error:
                complaint = error.message
        assert complaint == "" or complaint.endswith("can't be reached: OSError: gone")
        if empty.exists("/bucket/a.zarr/zarr.json"):
            store = open_store(URL)
            assert verify(store) == []
        write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
        assert objects(empty, "bucket/a.zarr") == local, number
        if not complaint:
            break
    assert number > 20


def test_damage_is_repaired_and_leftovers_are_collected(empty: fsspec.AbstractFileSystem) -> None:
    store = write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    before = objects(empty, "bucket/a.zarr")
    key = "/bucket/a.zarr/street/label/c/1/0/0"
    empty.pipe_file(key, before["street/label/c/1/0/0"][:-1])
    empty.pipe_file("/bucket/a.zarr/alley/zarr.json", b"{")
    damaged = verify(open_store(URL))
    assert [(damage.video, damage.segment) for damage in damaged] == [("alley", None), ("street", 1)]
    repaired = repair(store, damaged)
    assert (repaired.videos, repaired.segments) == (("alley",), {"street": (1,)})
    assert open_store(URL).videos(complete=False) == ("street",)
    empty.pipe_file(key, b"half")
    work = work_for(place_of(URL))
    work.lock_path("alley").write_bytes(json.dumps({**this_process(), "pid": dead_process(), "started": None}).encode())
    assert len(collect(Path(URL))) == 2
    write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    assert objects(empty, "bucket/a.zarr") == before


def test_a_lost_record_is_found_at_a_url_too(empty: fsspec.AbstractFileSystem) -> None:
    store = write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    before = objects(empty, "bucket/a.zarr")
    empty.rm_file("/bucket/a.zarr/alley/zarr.json")
    damaged = verify(open_store(URL))
    assert [(damage.video, damage.segment) for damage in damaged] == [("alley", None)]
    assert repair(store, damaged).videos == ("alley",)
    assert not empty.find("/bucket/a.zarr/alley")
    write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    assert objects(empty, "bucket/a.zarr") == before


def test_of_two_that_begin_a_video_at_once_one_wins(empty: fsspec.AbstractFileSystem) -> None:
    first, second = (work_for(place_of(URL)) for _ in range(2))
    path = cast(RemotePath, first.lock_path("street"))
    assert path.create(b"{}")
    assert not path.create(b"[]")
    assert path.read_bytes() == b"{}"
    path.unlink()
    first.lock("street")
    with pytest.raises(VssError, match="being written by process"):
        second.lock("street")
    first.require_held("street")
    # Another machine was so slow that its lock was taken over: its next write ends with an error.
    path.write_bytes(json.dumps({**this_process(), "host": "another machine"}).encode())
    with pytest.raises(VssError, match="taken over by process"):
        first.require_held("street")
    assert first._silence(path) < 60
    first.release("street")
    assert path.exists()
    path.unlink()


@pytest.mark.parametrize(
    ("there", "created", "left"), [(None, True, b"mine"), (b"theirs", False, b"theirs"), (b"mine", True, b"mine")]
)
def test_a_store_that_answers_a_creation_with_an_error_overwrites_nothing(
    empty: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, there: bytes | None, created: bool, left: bytes
) -> None:
    """As S3 does while another process creates the object, and other stores to any condition."""
    path = cast(RemotePath, work_for(place_of(URL)).lock_path("street"))
    if there is not None:
        path.write_bytes(there)
    put = type(empty).pipe_file

    def refuse(self: fsspec.AbstractFileSystem, key: str, data: bytes, mode: str = "overwrite", **more: object) -> None:
        if mode == "create":
            raise OSError("ConditionalRequestConflict")
        put(self, key, data, mode=mode, **more)

    monkeypatch.setattr(type(empty), "pipe_file", refuse)
    assert path.create(b"mine") is created
    assert path.read_bytes() == left


def test_what_the_living_write_is_left_to_them() -> None:
    with StoreWriter(URL, prediction_header()) as first, StoreWriter(URL, prediction_header()) as second:
        first.pending("street", stems(3), SIZE)
        with pytest.raises(VssError, match="being written by process"):
            second.pending("street", stems(3), SIZE)
        with pytest.raises(VssError, match=r"source\.weights"):
            StoreWriter(URL, prediction_header(weights="4567"))
        forced = StoreWriter(URL, prediction_header(weights="4567"), force=True)
        assert str(forced.path).startswith("memory://bucket/a-")


@pytest.mark.parametrize("url", ["local:///{0}/a.zarr", "file:///{0}/a.zarr", "file://localhost/{0}/a.zarr"])
def test_a_url_of_this_machine_is_a_path(tmp_path: Path, url: str) -> None:
    assert place_of(url.format(str(tmp_path).lstrip("/"))) == tmp_path / "a.zarr"
    assert place_of(Path(url.format(str(tmp_path).lstrip("/")))) == tmp_path / "a.zarr"


@pytest.mark.parametrize(
    "url",
    ["memory://", "memory:///", "memory://a/../b", "s3://", "zip://a", "reference://a", "github://a/b", "xx:///a"],
)
def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(VssError, match=r"does not name a store|can't be opened"):
        place_of(url)


ELSEWHERE = ["memory://other/b.zarr", "http://127.0.0.1:9/b.zarr", "b\0"]


@pytest.mark.parametrize(
    ("address", "remote"),
    [*((address, remote) for address in ELSEWHERE for remote in (False, True)), ("/etc", True), ("../../etc", True)],
)
def test_a_store_has_nothing_fetched_from_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str, remote: bool
) -> None:
    place = URL if remote else tmp_path / "stores" / "d" / "s" / "a.zarr"
    write_predictions(place, prediction_header(), MEANS)  # type: ignore[arg-type]
    labels = place_of(place).with_name("p.zarr")
    write_pseudo(open_store(place), labels, Threshold(0.3))
    assert open_source(open_store(labels)).videos() == ("alley", "street")
    header = open_store(labels).header.to_dict()
    header["source"]["store"]["address"] = address
    (labels / "zarr.json").write_bytes(group_bytes(header))
    store = open_store(labels)
    monkeypatch.setattr("vsscli.store.reader.open_store", lambda path: pytest.fail(f"{path} was opened"))
    with pytest.raises(VssError, match="which is not beside it"):
        open_source(store)


class Gone(Exception):
    """An error of an object store's client."""


@pytest.mark.parametrize("error", [Gone("no route"), ConnectionResetError(104, "reset"), TimeoutError(), OSError("x")])
@pytest.mark.parametrize("call", ["info", "open", "ls", "pipe_file", "cat_file", "find"])
def test_a_store_that_goes_away_is_one_error_and_no_damage(
    empty: fsspec.AbstractFileSystem, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception
) -> None:
    store = write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]
    before = objects(empty, "bucket")

    def go(*arguments: object, **options: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(type(empty), call, go)
        for do in (
            lambda: verify(store),
            lambda: open_store(URL),
            lambda: write_predictions(URL, prediction_header(), {**MEANS, "new": MEANS["alley"]}),  # type: ignore[arg-type]
            lambda: collect(Path(URL)),
            lambda: measure(Path(URL)),
        ):
            try:
                do()
            except VssError as refused:
                said = refused
            else:
                continue
            assert "can't be reached" in said.message
    assert {key: data for key, data in objects(empty, "bucket").items() if key in before} == before
    assert verify(open_store(URL)) == []


def test_a_read_that_breaks_off_is_no_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    store = write_predictions(URL, prediction_header(), MEANS)  # type: ignore[arg-type]

    def go(*arguments: object, **options: object) -> None:
        raise Gone

    for name in ("read", "readinto", "getbuffer"):
        monkeypatch.setattr(f"fsspec.implementations.memory.MemoryFile.{name}", go, raising=False)
    for do in (lambda: verify(store), lambda: store.label("alley", 0)):
        with pytest.raises(VssError, match="can't be reached: Gone"):
            do()
