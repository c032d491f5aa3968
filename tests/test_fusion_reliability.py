"""How many pixels are reliable at each threshold, and how accurate they are."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from cli_process import vss
from small import small_recipe, train
from store_samples import prediction_header, stems

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.fusion.reliability import measure_reliability
from vsscli.fusion.threshold import Threshold, threshold_from_percentile
from vsscli.pipeline.pseudo import pseudo
from vsscli.pipeline.reliability import ReliabilityReport, draw_reliability
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter

LABEL = np.array([[0, 1, 1, 2, 2], [2, 2, 0, 1, 1]], np.uint8)
ENTROPY = np.array([[0, 10, 20, 30, 40], [50, 60, 70, 70, 255]], np.uint8)
MASK = np.array([[0, 1, 2, 2, 255], [2, 0, 0, 1, 1]], np.uint8)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A video of two frames, ten pixels each, entropies as above."""
    with StoreWriter(tmp_path / "a.zarr", prediction_header(4)) as writer:
        (segment,) = writer.pending("one", stems(2), LABEL.shape)
        lists = np.zeros((2, 3, *LABEL.shape), np.uint8)
        arrays = {"label": np.stack([LABEL] * 2), "entropy": np.stack([ENTROPY] * 2)}
        writer.write("one", segment, {**arrays, "top_class": lists, "top_probability": lists})
    return open_store(tmp_path / "a.zarr")


def test_coverage_and_precision_at_every_threshold(store: Store) -> None:
    counts = measure_reliability(store, lambda video, t: MASK if t == 0 else None)
    assert (counts.frames, counts.judged_frames) == (2, 1)
    coverage, precision = counts.coverage(), counts.precision()
    assert coverage[[0, 9, 10, 70, 254, 255]].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.9, 0.9, 1.0])
    # Of the frame with a mask: right, right, wrong, right, void, right, wrong, right, right, right.
    assert precision[[0, 20, 30, 40, 60, 255]].tolist() == pytest.approx([1, 2 / 3, 3 / 4, 3 / 4, 4 / 6, 7 / 9])
    assert counts.level_at(50) == 40
    assert counts.class_coverage(30)[:3].tolist() == pytest.approx([1 / 2, 2 / 4, 1 / 4])
    assert math.isnan(counts.class_coverage(30)[3])
    assert counts.class_precision(30)[:3].tolist() == pytest.approx([1.0, 1 / 2, 1.0])


def test_without_masks_there_is_coverage_alone(store: Store) -> None:
    counts = measure_reliability(store, lambda video, t: None)
    assert np.isnan(counts.precision()).all()
    assert counts.coverage()[255] == 1
    thresholds = counts.to_json()["thresholds"]
    assert isinstance(thresholds, list)
    assert thresholds[40] == {"threshold": 40 / 255, "coverage": 0.5, "precision": None}
    assert "Reliable pixels by threshold" in draw_reliability(counts, Threshold(40 / 255))


def test_thresholds_of_each_class_are_the_ones_reported(store: Store) -> None:
    threshold = threshold_from_percentile(store, 50, by_class=True)
    assert threshold.class_levels == (0, 20, 40, 0)  # class by class half of the pixels, not all below the largest
    counts = measure_reliability(store, lambda video, t: MASK if t == 0 else None)
    report = ReliabilityReport(counts, threshold, Path("a.svg"), Path("a.json"))
    assert report.class_rows() == [
        ("class 0", "20.0%", "50.0%", "100.0%"),
        ("class 1", "40.0%", "50.0%", "50.0%"),
        ("class 2", "40.0%", "50.0%", "100.0%"),
        ("class 3", "0.0%", "-", "-"),
    ]
    assert "50.0% reliable" in draw_reliability(counts, threshold)
    unjudged = draw_reliability(measure_reliability(store, lambda video, t: None), threshold)
    assert "% reliable" not in unjudged  # the axis is a threshold for all classes


def test_a_mask_of_another_size_is_refused(store: Store) -> None:
    with pytest.raises(VssError, match=r"one/.* is 4x3, its prediction 5x2"):
        measure_reliability(store, lambda video, t: np.zeros((3, 4), np.uint8))


def test_the_report_is_a_table_a_chart_and_figures(tmp_path: Path) -> None:
    last = train(small_recipe(tmp_path / "data", steps=4), tmp_path / "run").last
    made = pseudo([last], split="val", context=Context(tmp_path, device="cpu"))
    done = vss("pseudo", "--store", made.predictions, "--workspace", tmp_path, "--report", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "seldom reliable" in done.stdout
    chart = made.predictions.with_suffix("").with_suffix(".reliability.svg")
    assert re.search(r'<path d="M[\d.]+ [\d.]+L.* fill="none"', chart.read_text())
    done = vss("pseudo", "--store", made.predictions, "--workspace", tmp_path, "--report", "--json", cwd=tmp_path)
    report = json.loads(done.stdout)["report"]
    assert (report["frames"], report["judged_frames"], len(report["thresholds"])) == (24, 24, 256)
    assert report["thresholds"][255]["coverage"] == 1.0
    shown = [entry["precision"] for entry in report["thresholds"] if entry["precision"] is not None]
    assert all(0 <= value <= 1 for value in shown)
