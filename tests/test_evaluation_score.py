"""Scoring folders and stores of labels: the official numbers from PNG files, errors that name the frame."""

from __future__ import annotations

import ast
import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from store_samples import CLASSES, distributions, prediction_header, write_predictions

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds, write_mask
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.metrics.metric import NOTHING, Extras, Metric, Setting
from vsscli.store.header import Encoding

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = json.loads((FIXTURES / "vspw_metrics.json").read_text())
EXACT = OFFICIAL["exact_from_official_functions"]
SCRIPTS = OFFICIAL["official_script_outputs"]["raw"]
PALETTE = bytes(range(256)) * 3


def table_of(num_classes: int) -> ClassTable:
    names = tuple(f"class {index}" for index in range(num_classes))
    return ClassTable("test", names, ((0, 0, 0),) * num_classes)


def write_video(root: Path, name: str, truths: np.ndarray, palette: bytes | None = None) -> FolderVideo:
    frames = []
    for index, truth in enumerate(truths):
        path = root / "truth" / name / f"{index:04d}.png"
        write_mask(path, truth, palette)
        frames.append(Frame(name, path.stem, None, path))
    return FolderVideo(name, tuple(frames))


def write_labels(root: Path, name: str, labels: np.ndarray, palette: bytes | None = None) -> None:
    for index, label in enumerate(labels):
        write_mask(root / "labels" / name / f"{index:04d}.png", label, palette)


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[FolderVideo], Path]:
    """The fixture's videos as files: grey ground truth, palette predictions in every other video."""
    root = tmp_path_factory.mktemp("vspw")
    videos = []
    with np.load(FIXTURES / "vspw_metrics.npz") as arrays:
        for number, name in enumerate(OFFICIAL["video_order"]):
            videos.append(write_video(root, name, arrays[f"gtraw_{name}"]))
            write_labels(root, name, arrays[f"pred_{name}"], PALETTE if number % 2 else None)
    return videos, root / "labels"


@pytest.fixture
def small(tmp_path: Path) -> tuple[list[FolderVideo], Path]:
    """One video of three frames, two classes, all right."""
    truths = np.array([[[1, 1, 2, 0]]] * 3, np.uint8)
    labels = np.array([[[0, 0, 1, 1]]] * 3, np.uint8)
    write_labels(tmp_path, "street", labels)
    return [write_video(tmp_path, "street", truths)], tmp_path / "labels"


def test_protocol_vspw_gives_the_official_figures(official: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = official
    metrics = ["miou", "wiou", "acc", "class_acc", "vc8", "vc16"]
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), metrics=metrics)
    names = ["mIoU", "weighted_IoU", "Acc", "Acc_class", "VC8_raw", "VC16_raw"]
    for metric, name in zip(metrics, names, strict=True):
        assert figures.values[metric] == pytest.approx(EXACT[name], abs=1e-12), name
    assert figures.notes["windows"] == {f"vc{n}": EXACT[f"VC{n}_raw_n_windows"] for n in (8, 16)}
    assert (figures.videos, figures.left_out) == (10, 0)
    assert figures.frames == sum(len(video) for video in videos)


def test_protocol_mapped_changes_consistency_alone(official: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = official
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), protocol="mapped")
    assert figures.values["miou"] == pytest.approx(EXACT["mIoU"], abs=1e-12)
    assert [figures.values[f"vc{n}"] for n in (8, 16)] == pytest.approx(
        [EXACT["VC8_mapped"], EXACT["VC16_mapped"]], abs=1e-12
    )


