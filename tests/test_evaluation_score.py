"""Scoring folders and stores of labels: which figures, of which frames, and the inputs of a metric."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from evaluation_samples import Small, table_of, write_labels, write_small, write_video
from PIL import Image
from store_samples import CLASSES, distributions, prediction_header, write_predictions

from vsscli.data.masks import MaskIds, write_mask
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting
from vsscli.store.header import Encoding


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return write_small(tmp_path)


def test_json_holds_what_was_asked_for_in_that_order(small: Small) -> None:
    videos, labels = small
    figures = score(videos, FolderLabels(labels), table_of(3), MaskIds(), metrics=["VC2", "miou", "vc8"])
    values = figures.to_json(per_class=True, per_video=True)
    assert list(values)[:3] == ["vc2", "miou", "vc8"]
    assert values["vc2"] == 1.0
    assert values["miou"] == 1.0
    assert values["vc8"] is None, "no video is long enough; JSON knows no NaN"
    assert values["protocol"] == "vspw"
    assert values["windows"] == {"vc2": 1, "vc8": 0}
    assert values["per_class"] == [
        {"name": "class 0", "iou": 1.0, "pixels": 6},
        {"name": "class 1", "iou": 1.0, "pixels": 3},
        {"name": "class 2", "iou": None, "pixels": 0},
    ]
    assert values["per_video"] == [
        {"name": "street", "frames": 3, "vc2": 1.0, "vc8": None, "worst": {"vc2": {"start": "0000", "score": 1.0}}}
    ]
    json.dumps(values, allow_nan=False)


def test_consistency_alone_leaves_the_other_figures_out(small: Small) -> None:
    videos, labels = small
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["vc2"])
    assert figures.per_class == {}
    assert list(figures.values) == ["vc2"]


def test_miou_alone_has_videos_without_consistency(small: Small) -> None:
    videos, labels = small
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["miou"])
    assert [(video.name, video.values) for video in figures.per_video] == [("street", {})]
    assert "windows" not in figures.to_json()


def test_the_frame_where_a_prediction_flickers_is_named(tmp_path: Path) -> None:
    labels = np.zeros((6, 1, 2), np.uint8)
    labels[4:, 0, 0] = 1
    write_labels(tmp_path, "street", labels)
    videos = [write_video(tmp_path, "street", np.ones((6, 1, 2), np.uint8))]
    figures = score(videos, FolderLabels(tmp_path / "labels"), table_of(2), MaskIds(), metrics=["vc2"])
    assert figures.per_video[0].worst == {"vc2": ("0003", 0.5)}


def test_a_predicted_255_on_a_labelled_pixel_is_wrong(small: Small) -> None:
    videos, labels = small
    write_mask(labels / "street" / "0001.png", np.array([[255, 0, 1, 255]], np.uint8))
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds())
    assert figures.values["miou"] == pytest.approx((5 / 6 + 1) / 2)


def test_ids_that_mean_nothing_are_void_in_ground_truth(small: Small) -> None:
    videos, labels = small
    write_mask(videos[0].frames[0].mask or Path(), np.array([[1, 1, 2, 252]], np.uint8))
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds(unknown="error"), metrics=["miou", "vc2"])
    assert figures.values["miou"] == 1.0
    assert sum(row["pixels"] for row in figures.per_class.values()) == 9


class CountedLabels:
    """Labels made up on demand; remembers how far the threads ran ahead of what was taken."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.given = self.taken = self.furthest = 0

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        with self.lock:
            self.given += 1
            self.furthest = max(self.furthest, self.given - self.taken)
        return np.zeros((1, 4), np.uint8)

    def place(self, video: str, stem: str) -> str:
        return stem

    def say(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def track(self, label: str, total: int, unit: str = "frame") -> CountedLabels:
        self.total = total
        return self

    def __enter__(self) -> Callable[[int], None]:
        return self.take

    def __exit__(self, *details: object) -> None: ...

    def take(self, done: int) -> None:
        with self.lock:
            self.taken += done


def test_frames_are_decoded_once_and_only_so_far_ahead(small: Small) -> None:
    videos, _ = small
    source = CountedLabels()
    many = [FolderVideo(f"street{number}", videos[0].frames) for number in range(60)]
    score(many, source, table_of(2), MaskIds(), metrics=["miou", "wiou", "vc2", "vc3"], engine=Engine(2), talk=source)
    assert source.given == source.taken == source.total == 180
    assert source.furthest <= 9


class TwoVideos:
    """As much of a store as labels need."""

    path = Path("a.zarr")

    def videos(self) -> tuple[str, ...]:
        return ("other", "street")

    def stems(self, video: str) -> tuple[str, ...]:
        # One frame more than is scored, in front.
        return ("before", "0000", "0001", "0002") if video == "street" else ("0000",)

    def label(self, video: str, t: int) -> np.ndarray:
        return np.array([[9, 9, 9, 9]] if t == 0 else [[0, 0, 1, 1]], np.uint8)


def test_a_store_is_asked_for_frames_by_name(small: Small) -> None:
    labels = StoreLabels(TwoVideos())  # type: ignore[arg-type]
    assert score(small[0], labels, table_of(2), MaskIds(), engine=Engine(2)).values["miou"] == 1.0
    assert labels.place("street", "0001") == "a.zarr: street/0001"


def test_a_store_scores_as_the_same_labels_in_a_folder_do(tmp_path: Path) -> None:
    means = {name: distributions(seed, 20) for seed, name in enumerate(("lane", "street"))}
    store = write_predictions(tmp_path / "a.zarr", prediction_header(), means)
    videos = []
    for seed, (name, mean) in enumerate(means.items()):
        labels = mean.argmax(axis=1).astype(np.uint8)
        noise = np.random.default_rng(seed).random(labels.shape) < 0.2
        truths = np.where(noise, 0, labels + 1).astype(np.uint8)
        for index, (truth, label) in enumerate(zip(truths, labels, strict=True)):
            write_mask(tmp_path / "truth" / name / f"{index:05d}.png", truth)
            write_mask(tmp_path / "labels" / name / f"{index:05d}.png", label)
        masks = sorted((tmp_path / "truth" / name).iterdir())
        videos.append(FolderVideo(name, tuple(Frame(name, path.stem, None, path) for path in masks)))
    from_store, from_folder = (
        score(
            videos,
            source,
            table_of(CLASSES),
            MaskIds(),
            metrics=["miou", "wiou", "acc", "vc2", "vc16"],
            engine=Engine(2),
        )
        for source in (StoreLabels(store), FolderLabels(tmp_path / "labels"))
    )
    assert from_store.to_json(per_class=True, per_video=True) == from_folder.to_json(per_class=True, per_video=True)
    assert from_store.values["acc"] == 1.0


class Recorder(Metric):
    """Keeps all that it is given."""

    names = ("all",)
    needs = ("confidence", "entropy", "image")

    def __init__(self) -> None:
        self.seen: list[dict[str, np.ndarray]] = []

    @classmethod
    def build(cls, names: Sequence[str], setting: Setting) -> Recorder:
        return cls()

    def update(self, truth: np.ndarray, label: np.ndarray, extras: Extras = NOTHING) -> None:
        self.seen.append({"truth": truth.copy(), "label": label.copy(), **extras})

    def merge(self, other: Recorder) -> None: ...

    def figures(self) -> dict[str, float]:
        return {"all": float(len(self.seen))}


@pytest.mark.parametrize("keep", ["top", "all"])
def test_a_metric_is_given_what_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str) -> None:
    recorder = Recorder()
    monkeypatch.setattr(Recorder, "build", lambda names, setting: recorder)
    monkeypatch.setattr("vsscli.metrics.registry.METRICS", (Recorder,))
    means = distributions(0, 3)
    header = prediction_header(encoding=Encoding(kept=3, keep=keep))
    store = write_predictions(tmp_path / "a.zarr", header, {"street": means})
    size = means.shape[2:]
    frames = []
    for t, name in enumerate(store.stems("street")):
        write_mask(tmp_path / f"{name}.png", np.full(size, 2 * t, np.uint8))
        Image.fromarray(np.full((*size, 3), t, np.uint8)).save(tmp_path / f"{name}.bmp")
        frames.append(Frame("street", name, tmp_path / f"{name}.bmp", tmp_path / f"{name}.png"))
    video = FolderVideo("street", tuple(frames))
    figures = score([video], StoreLabels(store), table_of(CLASSES), MaskIds(), metrics=["all"], engine=Engine(2))
    assert figures.values == {"all": 3.0}
    for t, seen in enumerate(recorder.seen):
        assert (seen["truth"] == (255 if t == 0 else 2 * t - 1)).all(), "classes, all void 255"
        np.testing.assert_array_equal(seen["label"], means[t].argmax(axis=0))
        np.testing.assert_allclose(seen["confidence"], means[t].max(axis=0), atol=0.003)
        np.testing.assert_array_equal(seen["entropy"], store.entropy("street", t))
        assert (seen["image"] == t).all()


def test_consistency_along_the_flow_needs_no_masks(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    frames = []
    for t in range(3):
        image = tmp_path / "v" / f"{t:04d}.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)).save(image)
        frames.append(Frame("v", image.stem, image))
    steady = np.zeros((3, 32, 48), np.uint8)
    steady[:, :, 24:] = 1
    write_labels(tmp_path, "v", steady)
    video, labels = FolderVideo("v", tuple(frames)), FolderLabels(tmp_path / "labels")
    figures = score([video], labels, table_of(2), MaskIds(), metrics=["tc"])
    assert (figures.values["tc"], figures.frames, figures.unmasked) == (1.0, 3, 0)
    with pytest.raises(VssError, match="none of the 3 frames has a mask"):
        score([video], labels, table_of(2), MaskIds(), metrics=["tc", "miou"])
