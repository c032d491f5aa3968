"""Stores that earlier versions wrote must open in this one: fixtures/format2/ was written when format 2 was new."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.store.reader import open_store
from vsscli.store.verify import verify

FOLDER = Path(__file__).parent / "fixtures" / "format2"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_kept_store_opens_is_sound_and_says_what_it_said(name: str) -> None:
    store = open_store(FOLDER / name)
    expected = EXPECTED[name]
    assert store.fingerprint == expected["fingerprint"]
    assert verify(store) == []
    assert list(store.videos()) == list(expected["videos"])
    for video, arrays in expected["videos"].items():
        assert store.digest(video) == arrays.pop("digest")
        group = zarr.open_group(str(FOLDER / name), mode="r")[video]
        for array, values in arrays.items():
            assert store.read(video, array, slice(None)).tolist() == values
            assert np.asarray(group[array][...]).tolist() == values  # type: ignore[index]


def test_kept_stores_are_still_worked_with(tmp_path: Path) -> None:
    stores = [open_store(FOLDER / name) for name in ("prediction.zarr", "compact.zarr")]
    fused = open_store(fuse(stores, [1, 1], tmp_path / "f.zarr"))
    agree = stores[0].label("street", 0) == stores[1].label("street", 0)
    assert (fused.label("street", 0) == stores[0].label("street", 0))[agree].all()
    report = write_pseudo(fused, tmp_path / "p.zarr", threshold_from_percentile(fused, 50))
    assert report.share >= 0.5
