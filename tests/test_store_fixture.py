"""Stores of earlier versions can be opened: fixtures/formatN/ was written when format N was new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from vsscli.fusion.ensemble import fuse
from vsscli.fusion.temporal import smooth
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.store.arrays import specs_of
from vsscli.store.header import READABLE
from vsscli.store.reader import open_store
from vsscli.store.verify import verify

FOLDERS = sorted((Path(__file__).parent / "fixtures").glob("format*"))
NAMES = ["all.zarr", "compact.zarr", "prediction.zarr", "pseudo.zarr"]


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3")
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
@pytest.mark.parametrize("name", NAMES)
def test_a_kept_store_opens_is_sound_and_says_what_it_said(folder: Path, name: str) -> None:
    store = open_store(folder / name)
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))[name]
    assert store.fingerprint == expected["fingerprint"]
    assert verify(store) == []
    assert list(store.videos()) == list(expected["videos"])
    for video, arrays in expected["videos"].items():
        assert store.digest(video) == arrays.pop("digest")
        group = zarr.open_group(str(folder / name), mode="r")[video]
        for array, values in arrays.items():
            assert store.read(video, array, slice(None)).tolist() == values
            found = np.asarray(group[array][...])  # type: ignore[index]
            if folder.name == "format3" and array in ("entropy", "top_probability"):
                found = np.cumsum(found, axis=-2, dtype=np.uint8)
            assert found.tolist() == values


def test_every_format_that_is_read_has_stores_kept_of_the_same_values() -> None:
    assert [folder.name for folder in FOLDERS] == [f"format{number}" for number in READABLE]
    for name in NAMES:
        first, *others = (open_store(folder / name) for folder in FOLDERS)
        for store in others:
            for video in first.videos():
                for array in specs_of(first.header, first.size(video)):
                    assert (store.read(video, array, slice(None)) == first.read(video, array, slice(None))).all()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_kept_stores_are_still_worked_with(tmp_path: Path, folder: Path) -> None:
    stores = [open_store(folder / name) for name in ("prediction.zarr", "compact.zarr")]
    fused = open_store(fuse(stores, [1, 1], tmp_path / "f.zarr"))
    agree = stores[0].label("street", 0) == stores[1].label("street", 0)
    assert (fused.label("street", 0) == stores[0].label("street", 0))[agree].all()
    report = write_pseudo(fused, tmp_path / "p.zarr", threshold_from_percentile(fused, 50))
    assert report.share >= 0.5
    smoothed = open_store(smooth(stores[0], 1, tmp_path / "s.zarr"))
    assert smoothed.encoding == stores[0].encoding
    assert smoothed.label("street", 0).shape == stores[0].size("street")


def test_stores_of_all_formats_are_fused(tmp_path: Path) -> None:
    stores = [open_store(folder / "prediction.zarr") for folder in FOLDERS]
    fused = open_store(fuse(stores, [1] * len(stores), tmp_path / "f.zarr"))
    assert fused.header.format == READABLE[-1]
    for store in stores:
        assert (fused.label("street", 0) == store.label("street", 0)).all()
