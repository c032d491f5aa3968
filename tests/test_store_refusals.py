"""What a store refuses: foreign headers, missing frames, names that lead out of it, wrong arrays."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from store_samples import SIZE, change_group, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.errors import VssError
from vsscli.store.header import Encoding, Header, read_header
from vsscli.store.reader import Store, open_source, open_store
from vsscli.store.verify import verify
from vsscli.store.writer import Segment, StoreWriter

FRAMES = 66


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "a.zarr"
    return write_predictions(path, prediction_header(), {"street": distributions(1, FRAMES)}).path


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Store:
    return open_store(shutil.copytree(template, tmp_path / "a.zarr"))


def half_written(path: Path) -> Store:
    """Only the second of two segments."""
    with StoreWriter(path, prediction_header()) as writer:
        _, last = writer.pending("street", stems(FRAMES), SIZE)
        zeros = {name: np.zeros((2, *SIZE), np.uint8) for name in ("label", "entropy")}
        lists = {name: np.zeros((2, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        writer.write("street", last, {**zeros, **lists})
    return open_store(path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (prediction_header(weights="4567"), "source.weights = '0123', not '4567'"),
        (prediction_header(scales=[0.75, 1.25]), "source.scales.1 = 1.0, not 1.25"),
        (prediction_header(scales=[1.0]), "source.scales = [0.75, 1.0], not [1.0]"),
        (prediction_header(crop=7), "source.crop = nothing, not 7"),
        (prediction_header(encoding=Encoding(kept=4)), "encoding.kept = 3, not 4"),
        (prediction_header(num_classes=6), "table.classes = ['class 0'"),
    ],
)
def test_another_header_is_refused_with_the_field_and_both_values(store: Store, header: Header, message: str) -> None:
    with pytest.raises(VssError) as raised:
        StoreWriter(store.path, header)
    assert message in raised.value.message
    assert str(store.path) in raised.value.message
    assert "--force" in raised.value.hint


def test_force_writes_a_new_store_beside_and_goes_on_with_it(store: Store) -> None:
    header = prediction_header(weights="4567")
    before = snapshot(store.path)
    with StoreWriter(store.path, header, force=True) as writer:
        assert writer.path.name == f"a-{header.fingerprint[:8]}.zarr"
        writer.pending("street", stems(2), SIZE)
    assert read_header(writer.path) == header
    assert snapshot(store.path) == before
    assert StoreWriter(store.path, header, force=True).path == writer.path
    assert StoreWriter(store.path, prediction_header(), force=True).path == store.path


def test_other_frames_of_a_video_are_refused(store: Store) -> None:
    with StoreWriter(store.path, prediction_header()) as writer:
        with pytest.raises(VssError, match="66 frames, not 67"):
            writer.pending("street", stems(FRAMES + 1), SIZE)
        with pytest.raises(VssError, match=r"'00001', not 'other'"):
            writer.pending("street", ["00000", "other", *stems(FRAMES)[2:]], SIZE)
        with pytest.raises(VssError, match="5x6, not 6x6"):
            writer.pending("street", stems(FRAMES), (6, 6))
        with pytest.raises(VssError, match="from predictions"):
            writer.pending("street", stems(FRAMES), SIZE, ["0" * 64])
        assert writer.pending("street", stems(FRAMES), SIZE) == []


def test_force_makes_a_video_of_other_frames_anew_and_no_other(store: Store, tmp_path: Path) -> None:
    other = {"lane": distributions(2, 3)}
    write_predictions(store.path, prediction_header(), other)
    lane, alone = snapshot(store.path / "lane"), write_predictions(tmp_path / "b.zarr", prediction_header(), other).path
    with StoreWriter(store.path, prediction_header(), force=True) as writer:
        segments = writer.pending("street", stems(2), SIZE, ["0" * 64])
        assert segments == [Segment(0, 2)]
        assert writer.pending("lane", stems(3), SIZE) == []
    assert snapshot(store.path / "lane") == lane == snapshot(alone / "lane")
    assert open_store(store.path).record("street").sources == ("0" * 64,)
    assert not open_store(store.path).record("street").segments
    assert not (store.path / "street/label/c").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize("video", ["", ".", "..", "a/b", "../a", "zarr.json", "__root__", "a\\b", "a\0"])
def test_a_name_that_climbs_out_or_is_reserved_is_refused(tmp_path: Path, video: str) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer, pytest.raises(VssError):
        writer.pending(video, stems(2), SIZE)


def test_a_path_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for path in (tmp_path / "notes", tmp_path / "notes" / "a.txt"):
        with pytest.raises(VssError, match="not a store"):
            StoreWriter(path, prediction_header())


def test_a_missing_store_and_a_folder_that_is_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="does not exist"):
        open_store(tmp_path / "b.zarr")
    with pytest.raises(VssError, match="is not a store"):
        open_store(tmp_path)


def test_wrong_arrays_never_reach_the_disk(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer:
        (segment,) = writer.pending("v", stems(2), SIZE)
        for arrays in ({}, {"label": np.zeros((2, *SIZE), np.uint8)}):
            with pytest.raises(ValueError, match="arrays"):
                writer.write("v", segment, arrays)
        good = {name: np.zeros((2, *SIZE), np.uint8) for name in ("label", "entropy")}
        good |= {name: np.zeros((2, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        with pytest.raises(ValueError, match="label of video v"):
            writer.write("v", segment, {**good, "label": np.zeros((1, *SIZE), np.uint8)})
        with pytest.raises(ValueError, match="top_class of video v"):
            writer.write("v", segment, {**good, "top_class": good["top_class"].astype(np.int64)})
        with pytest.raises(ValueError, match="pending segment"):
            writer.write("v", Segment(0, 1), good)
        with pytest.raises(ValueError, match="was not claimed"):
            writer.write("w", segment, good)


def test_a_frame_that_is_not_recorded_is_refused_even_when_its_file_is_there(tmp_path: Path) -> None:
    store = half_written(tmp_path / "a.zarr")
    assert (store.label("street", 64) == 0).all()
    for index in (0, 63, slice(60, 66), slice(None)):
        with pytest.raises(VssError, match=r"frames 0 to 63 of video street are not there yet"):
            store.read("street", "label", index)
    shard = store.path / "street" / "label" / "c" / "0" / "0" / "0"
    shard.parent.mkdir(parents=True)
    shard.write_bytes((store.path / "street" / "label" / "c" / "1" / "0" / "0").read_bytes())
    with pytest.raises(VssError, match="not there yet"):
        open_store(store.path).label("street", 0)
    assert store.videos() == ()
    assert store.videos(complete=False) == ("street",)
    assert verify(store) == []


def test_a_reader_sees_what_is_recorded_later(tmp_path: Path) -> None:
    store = half_written(tmp_path / "a.zarr")
    assert not store.record("street").is_complete
    with StoreWriter(store.path, prediction_header()) as writer:
        (segment,) = writer.pending("street", stems(FRAMES), SIZE)
        assert segment == Segment(0, 64)
        arrays = {name: np.ones((64, *SIZE), np.uint8) for name in ("label", "entropy")}
        arrays |= {name: np.ones((64, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        writer.write("street", segment, arrays)
    assert (store.label("street", 0) == 1).all()
    assert store.record("street").is_complete


def test_what_a_store_does_not_keep_is_named(store: Store) -> None:
    with pytest.raises(VssError, match="no logits, only label, entropy, top_class, top_probability"):
        store.read("street", "logits", 0)
    with pytest.raises(VssError, match="has no video alley"):
        store.label("alley", 0)
    with pytest.raises(VssError, match="pseudo-label store"):
        open_source(store)


def test_names_do_not_climb_out_of_a_store(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path / "street", tmp_path / "outside")
    for name in ("../outside", "../a.zarr/street", str(tmp_path / "outside"), "street/label", ""):
        with pytest.raises(VssError, match="has no video"):
            store.label(name, 0)
    change_group(store.path / "street" / "zarr.json", lambda values: values["stems"].__setitem__(3, "../../../../x"))
    with pytest.raises(VssError, match="stems"):
        open_store(store.path).label("street", 0)
    with StoreWriter(tmp_path / "b.zarr", prediction_header()) as writer, pytest.raises(VssError, match="called"):
        writer.pending("v", ["a", "../b"], SIZE)
