"""Splitting pixels by entropy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from store_samples import distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.reliability import measure_reliability
from vsscli.fusion.temporal import smooth
from vsscli.fusion.threshold import (
    Threshold,
    entropy_histogram,
    percentile_of,
    threshold_from_percentile,
    write_pseudo,
)
from vsscli.store.reader import Store, open_source, open_store
from vsscli.store.writer import StoreWriter

LABEL = np.array([[0, 1, 1, 2, 2], [2, 2, 0, 1, 1]], np.uint8)
ENTROPY = np.array([[0, 10, 20, 30, 40], [50, 60, 70, 70, 255]], np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two videos, one of one frame and one of two, ten pixels a frame, entropies as above."""
    header = prediction_header(4)
    with StoreWriter(tmp_path / "in" / "a.zarr", header) as writer:
        for video, frames in (("one", 1), ("two", 2)):
            (segment,) = writer.pending(video, stems(frames), LABEL.shape)
            arrays = {"label": np.stack([LABEL] * frames), "entropy": np.stack([ENTROPY] * frames)}
            lists = np.zeros((frames, 3, *LABEL.shape), np.uint8)
            writer.write(video, segment, {**arrays, "top_class": lists, "top_probability": lists})
    return open_store(tmp_path / "in" / "a.zarr")


def test_entropies_are_counted_over_all_videos(store: Store) -> None:
    counts = entropy_histogram(store)
    assert counts.sum() == 30
    assert (counts[70], counts[255], counts[5]) == (6, 3, 0)


@pytest.mark.parametrize(
    ("percentile", "level"),
    [(80, 70), (70, 60), (70.1, 70), (60, 50), (10, 0), (0.001, 0), (90, 70), (90.1, 255), (100, 255)],
)
def test_a_percentile_is_the_smallest_threshold_that_is_enough(store: Store, percentile: float, level: int) -> None:
    threshold = threshold_from_percentile(store, percentile)
    assert threshold.level == level
    assert threshold.value == pytest.approx(level / 255)
    assert threshold.percentile == percentile


def test_pixels_above_the_threshold_are_unreliable(store: Store, tmp_path: Path) -> None:
    report = write_pseudo(store, tmp_path / "p.zarr", Threshold(60 / 255))
    pseudo = open_store(report.path)
    assert pseudo.read("two", "pseudo_label", 1).tolist() == [[0, 1, 1, 2, 2], [2, 2, 255, 255, 255]]
    assert (report.frames, report.pixels, report.reliable) == (3, 30, 21)
    assert report.share == pytest.approx(0.7)
    assert report.class_pixels == (6, 12, 12, 0)
    assert report.class_reliable == (3, 6, 12, 0)


def test_the_same_pixels_come_out_whichever_way_the_threshold_is_given(store: Store, tmp_path: Path) -> None:
    by_share = threshold_from_percentile(store, 80)
    report = write_pseudo(store, tmp_path / "p.zarr", by_share)
    assert report.share == pytest.approx(0.9)  # three pixels in ten are level at 70 or above; 80 % needs the two at 70
    by_value = write_pseudo(store, tmp_path / "q.zarr", Threshold(by_share.value))
    assert snapshot(report.path / "two") == snapshot(by_value.path / "two")
    assert open_store(report.path).fingerprint == open_store(by_value.path).fingerprint


def test_a_percentile_of_each_class_gives_each_its_own_threshold(store: Store, tmp_path: Path) -> None:
    # Class 0 has entropies 0 and 70, class 1 10, 20, 70, 255, class 2 30 to 60; class 3 is never predicted.
    threshold = threshold_from_percentile(store, 50, by_class=True)
    assert threshold.class_levels == (0, 20, 40, 0)
    assert threshold.level == 40
    report = write_pseudo(store, tmp_path / "p.zarr", threshold)
    pseudo = open_store(report.path)
    assert pseudo.read("two", "pseudo_label", 1).tolist() == [[0, 1, 1, 2, 2], [255, 255, 255, 255, 255]]
    assert pseudo.header.source["class_levels"] == [0, 20, 40, 0]
    assert (report.class_pixels[:3], report.class_reliable[:3]) == ((6, 12, 12), (3, 6, 6))
    assert (
        pseudo.fingerprint != open_store(write_pseudo(store, tmp_path / "q.zarr", Threshold(40 / 255)).path).fingerprint
    )


def test_every_level_is_its_own_threshold() -> None:
    assert [Threshold(level / 255).level for level in range(256)] == list(range(256))
    # 0.3 * 255 = 76.5
    assert Threshold(0.3).level == 76


def test_a_percentile_of_a_real_spread_is_that_of_numpy() -> None:
    levels = np.random.default_rng(0).integers(0, 256, 1000)
    histogram = np.bincount(levels, minlength=256)
    for percentile in (1, 20, 50, 80, 99.9, 100):
        right = np.percentile(levels, percentile, method="inverted_cdf")
        assert percentile_of(histogram, percentile).level == right


def test_a_pseudo_label_store_says_where_it_comes_from(store: Store, tmp_path: Path) -> None:
    report = write_pseudo(store, tmp_path / "out" / "p.zarr", threshold_from_percentile(store, 70))
    pseudo = open_store(report.path)
    assert pseudo.header.kind == "pseudo"
    assert pseudo.header.summary == {"threshold": 60 / 255, "percentile": 70}
    assert pseudo.header.source["store"] == {"address": "../in/a.zarr", "fingerprint": store.fingerprint}
    assert open_source(pseudo).path == store.path
    # Both moved together: still found.
    (tmp_path / "elsewhere").mkdir()
    for name in ("in", "out"):
        (tmp_path / name).rename(tmp_path / "elsewhere" / name)
    moved = open_store(tmp_path / "elsewhere" / "out" / "p.zarr")
    assert open_source(moved).fingerprint == store.fingerprint


