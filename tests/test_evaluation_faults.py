"""Errors of scoring name the frame and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import Small, refusal, table_of, write_small
from PIL import Image
from store_samples import distributions, prediction_header, write_predictions

from vsscli.data.masks import MaskIds, write_mask
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.store.header import Encoding


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return write_small(tmp_path)


@pytest.fixture(params=[1, 2])
def refused(request: pytest.FixtureRequest, small: Small) -> Callable[[], VssError]:
    """Score the small video, in one thread or two, which is to be refused."""
    videos, labels = small
    return lambda: refusal(
        lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), engine=Engine(request.param))
    )


def test_a_missing_prediction_is_named(small: Small, refused: Callable[[], VssError]) -> None:
    (small[1] / "street" / "0001.png").unlink()
    error = refused()
    assert str(small[1] / "street" / "0001.png") in error.message
    assert "street/0001" in error.message


def test_a_prediction_of_another_size_is_named_with_both_sizes(small: Small, refused: Callable[[], VssError]) -> None:
    write_mask(small[1] / "street" / "0002.png", np.zeros((2, 4), np.uint8))
    error = refused()
    assert "0002.png is 2x4" in error.message
    assert "is 1x4" in error.message
    assert "resize the prediction" in error.hint


def test_a_mask_of_another_size_than_its_image_is_what_is_wrong(
    small: Small, refused: Callable[[], VssError], tmp_path: Path
) -> None:
    Image.new("RGB", (4, 1)).save(tmp_path / "image.png")
    frames = (replace(frame, image=tmp_path / "image.png") for frame in small[0][0].frames)
    small[0][:] = [FolderVideo("street", tuple(frames))]
    write_mask(small[0][0].frames[1].mask or Path(), np.ones((2, 8), np.uint8))
    assert "resize the mask" in refused().hint


def test_a_damaged_or_coloured_prediction_is_named(small: Small, refused: Callable[[], VssError]) -> None:
    (small[1] / "street" / "0002.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    assert "0002.png" in refused().message
    Image.new("RGB", (4, 1)).save(small[1] / "street" / "0000.png")
    assert "0000.png" in refused().message


def test_a_split_without_a_mask_is_refused(small: Small, refused: Callable[[], VssError]) -> None:
    frames = small[0][0].frames
    bare = tuple(Frame("street", frame.stem, frame.image, None) for frame in frames)
    small[0][:] = [FolderVideo("street", bare)]
    error = refused()
    assert "3 frames" in error.message
    assert "street/0000" in error.message


def test_a_video_of_changing_size_is_named(small: Small, refused: Callable[[], VssError]) -> None:
    write_mask(small[0][0].frames[1].mask or Path(), np.ones((2, 4), np.uint8))
    write_mask(small[1] / "street" / "0001.png", np.ones((2, 4), np.uint8))
    error = refused()
    assert "0001.png is 2x4" in error.message
    assert "1x4" in error.message


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(lambda: FolderLabels(tmp_path / "nowhere")).message


def test_a_set_of_which_nothing_counts_is_refused(small: Small) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), protocol="cffm"))
    assert "none of the 1 videos" in error.message
    assert "cffm" in error.message


def test_a_video_or_frame_that_a_store_lacks_is_named(tmp_path: Path) -> None:
    store = write_predictions(tmp_path / "a.zarr", prediction_header(), {"other": distributions(0, 1)})
    labels = StoreLabels(store)
    error = refusal(lambda: labels.label("lane", 0, "00000"))
    assert str(store.path) in error.message
    assert "video lane" in error.message
    assert "other/00001" in refusal(lambda: labels.label("other", 1, "00001")).message


def test_probabilities_are_asked_of_stores_on_the_finest_grid_alone(small: Small, tmp_path: Path) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["miou", "ece"]))
    assert "ece needs probabilities" in error.message
    assert "prediction store" in error.hint
    header = prediction_header(encoding=Encoding(kept=3, grid=2))
    store = write_predictions(tmp_path / "c.zarr", header, {"street": distributions(0, 3, size=(4, 6))})
    coarse = StoreLabels(store)
    assert "coarser grid" in refusal(lambda: coarse.confidence("street", store.stems("street")[0])).message


def test_a_metric_of_frames_names_the_frame_that_has_none(small: Small) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["tc"]))
    assert "street/0000 has a mask but no image" in error.message
