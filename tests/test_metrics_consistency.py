"""VC_n by run lengths: against the definition, and against the official code's numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsscli.errors import VssError
from vsscli.metrics.consistency import VideoConsistency
from vsscli.metrics.protocols import PROTOCOLS

# A busy machine is no failure.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

FIXTURES = Path(__file__).parent / "fixtures"
OFFICIAL = json.loads((FIXTURES / "vspw_metrics.json").read_text())
EXACT = OFFICIAL["exact_from_official_functions"]
SCRIPTS = OFFICIAL["official_script_outputs"]["raw"]
VIDEOS = OFFICIAL["video_order"]

VSPW_LOOKUP = np.array([255, *range(124), *[255] * 131], np.uint8)

Video = tuple[np.ndarray, np.ndarray]  # truth as on disk and prediction, each (T, H, W) uint8


def accuracies_by_definition(truths: np.ndarray, predictions: np.ndarray, window: int) -> list[float]:
    """Each window's share, as the definition says it: every frame of the window compared with its first."""
    accuracies = []
    for start in range(len(truths) - window):
        truth_constant = np.ones(truths.shape[1:], bool)
        both_constant = np.ones(truths.shape[1:], bool)
        for later in range(start + 1, start + window):
            truth_constant &= truths[later] == truths[start]
            both_constant &= (truths[later] == truths[start]) & (predictions[later] == predictions[start])
        constant = truth_constant.sum()
        accuracies.append(both_constant.sum() / constant if constant else np.nan)
    return accuracies


def scores_by_definition(videos: Sequence[Video], windows: Sequence[int], protocol: str) -> dict[int, float]:
    """VC_n of a set, each protocol's peculiarity written out."""
    scores = {}
    never_emptied: list[float] = []
    for window in sorted(windows):
        accuracies: list[float] = []
        for truths, predictions in videos:
            if protocol == "cffm" and len(truths) <= max(16, *windows):
                continue
            if protocol in ("mapped", "cffm"):
                truths = VSPW_LOOKUP[truths]
            accuracies += accuracies_by_definition(truths, predictions, window)
        never_emptied += accuracies
        counted = np.array(never_emptied if protocol == "pooled" else accuracies)
        counted = counted[~np.isnan(counted)]
        scores[window] = counted.mean() if counted.size else np.nan
    return scores


def stream(videos: Sequence[Video], windows: Sequence[int], protocol: str) -> VideoConsistency:
    """Feed videos frame by frame, in buffers that are used again, as a caller may."""
    consistency = VideoConsistency(windows, protocol)
    for number, (truths, predictions) in enumerate(videos):
        if not consistency.raw:
            truths = VSPW_LOOKUP[truths]
        truth, prediction = truths[0].copy(), predictions[0].copy()
        consistency.start_video(len(truths))
        for index in range(len(truths)):
            truth[:], prediction[:] = truths[index], predictions[index]
            consistency.update(truth, prediction)
        consistency.end_video(str(number))
    return consistency


@st.composite
def random_videos(draw: st.DrawFn) -> list[Video]:
    videos = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 24), st.integers(1, 3), st.integers(1, 3)))
        values = st.sampled_from([0, 1, 2, 255])
        truths = draw(hnp.arrays(np.uint8, shape, elements=values, fill=values))
        predictions = draw(hnp.arrays(np.uint8, shape, elements=values, fill=values))
        videos.append((truths, predictions))
    return videos


@pytest.mark.parametrize("protocol", PROTOCOLS)
@UNHURRIED
@given(videos=random_videos(), windows=st.lists(st.integers(2, 18), min_size=1, max_size=3))
def test_run_lengths_equal_the_definition_on_random_videos(
    protocol: str, videos: list[Video], windows: list[int]
) -> None:
    scores = stream(videos, windows, protocol).figures()
    expected = scores_by_definition(videos, sorted(set(windows)), protocol)
    assert list(scores) == [f"vc{window}" for window in sorted(set(windows))]
    for window, value in expected.items():
        assert scores[f"vc{window}"] == pytest.approx(value, abs=1e-12, nan_ok=True)


@UNHURRIED
@given(videos=random_videos(), window=st.integers(2, 18))
def test_each_window_equals_the_definition_to_the_last_bit(videos: list[Video], window: int) -> None:
    for own, (truths, predictions) in zip(stream(videos, [window], "vspw").videos, videos, strict=True):
        expected = np.array(accuracies_by_definition(truths, predictions, window))
        np.testing.assert_array_equal(own.accuracies[window], expected)