def test_how_to_find_the_frames_is_handed_on(tmp_path: Path) -> None:
    plain = prediction_header(4)
    header = replace(plain, data={**plain.data, "section": {"name": "sample"}}, summary={"model": "teacher"})
    store = write_predictions(tmp_path / "a.zarr", header, {"v": distributions(1, 1, 4)})
    fused = open_store(fuse([store], [1], tmp_path / "f.zarr"))
    assert (fused.header.data, fused.header.summary) == (header.data, {})
    pseudo = open_store(write_pseudo(fused, tmp_path / "p.zarr", Threshold(0.5)).path)
    assert pseudo.header.data == header.data


def test_other_predictions_at_the_address_are_not_taken_for_the_source(store: Store, tmp_path: Path) -> None:
    pseudo = open_store(write_pseudo(store, tmp_path / "p.zarr", Threshold(0.3)).path)
    store.path.rename(tmp_path / "in" / "old.zarr")
    with pytest.raises(VssError, match="does not exist"):
        open_source(pseudo)
    write_predictions(store.path, prediction_header(4, weights="other"), {"one": distributions(1, 1, 4)})
    with pytest.raises(VssError, match="predictions"):
        open_source(pseudo)


def test_what_is_there_is_counted_and_not_written_again(store: Store, tmp_path: Path) -> None:
    first = write_pseudo(store, tmp_path / "p.zarr", Threshold(0.2))
    times = {file: file.stat().st_mtime_ns for file in first.path.rglob("0")}
    assert write_pseudo(store, tmp_path / "p.zarr", Threshold(0.2)) == first
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("0")} == times


def test_a_video_added_later_is_added(store: Store, tmp_path: Path) -> None:
    write_pseudo(store, tmp_path / "p.zarr", Threshold(0.2))
    write_predictions(store.path, store.header, {"three": distributions(1, 70, 4)})
    report = write_pseudo(open_store(store.path), tmp_path / "p.zarr", Threshold(0.2))
    assert report.frames == 73
    assert open_store(report.path).videos() == ("one", "three", "two")


def test_a_half_written_video_is_finished_with_the_same_bytes_and_counts(store: Store, tmp_path: Path) -> None:
    write_predictions(store.path, store.header, {"long": distributions(1, 130, 4)})
    store = open_store(store.path)
    whole = write_pseudo(store, tmp_path / "a.zarr", Threshold(0.4))
    with StoreWriter(tmp_path / "b.zarr", open_store(whole.path).header) as writer:
        segment = writer.pending("long", stems(130), (5, 6), [store.digest("long")])[1]
        labels = open_store(whole.path).read("long", "pseudo_label", slice(segment.start, segment.stop))
        writer.write("long", segment, {"pseudo_label": labels})
    finished = write_pseudo(store, tmp_path / "b.zarr", Threshold(0.4), engine=Engine(2))
    assert snapshot(finished.path) == snapshot(whole.path)
    assert (finished.reliable, finished.class_pixels) == (whole.reliable, whole.class_pixels)


def test_another_threshold_makes_another_store(store: Store, tmp_path: Path) -> None:
    write_pseudo(store, tmp_path / "p.zarr", Threshold(0.2))
    with pytest.raises(VssError, match=r"source\.level = 51, not 76"):
        write_pseudo(store, tmp_path / "p.zarr", Threshold(0.3))
    assert write_pseudo(store, tmp_path / "p.zarr", Threshold(0.3), force=True).path.name.startswith("p-")


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_threshold_that_is_none_is_refused(value: float) -> None:
    with pytest.raises(VssError):
        Threshold(value)


@pytest.mark.parametrize("percentile", [0, -1, 101, float("nan")])
def test_a_percentile_that_is_none_is_refused(store: Store, percentile: float) -> None:
    with pytest.raises(VssError):
        threshold_from_percentile(store, percentile)


def test_pseudo_labels_have_no_entropies(store: Store, tmp_path: Path) -> None:
    pseudo = open_store(write_pseudo(store, tmp_path / "p.zarr", Threshold(0.2)).path)
    for attempt in (entropy_histogram, lambda store: write_pseudo(store, tmp_path / "q.zarr", Threshold(0.2))):
        with pytest.raises(VssError, match="no entropies"):
            attempt(pseudo)


def test_a_store_that_is_not_finished_is_refused(store: Store, tmp_path: Path) -> None:
    with StoreWriter(store.path, store.header) as writer:
        writer.pending("three", stems(70), LABEL.shape)
    half = open_store(store.path)
    for attempt in (
        lambda: threshold_from_percentile(half, 80),
        lambda: write_pseudo(half, tmp_path / "p.zarr", Threshold(0.2)),
        lambda: measure_reliability(half, lambda video, t: None),
        lambda: smooth(half, 1, tmp_path / "s.zarr"),
    ):
        with pytest.raises(VssError, match=r"a\.zarr lacks frames of video three$") as refused:
            attempt()
        assert "run the command that makes it again" in refused.value.hint
    (store.path / "three" / "zarr.json").unlink()
    with pytest.raises(VssError, match=r"holds arrays of video three .* no record"):
        threshold_from_percentile(open_store(store.path), 80)
    assert not [*tmp_path.glob("*.zarr")]
