"""What is written can be read, with vss and without."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr
from store_samples import (
    CLASSES,
    SIZE,
    class_table,
    distributions,
    prediction_header,
    shrink,
    snapshot,
    stems,
    write_predictions,
)

from vsscli.store.encode import decode_lists, encode, normalised_entropy
from vsscli.store.header import Encoding, Header, read_header
from vsscli.store.reader import Store, open_store
from vsscli.store.record import VideoRecord
from vsscli.store.writer import Segment, StoreWriter

FRAMES = 70


@pytest.fixture(scope="module")
def means() -> dict[str, np.ndarray]:
    return {"street": distributions(1, FRAMES), "alley": distributions(2, 3)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, means: dict[str, np.ndarray]) -> Store:
    return write_predictions(tmp_path_factory.mktemp("store") / "a.zarr", prediction_header(), means)


def test_frames_come_back_as_they_were_encoded(store: Store, means: dict[str, np.ndarray]) -> None:
    for video, frames in means.items():
        for t, mean in enumerate(frames):
            frame = encode(mean, mean, store.encoding)
            assert (store.label(video, t) == frame["label"]).all()
            assert store.entropy(video, t) == pytest.approx(normalised_entropy(mean), abs=0.5 / 255 + 1e-6)
            top_class, probability = store.lists(video, t)
            assert (top_class == frame["top_class"]).all()
            assert probability == pytest.approx(frame["top_probability"] / 255)
            rebuilt = decode_lists(frame["top_class"], frame["top_probability"], CLASSES)
            assert (store.probabilities(video, t) == rebuilt).all()


def test_a_store_knows_its_videos(store: Store) -> None:
    assert store.videos() == ("alley", "street")
    assert store.stems("street") == tuple(stems(FRAMES))
    assert store.size("alley") == SIZE
    assert store.record("alley").is_complete


def test_slices_reach_across_segments(store: Store) -> None:
    whole = store.read("street", "label", slice(None))
    assert whole.shape == (FRAMES, *SIZE)
    assert (store.read("street", "label", slice(60, 68)) == whole[60:68]).all()
    assert (store.read("street", "label", -1) == whole[-1]).all()
    assert store.read("street", "label", slice(5, 5)).shape == (0, *SIZE)
    with pytest.raises(IndexError):
        store.read("street", "label", FRAMES)


def test_everything_kept_is_read_like_lists(tmp_path: Path, means: dict[str, np.ndarray]) -> None:
    header = prediction_header(encoding=Encoding(keep="all"))
    store = write_predictions(tmp_path / "all.zarr", header, {"alley": means["alley"]})
    assert store.probabilities("alley", 1) == pytest.approx(means["alley"][1], rel=0.02, abs=1e-5)
    top_class, probability = store.lists("alley", 1)
    assert top_class.shape == (CLASSES, *SIZE)
    assert (top_class[0] == store.label("alley", 1)).all()
    assert (np.diff(probability, axis=0) <= 0).all()


def test_the_header_comes_back(store: Store) -> None:
    header = prediction_header()
    assert store.header == header
    assert read_header(store.path) == header
    assert store.fingerprint == header.fingerprint


def test_where_the_data_lies_decides_nothing() -> None:
    here = prediction_header()
    there = Header(
        here.kind, here.table, here.scores, here.source, here.encoding, {**here.data, "root": "else"}, {"recipe": "r"}
    )
    assert here.fingerprint == there.fingerprint
    assert here.fingerprint != prediction_header(weights="4567").fingerprint


def test_plain_zarr_opens_it_and_reads_what_we_read(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", message="Numcodecs codecs are not in the Zarr version 3")
        group = zarr.open_group(str(store.path), mode="r")
        assert sorted(name for name, _ in group.groups()) == ["alley", "street"]
        names = ("label", "entropy", "top_class", "top_probability")
        assert sorted(name for name, _ in group.members(max_depth=None)) == sorted(
            ["alley", "street"] + [f"{v}/{a}" for v in ("alley", "street") for a in names]
        )
        assert group.attrs["vss"]["kind"] == "prediction"
        assert group["street/label"].metadata.dimension_names == ("t", "y", "x")
        for name in names:
            assert (group[f"street/{name}"][...] == store.read("street", name, slice(None))).all()


@pytest.mark.parametrize("grid", [2, 4])
def test_xarray_opens_coarser_grids_too(tmp_path: Path, grid: int) -> None:
    mean = distributions(5, 2, size=(8, 12))
    header = prediction_header(encoding=Encoding(grid=grid, kept=2))
    store = write_predictions(tmp_path / "a.zarr", header, {"v": mean})
    with xarray.open_dataset(store.path, group="v", engine="zarr", consolidated=False, zarr_format=3) as dataset:
        assert dataset["top_class"].shape == (2, 2, 8 // grid, 12 // grid)
    assert (store.lists("v", 0)[0][0] == shrink(mean[0], grid).argmax(axis=0)).all()


def test_a_prediction_that_looks_like_nothing_is_written_all_the_same(tmp_path: Path) -> None:
    blank = {
        "label": np.full((2, *SIZE), 255, np.uint8),
        "entropy": np.full((2, *SIZE), 255, np.uint8),
        "top_class": np.full((2, 3, *SIZE), 255, np.uint8),
        "top_probability": np.full((2, 3, *SIZE), 255, np.uint8),
    }
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer:
        (segment,) = writer.pending("v", stems(2), SIZE)
        writer.write("v", segment, blank)
    assert (open_store(tmp_path / "a.zarr").label("v", 1) == 255).all()


def test_the_same_predictions_make_the_same_bytes(tmp_path: Path, store: Store, means: dict[str, np.ndarray]) -> None:
    # In another order, too.
    other = write_predictions(tmp_path / "b.zarr", prediction_header(), dict(reversed(means.items())))
    assert snapshot(other.path) == snapshot(store.path)


def test_nothing_but_zarr_is_in_a_store_and_nothing_beside_it(store: Store) -> None:
    names = {Path(name).name for name in snapshot(store.path)}
    assert names == {"zarr.json", "0"}
    assert [entry.name for entry in store.path.parent.iterdir()] == [store.path.name]


def test_headers_are_read_without_zarr_or_numpy_and_stores_without_torch(store: Store) -> None:
    script = (
        "import sys, json\n"
        "from vsscli.store.header import read_header\n"
        f"kind = read_header({str(store.path)!r}).kind\n"
        "light = [name for name in ('zarr', 'numpy', 'torch') if name in sys.modules]\n"
        "from vsscli.store.reader import open_store\n"
        f"open_store({str(store.path)!r}).label('street', 0)\n"
        "import vsscli.fusion.ensemble, vsscli.fusion.threshold, vsscli.store.verify\n"
        "print(json.dumps([kind, light, 'torch' in sys.modules]))\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == ["prediction", [], False]


def test_the_code_of_the_documentation_runs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "store.md").read_text(encoding="utf-8")
    code = page.split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    monkeypatch.chdir(store.path.parent)
    exec(code.replace("predictions.zarr", store.path.name), names)
    video = names["video"]
    assert names["complete"]
    assert (names["label"] == store.label(video, 0)).all()
    assert names["entropy"] == pytest.approx(store.entropy(video, 0))
    names["dataset"].close()


def test_the_digest_of_a_video_changes_with_its_values(tmp_path: Path) -> None:
    one = write_predictions(tmp_path / "a.zarr", prediction_header(), {"v": distributions(1, 2)})
    same = write_predictions(tmp_path / "b.zarr", prediction_header(), {"v": distributions(1, 2)})
    other = write_predictions(tmp_path / "c.zarr", prediction_header(), {"v": distributions(2, 2)})
    assert one.digest("v") == same.digest("v") != other.digest("v")


def test_a_record_counts_its_segments() -> None:
    record = VideoRecord(tuple(stems(130)), SIZE, 64)
    assert record.num_segments == 3
    assert record.bounds(2) == Segment(128, 130)
    assert not record.is_complete
    assert not record.with_segment(2, {}).is_complete
    assert record.with_segment(2, {}).with_segment(0, {}).with_segment(1, {}).is_complete


def test_a_fusion_of_one_source_has_another_fingerprint_than_the_source() -> None:
    header = prediction_header()
    fusion = Header("fusion", class_table(), "logits", header.source, header.encoding, header.data)
    assert header.fingerprint != fusion.fingerprint
