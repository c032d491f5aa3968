"""``vss compare``: two predictions of the same frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import refusal, table_of, write_labels, write_video
from PIL import Image

from vsscli.cli.app import run
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo, Frame
from vsscli.evaluation.difference import Difference, difference
from vsscli.evaluation.labels import FolderLabels
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.report.difference import FIRST, SECOND, difference_picture

CLASSES = 3


def made(tmp_path: Path, videos: int, frames: int, seed: int = 0) -> tuple[list[FolderVideo], list[np.ndarray]]:
    """Random videos, and two predictions of each that are right in about half and three quarters of the pixels."""
    rng = np.random.default_rng(seed)
    truths = rng.integers(1, CLASSES + 1, (videos, frames, 6, 8), dtype=np.uint8)
    truths[rng.random(truths.shape) < 0.1] = 0
    labels = []
    for place, share in (("one", 0.5), ("other", 0.75)):
        wrong = rng.integers(0, CLASSES, truths.shape, dtype=np.uint8)
        label = np.where(rng.random(truths.shape) < share, np.clip(truths, 1, None) - 1, wrong).astype(np.uint8)
        for video in range(videos):
            write_labels(tmp_path / place, f"v{video:02d}", label[video])
        labels.append(label)
    return [write_video(tmp_path, f"v{video:02d}", truths[video]) for video in range(videos)], [truths, *labels]


def compared(tmp_path: Path, videos: list[FolderVideo], most: int = 0) -> Difference:
    sources = FolderLabels(tmp_path / "one" / "labels"), FolderLabels(tmp_path / "other" / "labels")
    return difference(videos, sources, table_of(CLASSES), MaskIds(), most=most, workers=1)


def iou_of(truths: np.ndarray, label: np.ndarray) -> np.ndarray:
    matrix = ConfusionMatrix(CLASSES)
    matrix.update(np.where(truths == 0, 255, truths.astype(np.int64) - 1).astype(np.uint8), label)
    return matrix.iou()


def test_figures_are_those_of_each_prediction_and_the_spread_is_that_of_resampled_videos(tmp_path: Path) -> None:
    videos, (truths, *labels) = made(tmp_path, 12, 2)
    found = compared(tmp_path, videos)
    assert found.samples == found.videos == 12
    for number, label in enumerate(labels):
        np.testing.assert_allclose(found.iou[number], iou_of(truths, label))
        assert found.miou[number] == pytest.approx(iou_of(truths, label).mean())
    assert found.differing == pytest.approx(float((labels[0] != labels[1]).mean()))

    rng, changes = np.random.default_rng(5), []
    for _ in range(600):
        drawn = rng.integers(0, 12, 12)
        changes.append(iou_of(truths[drawn], labels[1][drawn]) - iou_of(truths[drawn], labels[0][drawn]))
    np.testing.assert_allclose(found.spread, np.std(changes, axis=0), rtol=0.15)
    assert found.miou_spread == pytest.approx(float(np.mean(changes, axis=1).std()), rel=0.15)


def test_few_videos_are_cut_into_stretches(tmp_path: Path) -> None:
    videos, (truths, *labels) = made(tmp_path, 1, 20)
    found = compared(tmp_path, videos)
    assert (found.samples, found.videos) == (10, 1)
    np.testing.assert_allclose(found.iou[1], iou_of(truths, labels[1]))
    assert (found.spread > 0).all()
    assert np.isnan(compared(tmp_path, [FolderVideo("v00", videos[0].frames[:1])]).miou_spread)


def test_the_frames_that_differ_most_are_named_from_several_videos(tmp_path: Path) -> None:
    videos, (_, one, other) = made(tmp_path, 3, 4)
    shares = (one != other).mean(axis=(2, 3))
    found = compared(tmp_path, videos, most=3)
    assert [place.video for place in found.most] == list(np.argsort(-shares.max(axis=1)))
    assert [place.share for place in found.most] == sorted(shares.max(axis=1), reverse=True)


def test_without_masks_only_the_share_of_differing_pixels_is_known(tmp_path: Path) -> None:
    videos, (_, one, other) = made(tmp_path, 2, 2)
    bare = [FolderVideo(v.name, tuple(Frame(f.video, f.stem, None) for f in v.frames)) for v in videos]
    found = compared(tmp_path, bare)
    assert (found.masked, found.samples) == (0, 0)
    assert np.isnan(found.miou).all()
    assert found.differing == pytest.approx(float((one != other).mean()))


def test_predictions_of_other_sizes_are_refused(tmp_path: Path) -> None:
    videos, _ = made(tmp_path, 1, 2)
    write_labels(tmp_path / "other", "v00", np.zeros((2, 3, 4), np.uint8))
    assert "4x3, and 8x6" in refusal(lambda: compared(tmp_path, videos)).message


def test_a_picture_colours_pixels_by_which_prediction_is_right() -> None:
    image = np.full((200, 320, 3), 90, np.uint8)
    truth, one, other = (np.zeros((200, 320), np.uint8) for _ in range(3))
    one[:100, :160], other[100:, 160:] = 1, 1
    picture = difference_picture(image, {"a": one, "b": other}, truth, table_of(2))
    last = picture[20:221, -328:-8]
    assert tuple(last[50, 50]) == SECOND
    assert tuple(last[150, 300]) == FIRST
    assert last[50, 300].max() < 60


def test_the_command_compares_folders_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    videos, (_, one, other) = made(tmp_path, 2, 2)
    root = tmp_path / "set"
    for video in videos:
        for folder in ("origin", "mask"):
            (root / "data" / video.name / folder).mkdir(parents=True)
        for frame in video.frames:
            Image.new("RGB", (8, 6)).save(root / "data" / video.name / "origin" / f"{frame.stem}.jpg")
            assert frame.mask is not None
            (root / "data" / video.name / "mask" / f"{frame.stem}.png").write_bytes(frame.mask.read_bytes())
    (root / "classes.json").write_text(json.dumps(table_of(CLASSES).to_dict()))
    (root / "val.txt").write_text("v00\nv01")
    paths = [str(tmp_path / name / "labels") for name in ("one", "other")]
    out = tmp_path / "pictures"
    assert run(["compare", *paths, "--data", str(root), "--pictures", "2", "--out", str(out), "--json", "-q"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["differing"] == pytest.approx(float((one != other).mean()))
    assert [row["difference"] for row in told["per_class"]] == sorted(
        (row["difference"] for row in told["per_class"]), reverse=True
    )
    assert sorted(told["pictures"]) == sorted(str(path) for path in out.glob("*/*.png"))
    assert len(told["pictures"]) == 2
    assert run(["compare", *paths, "--data", str(root), "-q"]) == 0
    assert "mIoU" in capsys.readouterr().out
