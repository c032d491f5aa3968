"""Where stores and what is called after them lie, however their place is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from store_samples import SIZE, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.cli.app import run
from vsscli.pipeline.pseudo import pseudo_label
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import beside, place_of
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
    made = pseudo_label([], store=Path(written), workspace=tmp_path, threshold=0.4)
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
    made = [pseudo_label([], store=store.path, workspace=tmp_path, threshold=0.4).store for store in stores]
    assert [path.name for path in made] == ["run.v1.pseudo-102.zarr", "run.v2.pseudo-102.zarr"]
    assert beside(tmp_path / "a.b.zarr", ".svg") == tmp_path / "a.b.svg"
    assert snapshot(made[0]) != snapshot(made[1])