def test_protocol_pooled_gives_what_dvis_plus_prints(official: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = official
    figures = score(videos, FolderLabels(labels), table_of(124), MaskIds(), protocol="pooled")
    printed = SCRIPTS["DVIS_Plus.eval_vc_vspw(VC8,VC16 with the reset bug)"]
    assert [figures.values["vc8"], figures.values["vc16"]] == pytest.approx(printed, abs=1e-12)


class NoLabelsOfShortVideos:
    """A folder's labels that must not be asked for videos of 16 or fewer frames."""

    def __init__(self, labels: FolderLabels, allowed: set[str]) -> None:
        self.labels, self.allowed = labels, allowed

    def label(self, video: str, index: int, stem: str) -> np.ndarray:
        assert video in self.allowed
        return self.labels.label(video, index, stem)

    def place(self, video: str, stem: str) -> str:
        return self.labels.place(video, stem)


@pytest.mark.parametrize(
    "metrics", [["acc", "class_acc", "miou", "wiou", "vc8", "vc16"], ["acc", "class_acc", "miou", "wiou"]]
)
def test_protocol_cffm_gives_what_cffm_prints_and_never_opens_short_videos(
    official: tuple[list[FolderVideo], Path], metrics: list[str]
) -> None:
    videos, labels = official
    source = NoLabelsOfShortVideos(FolderLabels(labels), {video.name for video in videos if len(video) > 16})
    figures = score(videos, source, table_of(124), MaskIds(), metrics=metrics, protocol="cffm")
    lines = SCRIPTS["VSS-CFFM.VC_perclip(VC16,VC8; +mIoU on videos>16 only)"]
    line = next(line for line in lines if line.startswith("Acc, Acc_class"))
    printed = ast.literal_eval(line.split(":", 1)[1].strip().replace("np.float64", ""))
    assert [figures.values[metric] for metric in metrics[:4]] == pytest.approx(printed, abs=1e-12)
    if "vc8" in metrics:
        for n in (8, 16):
            printed_vc = next(float(x.split()[2]) for x in lines if x.startswith(f"VC{n} "))
            assert figures.values[f"vc{n}"] == pytest.approx(printed_vc, abs=1e-12)
    assert figures.left_out == 4


def test_any_number_of_threads_gives_the_same_figures(official: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = official
    one, two, many = (
        score(videos, FolderLabels(labels), table_of(124), MaskIds(), workers=workers).to_json(per_class=True)
        for workers in (1, 2, 7)
    )
    assert one == two == many


def test_json_holds_what_was_asked_for_in_that_order(small: tuple[list[FolderVideo], Path]) -> None:
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


def test_consistency_alone_leaves_the_other_figures_out(small: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = small
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["vc2"])
    assert figures.per_class == {}
    assert list(figures.values) == ["vc2"]


def test_miou_alone_has_videos_without_consistency(small: tuple[list[FolderVideo], Path]) -> None:
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


def test_a_predicted_255_on_a_labelled_pixel_is_wrong(small: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = small
    write_mask(labels / "street" / "0001.png", np.array([[255, 0, 1, 255]], np.uint8))
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds())
    assert figures.values["miou"] == pytest.approx((5 / 6 + 1) / 2)


def test_ids_that_mean_nothing_are_void_in_ground_truth(small: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = small
    write_mask(videos[0].frames[0].mask or Path(), np.array([[1, 1, 2, 252]], np.uint8))
    figures = score(videos, FolderLabels(labels), table_of(2), MaskIds(unknown="error"), metrics=["miou", "vc2"])
    assert figures.values["miou"] == 1.0
    assert sum(row["pixels"] for row in figures.per_class.values()) == 9


def refusal(work: Callable[[], object]) -> VssError:
    with pytest.raises(VssError) as error:
        work()
    assert error.value.hint
    return error.value


@pytest.mark.parametrize("workers", [1, 2])
class TestFaults:
    def refused(self, small: tuple[list[FolderVideo], Path], workers: int) -> VssError:
        videos, labels = small
        return refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), workers=workers))

    def test_a_missing_prediction_is_named(self, small: tuple[list[FolderVideo], Path], workers: int) -> None:
        (small[1] / "street" / "0001.png").unlink()
        error = self.refused(small, workers)
        assert str(small[1] / "street" / "0001.png") in error.message
        assert "street/0001" in error.message

    def test_a_prediction_of_another_size_is_named_with_both_sizes(
        self, small: tuple[list[FolderVideo], Path], workers: int
    ) -> None:
        write_mask(small[1] / "street" / "0002.png", np.zeros((2, 4), np.uint8))
        error = self.refused(small, workers)
        assert "0002.png is 2x4" in error.message
        assert "is 1x4" in error.message

    def test_a_damaged_prediction_is_named(self, small: tuple[list[FolderVideo], Path], workers: int) -> None:
        (small[1] / "street" / "0002.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
        assert "0002.png" in self.refused(small, workers).message

    def test_a_coloured_prediction_is_named(self, small: tuple[list[FolderVideo], Path], workers: int) -> None:
        Image.new("RGB", (4, 1)).save(small[1] / "street" / "0000.png")
        assert "0000.png" in self.refused(small, workers).message

    def test_a_split_without_a_mask_is_refused(self, small: tuple[list[FolderVideo], Path], workers: int) -> None:
        frames = small[0][0].frames
        bare = FolderVideo("street", tuple(Frame("street", frame.stem, frame.image, None) for frame in frames))
        assert f"none of the {len(frames)} frames has a mask" in self.refused(([bare], small[1]), workers).message
        assert "street/0000" in self.refused(([bare], small[1]), workers).message

    def test_a_video_of_changing_size_is_named(
        self, small: tuple[list[FolderVideo], Path], workers: int, tmp_path: Path
    ) -> None:
        write_mask(small[0][0].frames[1].mask or Path(), np.ones((2, 4), np.uint8))
        write_mask(small[1] / "street" / "0001.png", np.ones((2, 4), np.uint8))
        error = self.refused(small, workers)
        assert "0001.png is 2x4" in error.message
        assert "1x4" in error.message


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(lambda: FolderLabels(tmp_path / "nowhere")).message


def test_a_set_of_which_nothing_counts_is_refused(small: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), protocol="cffm"))
    assert "none of the 1 videos" in error.message
    assert "cffm" in error.message


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