@pytest.mark.parametrize("windows", [(2, 126), (127,), (128,), (2, 254, 255, 300), (256,)])
def test_long_runs_do_not_overflow(windows: tuple[int, ...]) -> None:
    generator = np.random.default_rng(5)
    changes = generator.random((700, 1, 12)) < np.geomspace(1e-3, 0.3, 12)
    truths = np.cumsum(changes, axis=0, dtype=np.uint8)
    predictions = np.cumsum(generator.random(changes.shape) < 2e-3, axis=0, dtype=np.uint8)
    own = stream([(truths, predictions)], windows, "vspw").videos[0]
    for window in windows:
        expected = np.array(accuracies_by_definition(truths, predictions, window))
        np.testing.assert_array_equal(own.accuracies[window], expected)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(FIXTURES / "vspw_metrics.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def videos(arrays: dict[str, np.ndarray]) -> list[Video]:
    return [(arrays[f"gtraw_{name}"], arrays[f"pred_{name}"]) for name in VIDEOS]


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("share", [0.05, 0.3, 0.9])
def test_windows_that_hold_a_frame_without_ground_truth_do_not_count(protocol: str, share: float) -> None:
    rng = np.random.default_rng(int(share * 100))
    windows, consistency = (2, 3, 8), VideoConsistency((2, 3, 8), protocol)
    expected: dict[int, list[float]] = {window: [] for window in windows}
    bare = dict.fromkeys(windows, 0)
    for length in (30, 20, 9):
        truths, predictions = rng.integers(1, 3, (2, length, 3, 4)).astype(np.uint8)
        truths[1:] = np.where(rng.random(truths[1:].shape) < 0.8, truths[:-1], truths[1:])
        lacking = rng.random(length) < share
        consistency.start_video(length)
        for t in range(length):
            if lacking[t]:
                consistency.skip()
            else:
                consistency.update(truths[t], predictions[t])
        consistency.end_video(str(length))
        if not consistency.protocol.counts_video(length, windows):
            continue
        for window in windows:
            for start, value in enumerate(accuracies_by_definition(truths, predictions, window)):
                hold = lacking[start : start + window].any()
                bare[window] += hold
                expected[window] += [] if hold else [value]
    if PROTOCOLS[protocol].pooled:
        expected = {window: [v for n in windows if n <= window for v in expected[n]] for window in windows}
        bare = {window: sum(bare[n] for n in windows if n <= window) for window in windows}
    for window, values in expected.items():
        kept = np.array(values)[~np.isnan(values)] if values else np.empty(0)
        np.testing.assert_equal(consistency.figures()[f"vc{window}"], kept.mean() if len(kept) else np.nan)
        assert consistency.counts(window) == (len(values), int(np.isnan(values).sum()), bare[window])


@pytest.mark.parametrize(("kind", "protocol"), [("raw", "vspw"), ("mapped", "mapped")])
@pytest.mark.parametrize("window", [8, 16])
class TestOfficialFunctions:
    def test_every_window_is_reproduced(
        self, arrays: dict[str, np.ndarray], videos: list[Video], kind: str, protocol: str, window: int
    ) -> None:
        seen = 0
        for name, own in zip(VIDEOS, stream(videos, [8, 16], protocol).videos, strict=True):
            stored = arrays.get(f"accs_{kind}_vc{window}_{name}", np.empty(0))
            np.testing.assert_allclose(own.accuracies[window], stored, rtol=0, atol=1e-12, equal_nan=True)
            seen += stored.size
        assert seen == EXACT[f"VC{window}_{kind}_n_windows"]

    def test_the_score_and_the_counts_are_reproduced(
        self, videos: list[Video], kind: str, protocol: str, window: int
    ) -> None:
        consistency = stream(videos, [8, 16], protocol)
        assert consistency.figures()[f"vc{window}"] == pytest.approx(EXACT[f"VC{window}_{kind}"], abs=1e-12)
        windows, empty, bare = consistency.counts(window)
        assert bare == 0
        assert windows == EXACT[f"VC{window}_{kind}_n_windows"]
        assert empty == EXACT[f"VC{window}_{kind}_n_nan"]

    def test_the_videos_own_scores_average_to_what_the_fixture_calls_wrong(
        self, videos: list[Video], kind: str, protocol: str, window: int
    ) -> None:
        own = [video.values[f"vc{window}"] for video in stream(videos, [8, 16], protocol).per_video()]
        assert np.nanmean(own) == pytest.approx(EXACT[f"VC{window}_{kind}_WRONG_mean_of_video_means"], abs=1e-12)


def cffm_printed(window: int) -> float:
    lines = SCRIPTS["VSS-CFFM.VC_perclip(VC16,VC8; +mIoU on videos>16 only)"]
    return next(float(match[1]) for line in lines if (match := re.match(rf"VC{window} score: (\S+)", line)))


@pytest.mark.parametrize(
    ("protocol", "window", "printed"),
    [
        ("vspw", 8, SCRIPTS["VSPW_code.VC_perclip.VC8"][0]),
        ("vspw", 16, SCRIPTS["VSPW_code.VC_perclip.VC16"][0]),
        ("vspw", 8, SCRIPTS["VSPW_baseline.VC_perclip.VC8"][0]),
        ("vspw", 16, SCRIPTS["VSPW_baseline.VC_perclip.VC16"][0]),
        ("mapped", 8, SCRIPTS["UniVS.eval_vc_perclip_vss(VC8,VC16)"][0]),
        ("mapped", 16, SCRIPTS["UniVS.eval_vc_perclip_vss(VC8,VC16)"][1]),
        ("pooled", 8, SCRIPTS["DVIS_Plus.eval_vc_vspw(VC8,VC16 with the reset bug)"][0]),
        ("pooled", 16, SCRIPTS["DVIS_Plus.eval_vc_vspw(VC8,VC16 with the reset bug)"][1]),
        ("cffm", 8, cffm_printed(8)),
        ("cffm", 16, cffm_printed(16)),
    ],
)
def test_what_each_published_script_prints_is_reproduced(
    videos: list[Video], protocol: str, window: int, printed: float
) -> None:
    assert stream(videos, [8, 16], protocol).figures()[f"vc{window}"] == pytest.approx(printed, abs=1e-12)


@pytest.mark.parametrize("window", [8, 16])
def test_the_official_script_on_mapped_masks_is_protocol_mapped(videos: list[Video], window: int) -> None:
    printed = OFFICIAL["official_script_outputs"]["mapped"][f"VSPW_code.VC_perclip.VC{window}"][0]
    assert stream(videos, [8, 16], "mapped").figures()[f"vc{window}"] == pytest.approx(printed, abs=1e-12)


def test_cffm_counts_vc8_alone_as_it_does_beside_vc16(videos: list[Video]) -> None:
    assert stream(videos, [8], "cffm").figures()["vc8"] == stream(videos, [8, 16], "cffm").figures()["vc8"]


def test_a_wrong_but_stable_prediction_is_consistent() -> None:
    truths = np.full((5, 2, 2), 3, np.uint8)
    assert stream([(truths, np.full_like(truths, 9))], [2], "vspw").figures() == {"vc2": 1.0}


def test_constant_void_counts_like_any_other_pixel() -> None:
    truths = np.full((5, 1, 2), 255, np.uint8)
    predictions = np.zeros_like(truths)
    predictions[:, 0, 1] = np.arange(5)
    assert stream([(truths, predictions)], [2], "vspw").figures() == {"vc2": 0.5}


def test_long_videos_weigh_more() -> None:
    stable = np.zeros((12, 1, 1), np.uint8)
    flickering = np.arange(4, dtype=np.uint8).reshape(4, 1, 1)
    consistency = stream([(stable, stable), (np.zeros_like(flickering), flickering)], [2], "vspw")
    assert consistency.figures()["vc2"] == 10 / 12
    assert [video.values["vc2"] for video in consistency.per_video()] == [1.0, 0.0]


def test_a_video_tells_where_it_flickers_most() -> None:
    truths = np.zeros((8, 1, 4), np.uint8)
    predictions = np.zeros_like(truths)
    predictions[5:, 0, :3] = 1
    worst = stream([(truths, predictions)], [2, 3], "vspw").per_video()[0].worst
    assert worst["vc2"] == (4, 0.25)
    assert worst["vc3"] == (3, 0.25)


def test_a_video_without_windows_has_no_score_and_no_worst_place() -> None:
    frame = np.zeros((3, 1, 1), np.uint8)
    consistency = stream([(frame, frame)], [3, 8], "vspw")
    (own,) = consistency.per_video()
    assert np.isnan(own.values["vc3"])
    assert own.worst == {}
    assert np.isnan(consistency.figures()["vc8"])
    assert consistency.counts(3) == consistency.counts(8) == (0, 0, 0)


@pytest.mark.parametrize("window", [-1, 0, 1, 30_001])
def test_a_window_of_one_frame_or_of_too_many_is_refused(window: int) -> None:
    with pytest.raises(VssError, match=f"VC{window}"):
        VideoConsistency([window])


def test_frames_beyond_the_announced_length_or_of_other_size_are_refused() -> None:
    consistency = VideoConsistency([2])
    frame = np.zeros((2, 2), np.uint8)
    with pytest.raises(ValueError, match="frame 0 of a video of 0 frames"):
        consistency.update(frame, frame)
    consistency.start_video(3)
    consistency.update(frame, frame)
    with pytest.raises(ValueError, match="was not ended"):
        consistency.start_video(2)
    with pytest.raises(ValueError, match="frame 1 has shape"):
        consistency.update(frame[:1], frame[:1])
    with pytest.raises(ValueError, match="prediction"):
        consistency.update(frame, frame[:1])
    with pytest.raises(ValueError, match=r"3 frames.* 1 "):
        consistency.end_video("short")


def test_why_images_have_no_consistency_is_said() -> None:
    consistency = VideoConsistency([8])
    consistency.start_video(1)
    consistency.update(np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8))
    consistency.end_video("image")
    why = "nothing to average for VC8: the longest video that counts has 1 frame, and VC8 needs more than 8"
    assert consistency.reasons() == [why]
