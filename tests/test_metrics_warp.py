"""Temporal consistency along the flow: against a plain count with known motion, and with real flow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vsscli.metrics import warp
from vsscli.metrics.warp import WarpedConsistency

SIZE, FRAMES, CLASSES = (48, 64), 4, 3


def scene(shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (T, H, W, 3) uint8 that move ``shift`` pixels to the left each, and their classes (T, H, W) uint8."""
    wide = SIZE[1] + FRAMES * shift
    texture = gaussian_filter(np.random.default_rng(0).random((SIZE[0], wide)), 2)
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    classes = (np.arange(wide) // 12 % CLASSES).astype(np.uint8)[None].repeat(SIZE[0], axis=0)
    cuts = [slice(t * shift, t * shift + SIZE[1]) for t in range(FRAMES)]
    return np.stack([texture[:, cut, None].repeat(3, axis=2) for cut in cuts]), np.stack([classes[:, c] for c in cuts])


def scored(labels: Sequence[np.ndarray | None], images: Sequence[np.ndarray]) -> WarpedConsistency:
    metric = WarpedConsistency(CLASSES)
    metric.start_video(len(labels))
    for label, image in zip(labels, images, strict=True):
        if label is None:
            metric.skip()
        else:
            metric.update(np.zeros_like(label), label, {"image": image})
    metric.end_video("v")
    return metric


def mean_iou(now: np.ndarray, before: np.ndarray) -> float:
    ious = [((now == c) & (before == c)).sum() / ((now == c) | (before == c)).sum() for c in np.unique(now)]
    return float(np.mean(ious))


def test_it_is_the_mean_iou_with_the_moved_prediction_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    shift = 3

    def known_motion(*_: object) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.indices(SIZE)
        inside = columns + shift < SIZE[1]
        return (rows * SIZE[1] + np.minimum(columns + shift, SIZE[1] - 1)).reshape(-1), inside.reshape(-1)

    monkeypatch.setattr(warp, "flow", known_motion)
    labels = np.random.default_rng(1).integers(0, CLASSES, (FRAMES, *SIZE)).astype(np.uint8)
    metric = scored(labels, scene(shift)[0])
    pairs = [(labels[t][:, :-shift], labels[t - 1][:, shift:]) for t in range(1, FRAMES)]
    wanted = mean_iou(*(np.concatenate(side) for side in zip(*pairs, strict=True)))
    assert metric.figures() == {"tc": pytest.approx(wanted, rel=1e-12)}
    assert metric.notes() == {"followed": pytest.approx(1 - shift / SIZE[1])}
    (video,) = metric.per_video()
    each = [mean_iou(*pair) for pair in pairs]
    assert video.values == {"tc": pytest.approx(wanted, rel=1e-12)}
    assert video.worst == {"tc": (int(np.argmin(each)), pytest.approx(min(each), rel=1e-12))}


def test_what_moves_with_the_frames_is_consistent_and_what_stays_is_not() -> None:
    images, classes = scene(3)
    moving, staying = scored(classes, images), scored([classes[0]] * FRAMES, images)
    assert moving.figures()["tc"] > 0.95
    assert staying.figures()["tc"] < 0.75
    assert moving.notes()["followed"] > 0.8


def test_pairs_with_a_frame_without_truth_do_not_count() -> None:
    images, classes = scene(0)
    flickering = [classes[0], None, 2 - classes[0], None]
    metric = scored(flickering, images)
    assert math.isnan(metric.figures()["tc"])
    assert metric.reasons() == ["nothing to average for TC: no two frames that count are neighbours"]
    assert metric.per_video()[0].worst == {}
    assert scored([classes[0], classes[0], None, 2 - classes[0]], images).figures() == {"tc": 1.0}
