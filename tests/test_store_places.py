"""Paths of stores and of files named after them, however they are written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from store_crashes import dead_process
from store_samples import SIZE, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.cli.app import run
from vsscli.context import Context
from vsscli.fusion.threshold import Threshold
from vsscli.pipeline import reliability
from vsscli.pipeline.pseudo import pseudo
from vsscli.pipeline.smoothing import smooth_store
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import beside, place_of, work_for
from vsscli.store.verify import verify
from vsscli.store.work import this_process
from vsscli.store.writer import StoreWriter


def make(path: str | Path, weights: str = "0123", seed: int = 1) -> Store:
    return write_predictions(path, prediction_header(weights=weights), {"street": distributions(seed, 2)})  # type: ignore[arg-type]


@pytest.mark.parametrize("written", [".", "street/.."])
def test_the_folder_one_stands_in_is_a_store_like_any_other(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = make(tmp_path / "a.zarr")
    monkeypatch.chdir(there.path)
    assert place_of(written) == there.path
    made = pseudo([], store=Path(written), context=Context(tmp_path), threshold=0.4)
    assert made.store == tmp_path / "a.pseudo-102.zarr"
    assert run(["cache", "repair", "--stores", written, "--quiet"]) == 0
    assert run(["cache", "gc", "--stores", written, "--quiet"]) == 0


def test_a_store_is_written_into_the_folder_one_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with StoreWriter(".", prediction_header()) as writer:
        assert len(writer.pending("street", stems(2), SIZE)) == 1
    assert open_store(tmp_path / "here").stems("street") == ("00000", "00001")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_is_made_of_stores_without_suffix_has_names_of_its_own(tmp_path: Path) -> None:
    stores = [make(tmp_path / f"run.v{number}", weights=str(number), seed=number) for number in (1, 2)]
    made = [pseudo([], store=store.path, context=Context(tmp_path), threshold=0.4).store for store in stores]
    assert [path.name for path in made] == ["run.v1.pseudo-102.zarr", "run.v2.pseudo-102.zarr"]
    assert beside(tmp_path / "a.b.zarr", ".svg") == tmp_path / "a.b.svg"
    assert snapshot(made[0]) != snapshot(made[1])


@pytest.fixture
def in_memory() -> Iterator[fsspec.AbstractFileSystem]:
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def test_a_file_url_is_a_path_of_this_machine(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/a.zarr"
    assert place_of(url) == place_of(Path(url)) == tmp_path / "a.zarr"
    make(url)
    assert verify(open_store(tmp_path / "a.zarr")) == []


def test_what_is_made_of_a_store_at_a_url_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: fsspec.AbstractFileSystem
) -> None:
    monkeypatch.chdir(tmp_path)
    url = Path("memory://bucket/a.zarr")
    store = make(url)
    made = pseudo([], store=url, context=Context(tmp_path), threshold=0.4)
    assert (str(made.store), str(made.predictions)) == (
        "memory://bucket/a.pseudo-102.zarr",
        "memory://bucket/a.zarr",
    )
    monkeypatch.setattr(reliability, "truth_of", lambda store, root: (lambda video, t: None, 0))
    report = reliability.report_reliability(made.predictions, Threshold(0.4))
    assert str(report.chart) == "memory://bucket/a.reliability.svg"
    assert in_memory.cat_file("/bucket/a.reliability.svg").startswith(b"<svg")
    assert json.loads(in_memory.cat_file("/bucket/a.reliability.json"))["frames"] == 2
    assert str(smooth_store(url, 1)) == "memory://bucket/a.temporal-1-still.zarr"
    assert open_store(made.store).header.source["store"]["address"] == str(store.path)
    assert not [*tmp_path.iterdir()]


def test_leftovers_at_a_url_are_named_in_json(
    in_memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
) -> None:
    lock = work_for(make("memory://bucket/a.zarr").path).lock_path("street")
    lock.write_bytes(json.dumps({**this_process(), "pid": dead_process(), "started": None}).encode())
    assert run(["cache", "gc", "--stores", "memory://bucket/a.zarr", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": [str(lock)]}
