"""Stores opened with Zarr and xarray show what vss reads."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from store_samples import SIZE, distributions, prediction_header, stems, write_predictions

import vsscli
from vsscli.errors import VssError
from vsscli.fusion.threshold import Threshold, write_pseudo
from vsscli.store.header import READABLE, Encoding
from vsscli.store.interop import open_xarray, open_zarr
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter

MEANS = {"alley": distributions(2, 3), "street": distributions(1, 70)}
FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_predictions(tmp_path_factory.mktemp("stores") / "a.zarr", prediction_header(), MEANS)


def require_alike(store: Store, video: str) -> None:
    """Values of the first and the last frame, as xarray and as vss reads them."""
    with open_xarray(str(store.path), video) as dataset:
        assert tuple(dataset["t"].values) == store.stems(video)
        assert dataset.attrs["classes"] == list(store.header.table.names)
        assert dataset["label"].dtype == np.uint8
        assert dataset["entropy"].dtype == np.float64
        for t in (0, len(store.stems(video)) - 1):
            assert (dataset["label"][t].values == store.label(video, t)).all()
            np.testing.assert_allclose(dataset["entropy"][t].values, store.entropy(video, t), rtol=2e-7)
            if "logits" in dataset:
                assert (dataset["logits"][t].values == store.read(video, "logits", t)).all()
                continue
            classes, probabilities = store.lists(video, t)
            assert (dataset["top_class"][t].values == classes).all()
            np.testing.assert_allclose(dataset["top_probability"][t].values, probabilities, rtol=2e-7)


@pytest.mark.parametrize("format", READABLE)
@pytest.mark.parametrize("name", ["all", "compact", "prediction"])
def test_xarray_shows_stores_of_every_format_as_vss_reads_them(format: int, name: str) -> None:
    store = open_store(FIXTURES / f"format{format}" / f"{name}.zarr")
    for video in store.videos():
        require_alike(store, video)


def test_xarray_and_zarr_show_true_values_without_a_warning(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        require_alike(store, "street")
        group = open_zarr(store.path)
        assert sorted(group.group_keys()) == ["alley", "street"]
        assert (group["street/entropy"][...] == store.read("street", "entropy", slice(None))).all()
    assert group.store.read_only


@pytest.mark.parametrize("encoding", [Encoding(grid=2, kept=3), Encoding(kept=5, drop=0.0, step=4)])
def test_xarray_shows_other_encodings_too(tmp_path: Path, encoding: Encoding) -> None:
    means = {"v": distributions(5, 2, size=(8, 12))}
    require_alike(write_predictions(tmp_path / "a.zarr", prediction_header(encoding=encoding), means), "v")


def test_whole_entropy_is_one_and_not_missing(tmp_path: Path) -> None:
    even = np.full((1, 5, *SIZE), 0.2, np.float32)
    store = write_predictions(tmp_path / "a.zarr", prediction_header(), {"v": even})
    assert (open_xarray(store.path, "v")["entropy"].values == 1).all()


def test_a_store_at_a_url_is_shown_too(store: Store) -> None:
    remote = write_predictions("memory://bucket/i.zarr", prediction_header(), MEANS)  # type: ignore[arg-type]
    require_alike(remote, "alley")
    assert (
        open_zarr("memory://bucket/i.zarr")["street/label"][...] == store.read("street", "label", slice(None))
    ).all()


def test_the_library_hands_out_both(store: Store) -> None:
    opened = vsscli.open_store(store.path)
    assert (opened["street"].to_xarray()["label"][0].values == opened["street"].labels(0)).all()
    assert (opened["street"].entropy(slice(1, 3))[1] == opened["street"].entropy(2)).all()
    assert sorted(opened.to_zarr().group_keys()) == list(opened)


def test_pseudo_labels_are_shown(store: Store, tmp_path: Path) -> None:
    path = write_pseudo(store, tmp_path / "p.zarr", Threshold(0.5)).path
    labels = open_store(path).read("street", "pseudo_label", slice(None))
    assert (open_xarray(path, "street")["pseudo_label"].values == labels).all()
    assert (open_zarr(path)["street/pseudo_label"][...] == labels).all()


def test_what_is_not_there_is_not_filled_up_and_format_3_is_not_shown_as_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer:
        writer.pending("v", stems(2), SIZE)
    for show in (lambda: open_zarr(tmp_path / "a.zarr"), lambda: open_xarray(tmp_path / "a.zarr", "v")):
        with pytest.raises(VssError, match="lacks frames of video v"):
            show()
    with pytest.raises(VssError, match="has no video w"):
        open_xarray(tmp_path / "a.zarr", "w")
    with pytest.raises(VssError, match="has format 3"):
        open_zarr(FIXTURES / "format3" / "prediction.zarr")
    assert isinstance(open_zarr(FIXTURES / "format2" / "prediction.zarr"), zarr.Group)
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(VssError, match="xarray is not installed"):
        open_xarray(tmp_path / "a.zarr", "v")
