"""The confusion matrix and its figures: against a plain count, and against the official code's numbers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsscli.metrics.confusion import ConfusionMatrix

# A busy machine is no failure.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = json.loads((FIXTURES / "vspw_metrics.json").read_text())
EXACT = OFFICIAL["exact_from_official_functions"]

# VSPW's ids on disk: 0 and 255 are void, k is class k - 1.
VSPW_LOOKUP = np.array([255, *range(124), *[255] * 131], np.uint8)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "vspw_metrics.npz") as stored:
        return dict(stored)


def count_plainly(truth: np.ndarray, prediction: np.ndarray, num_classes: int) -> np.ndarray:
    """(C, C + 1), the last column for predictions that are no class; one pixel after the other."""
    counts = np.zeros((num_classes, num_classes + 1), np.int64)
    for true, predicted in zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        if true < num_classes:
            counts[true, min(predicted, num_classes)] += 1
    return counts


def fill_from_fixture(arrays: dict[str, np.ndarray], lookup: np.ndarray | None) -> ConfusionMatrix:
    confusion = ConfusionMatrix(124, lookup)
    for video in OFFICIAL["video_order"]:
        for truth, label in zip(arrays[f"gtraw_{video}"], arrays[f"pred_{video}"], strict=True):
            confusion.update(truth, label)
    return confusion


def test_official_matrix_is_reproduced_exactly(arrays: dict[str, np.ndarray]) -> None:
    confusion = fill_from_fixture(arrays, VSPW_LOOKUP)
    np.testing.assert_array_equal(confusion.matrix, arrays["confusion_mapped"])
    assert confusion.matrix.dtype == np.int64


def test_official_figures_are_reproduced(arrays: dict[str, np.ndarray]) -> None:
    confusion = fill_from_fixture(arrays, VSPW_LOOKUP)
    assert confusion.miou == pytest.approx(EXACT["mIoU"], abs=1e-12)
    assert confusion.wiou == pytest.approx(EXACT["weighted_IoU"], abs=1e-12)
    assert confusion.accuracy == pytest.approx(EXACT["Acc"], abs=1e-12)
    assert confusion.class_accuracy == pytest.approx(EXACT["Acc_class"], abs=1e-12)
    assert np.count_nonzero(~np.isnan(confusion.iou())) == EXACT["n_valid_classes"]


def test_truth_mapped_beforehand_gives_the_same_as_a_lookup(arrays: dict[str, np.ndarray]) -> None:
    by_lookup = fill_from_fixture(arrays, VSPW_LOOKUP)
    mapped = {name: VSPW_LOOKUP[values] if name.startswith("gtraw") else values for name, values in arrays.items()}
    beforehand = fill_from_fixture(mapped, None)
    np.testing.assert_array_equal(by_lookup.counts, beforehand.counts)


@pytest.mark.parametrize(
    ("lookup", "script"),
    [
        (None, OFFICIAL["official_script_outputs"]["raw"]["VSPW_code.evaluator_test"]),
        (VSPW_LOOKUP, OFFICIAL["official_script_outputs"]["raw"]["DVIS_Plus.eval_miou_vspw"]),
        (VSPW_LOOKUP, OFFICIAL["official_script_outputs"]["mapped"]["VSPW_code.evaluator_test"]),
    ],
)
def test_what_the_published_scripts_print_is_reproduced(
    arrays: dict[str, np.ndarray], lookup: np.ndarray | None, script: str
) -> None:
    confusion = fill_from_fixture(arrays, lookup)
    printed = dict(part.split(":") for part in script.split(", "))
    ours = {
        "Acc": confusion.accuracy,
        "Acc_class": confusion.class_accuracy,
        "mIoU": confusion.miou,
        "fwIoU": confusion.wiou,
    }
    for name, value in printed.items():
        assert ours[name] == pytest.approx(float(value), abs=1e-12), name


def areas(draw: st.DrawFn) -> np.ndarray:
    """A label made of rectangles, as labels are, on a noisy or an even ground."""
    values = st.sampled_from([0, 1, 2, 3, 4, 200, 255])
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 40)))
    if draw(st.booleans()):
        return draw(hnp.arrays(np.uint8, shape, elements=values))
    label = np.full(shape, draw(values), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        top, left = draw(st.integers(0, shape[0] - 1)), draw(st.integers(0, shape[1] - 1))
        label[top : top + draw(st.integers(1, 6)), left : left + draw(st.integers(1, 20))] = draw(values)
    return label


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    truth, other = areas(draw), areas(draw)
    return truth, np.resize(other, truth.shape)


@UNHURRIED
@given(st.lists(pairs(), min_size=1, max_size=4), st.integers(1, 5))
def test_counts_equal_a_plain_count_on_random_labels(
    frames: list[tuple[np.ndarray, np.ndarray]], num_classes: int
) -> None:
    confusion = ConfusionMatrix(num_classes)
    expected = np.zeros((num_classes, num_classes + 1), np.int64)
    for truth, prediction in frames:
        confusion.update(truth, prediction)
        expected += count_plainly(truth, prediction, num_classes)
    np.testing.assert_array_equal(confusion.counts, expected)
    np.testing.assert_array_equal(confusion.matrix, expected[:, :-1])
    np.testing.assert_array_equal(confusion.pixels, expected.sum(axis=1))


@pytest.mark.parametrize("kind", ["noise", "areas"])
def test_noise_and_areas_are_counted_alike_at_frame_size(kind: str) -> None:
    generator = np.random.default_rng(3)
    if kind == "noise":
        truth, prediction = generator.integers(0, 256, (2, 121, 213)).astype(np.uint8)
    else:
        truth, prediction = generator.integers(0, 256, (2, 11, 3)).astype(np.uint8).repeat(11, 1).repeat(71, 2)
    confusion = ConfusionMatrix(124)
    confusion.update(truth, prediction)
    np.testing.assert_array_equal(confusion.counts, count_plainly(truth, prediction, 124))


def test_a_predicted_255_on_a_labelled_pixel_is_wrong_and_on_void_costs_nothing() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 255, 1, 255]], np.uint8))
    assert confusion.counts.tolist() == [[1, 0, 1], [0, 1, 0]]
    assert confusion.iou().tolist() == [0.5, 1.0]
    assert confusion.miou == 0.75
    assert confusion.accuracy == pytest.approx(2 / 3)
    assert confusion.class_accuracy == 0.75
    assert confusion.wiou == pytest.approx(2 / 3 * 0.5 + 1 / 3)


def test_a_prediction_beyond_the_classes_never_spills_into_another_row() -> None:
    # The published code counts 124 * truth + prediction, so 130 on class 1 lands in row 2; and 255 on 123 raises.
    confusion = ConfusionMatrix(124)
    confusion.update(np.array([[1, 123]], np.uint8), np.array([[130, 255]], np.uint8))
    assert confusion.matrix.sum() == 0
    assert np.flatnonzero(confusion.pixels).tolist() == [1, 123]
    assert confusion.miou == 0.0


def test_a_class_predicted_but_absent_from_the_truth_is_not_in_the_mean() -> None:
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([[0, 0]], np.uint8), np.array([[0, 2]], np.uint8))
    assert confusion.miou == 0.5
    assert np.isnan(confusion.iou()[1:]).all()


def test_nothing_labelled_gives_nan() -> None:
    confusion = ConfusionMatrix(2)
    confusion.update(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    figures = (confusion.miou, confusion.wiou, confusion.accuracy, confusion.class_accuracy)
    assert np.isnan(figures).all()


def test_matrices_of_two_processes_add_up() -> None:
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 4, (4, 2, 8, 8)).astype(np.uint8)
    whole, first, second = ConfusionMatrix(4), ConfusionMatrix(4), ConfusionMatrix(4)
    for index, (truth, prediction) in enumerate(frames):
        whole.update(truth, prediction)
        (first if index % 2 else second).update(truth, prediction)
    first.merge(pickle.loads(pickle.dumps(second)))
    np.testing.assert_array_equal(first.matrix, whole.matrix)
    with pytest.raises(ValueError, match="different classes"):
        first.merge(ConfusionMatrix(5))


def test_arrays_that_are_not_contiguous_are_counted_as_they_read() -> None:
    generator = np.random.default_rng(1)
    truth, prediction = generator.integers(0, 3, (2, 10, 24)).astype(np.uint8)
    confusion = ConfusionMatrix(3)
    confusion.update(truth[:, ::2], prediction[:, ::2])
    np.testing.assert_array_equal(confusion.counts, count_plainly(truth[:, ::2], prediction[:, ::2], 3))


def test_frames_of_changing_size_are_counted_in_one_matrix() -> None:
    confusion = ConfusionMatrix(2)
    for height, width in ((1, 1), (3, 17), (1, 1), (2, 8), (0, 4)):
        confusion.update(np.ones((height, width), np.uint8), np.ones((height, width), np.uint8))
    assert confusion.matrix.tolist() == [[0, 0], [0, 1 + 51 + 1 + 16]]


def test_labels_of_other_shape_or_type_are_refused() -> None:
    confusion = ConfusionMatrix(2)
    with pytest.raises(ValueError, match="shape"):
        confusion.update(np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8))
    with pytest.raises(ValueError, match="uint8"):
        confusion.update(np.zeros((2, 2), np.int64), np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="from 1 to 255"):
        ConfusionMatrix(256)