def test_frames_are_decoded_once_and_only_so_far_ahead(small: tuple[list[FolderVideo], Path]) -> None:
    videos, _ = small
    source = CountedLabels()
    many = [FolderVideo(f"street{number}", videos[0].frames) for number in range(60)]
    score(many, source, table_of(2), MaskIds(), metrics=["miou", "wiou", "vc2", "vc3"], workers=2, talk=source)
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


def test_a_store_is_asked_for_frames_by_name(small: tuple[list[FolderVideo], Path]) -> None:
    labels = StoreLabels(TwoVideos())  # type: ignore[arg-type]
    assert score(small[0], labels, table_of(2), MaskIds(), workers=2).values["miou"] == 1.0
    assert labels.place("street", "0001") == "a.zarr: street/0001"


def test_a_video_or_frame_that_a_store_lacks_is_named() -> None:
    labels = StoreLabels(TwoVideos())  # type: ignore[arg-type]
    assert "a.zarr has no finished prediction of video lane" in refusal(lambda: labels.label("lane", 0, "0000")).message
    assert "other/0001" in refusal(lambda: labels.label("other", 1, "0001")).message


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
        score(videos, source, table_of(CLASSES), MaskIds(), metrics=["miou", "wiou", "acc", "vc2", "vc16"], workers=2)
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
    figures = score([video], StoreLabels(store), table_of(CLASSES), MaskIds(), metrics=["all"], workers=2)
    assert figures.values == {"all": 3.0}
    for t, seen in enumerate(recorder.seen):
        assert (seen["truth"] == (255 if t == 0 else 2 * t - 1)).all(), "classes, all void 255"
        np.testing.assert_array_equal(seen["label"], means[t].argmax(axis=0))
        np.testing.assert_allclose(seen["confidence"], means[t].max(axis=0), atol=0.003)
        np.testing.assert_array_equal(seen["entropy"], store.entropy("street", t))
        assert (seen["image"] == t).all()


def test_probabilities_are_asked_of_stores_on_the_finest_grid_alone(
    small: tuple[list[FolderVideo], Path], tmp_path: Path
) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["miou", "ece"]))
    assert "ece needs probabilities" in error.message
    assert "prediction store" in error.hint
    header = prediction_header(encoding=Encoding(kept=3, grid=2))
    store = write_predictions(tmp_path / "c.zarr", header, {"street": distributions(0, 3, size=(4, 6))})
    coarse = StoreLabels(store)
    assert "coarser grid" in refusal(lambda: coarse.confidence("street", store.stems("street")[0])).message


def test_a_metric_of_frames_names_the_frame_that_has_none(small: tuple[list[FolderVideo], Path]) -> None:
    videos, labels = small
    error = refusal(lambda: score(videos, FolderLabels(labels), table_of(2), MaskIds(), metrics=["tc"]))
    assert "street/0000 has a mask but no image" in error.message
