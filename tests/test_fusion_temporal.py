"""Smoothing along time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_samples import prediction_header, snapshot, write_predictions

from vsscli.errors import VssError
from vsscli.fusion.temporal import smooth
from vsscli.store.header import Encoding
from vsscli.store.reader import Store, open_store

SIZE, FRAMES = (48, 64), 5


def drawn(shift: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured scene that moves ``shift`` pixels a frame, (T, H, W, 3) uint8, and its classes, (T, H, W)."""
    generator = np.random.default_rng(0)
    wide = SIZE[1] + 4 * FRAMES * max(shift, 1)
    coarse = generator.integers(0, 256, (SIZE[0] // 4, wide // 4))
    texture = np.kron(coarse, np.ones((4, 4)))
    classes = (np.arange(texture.shape[1]) // 12 % 3)[None].repeat(SIZE[0], axis=0)
    cut = [slice(8 + t * shift, 8 + t * shift + SIZE[1]) for t in range(FRAMES)]
    images = np.stack([np.repeat(texture[:, c, None], 3, axis=2) for c in cut]).astype(np.uint8)
    return images, np.stack([classes[:, c] for c in cut])


def predicted(path: Path, classes: np.ndarray, flicker: float, seed: int = 1) -> Store:
    """Distributions that lean to the right class and now and then to another."""
    generator = np.random.default_rng(seed)
    wrong = generator.random(classes.shape) < flicker
    shown = np.where(wrong, (classes + 1) % 3, classes)
    means = np.full((FRAMES, 3, *SIZE), 0.1, np.float32)
    np.put_along_axis(means, shown[:, None], 0.8, axis=1)
    return write_predictions(path, prediction_header(3, Encoding(step=1)), {"v": means})


def right(store: Store, classes: np.ndarray, margin: int = 10) -> float:
    inner = (slice(None), slice(margin, -margin))
    return float(np.mean([(store.label("v", t) == classes[t])[inner].mean() for t in range(FRAMES)]))


def test_flicker_goes_where_nothing_moves(tmp_path: Path) -> None:
    _, classes = drawn(0)
    store = predicted(tmp_path / "a.zarr", classes, 0.1)
    smoothed = open_store(smooth(store, 2, tmp_path / "s.zarr"))
    assert 1 - right(smoothed, classes) < 0.6 * (1 - right(store, classes))
    # A pixel on which all frames agree is as sure as before; one that flickers less so.
    agree = np.all([store.label("v", t) == store.label("v", 0) for t in range(FRAMES)], axis=0)
    change = smoothed.read("v", "entropy", 2).astype(int) - store.read("v", "entropy", 2)
    assert np.abs(change[agree]).max() <= 1
    assert change[~agree].max() > 10


def test_motion_is_followed_where_the_frames_are_there(tmp_path: Path) -> None:
    images, classes = drawn(3)
    store = predicted(tmp_path / "a.zarr", classes, 0.1)
    still = open_store(smooth(store, 1, tmp_path / "still.zarr"))
    moved = open_store(smooth(store, 1, tmp_path / "moved.zarr", reader=lambda video, t: images[t]))
    assert right(moved, classes) > right(store, classes) + 0.01
    assert right(moved, classes) > right(still, classes) + 0.01
    assert moved.fingerprint != still.fingerprint
    assert moved.record("v").sources == (store.digest("v"),)


def test_smoothing_goes_on_and_is_told_what_it_can_not_smooth(tmp_path: Path) -> None:
    _, classes = drawn(0)
    store = predicted(tmp_path / "a.zarr", classes, 0.1)
    first = snapshot(smooth(store, 1, tmp_path / "s.zarr"))
    assert snapshot(smooth(store, 1, tmp_path / "s.zarr")) == first
    with pytest.raises(VssError, match=r"source\.reach = 1, not 2"):
        smooth(store, 2, tmp_path / "s.zarr")
    with pytest.raises(VssError, match="reach of 9"):
        smooth(store, 9, tmp_path / "t.zarr")
    means = np.full((2, 3, 4, 4), 1 / 3, np.float32)
    coarse = write_predictions(tmp_path / "c.zarr", prediction_header(3, Encoding(grid=2)), {"v": means})
    with pytest.raises(VssError, match="no lists at frame size"):
        smooth(coarse, 1, tmp_path / "t.zarr")
