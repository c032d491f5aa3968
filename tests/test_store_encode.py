"""From a distribution to bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import distributions

from vsscli.errors import VssError
from vsscli.store.encode import (
    IGNORE,
    arrays_for,
    decode_lists,
    decode_logits,
    dequantise,
    encode,
    normalised_entropy,
    quantise,
    segment_frames,
)
from vsscli.store.header import COMPACT, Encoding

sizes = st.tuples(st.integers(1, 4), st.integers(1, 4))


def test_a_distribution_worked_out_by_hand() -> None:
    mean = np.array([0.25, 0.5, 0.25], np.float32).reshape(3, 1, 1)
    frame = encode(mean, mean, Encoding(kept=8, step=2))
    assert frame["label"].item() == 1
    # 1.5 ln 2 / ln 3 = 0.9464, times 255 = 241.3
    assert frame["entropy"].item() == 241
    assert frame["top_class"].reshape(-1).tolist() == [1, 0, 2]
    # 255 / 2 = 127.5 and 255 / 4 = 63.75, in steps of two
    assert frame["top_probability"].reshape(-1).tolist() == [128, 64, 64]


@pytest.mark.parametrize("rest", [0.0, 0.004])
def test_a_sure_pixel_keeps_one_class(rest: float) -> None:
    mean = np.array([rest, 1 - 3 * rest, rest, rest], np.float32).reshape(4, 1, 1)
    frame = encode(mean, mean, Encoding(kept=3))
    assert frame["entropy"].item() == round(255 * float(normalised_entropy(mean).item()))
    assert frame["top_class"].reshape(-1).tolist() == [1, IGNORE, IGNORE]
    assert frame["top_probability"].reshape(-1).tolist() == [255 if rest == 0 else 252, 0, 0]


def test_an_undecided_pixel_lists_at_least_one_class() -> None:
    frame = encode(mean := np.full((200, 1, 1), 1 / 200, np.float32), mean, COMPACT)
    assert frame["top_class"].reshape(-1).tolist() == [0, IGNORE, IGNORE]
    assert frame["top_probability"].reshape(-1).tolist() == [8, 0, 0]


def test_what_is_stored_are_multiples_of_the_steps() -> None:
    mean = distributions(3, 1, 7, (20, 20))[0]
    frame = encode(mean, mean, Encoding(step=8, entropy_step=4))
    assert ((frame["top_probability"] % 8 == 0) | (frame["top_probability"] == 255)).all()
    assert ((frame["entropy"] % 4 == 0) | (frame["entropy"] == 255)).all()


def test_an_undecided_pixel_has_entropy_one() -> None:
    assert normalised_entropy(np.full((7, 2, 2), 1 / 7, np.float32)) == pytest.approx(np.ones((2, 2)))


def test_a_single_class_is_never_in_doubt() -> None:
    mean = np.ones((1, 2, 2), np.float32)
    frame = encode(mean, mean, Encoding())
    assert not frame["entropy"].any()
    assert frame["top_class"].shape == (1, 2, 2)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 12), sizes, st.integers(1, 12), st.floats(0, 8))
def test_lists_rebuild_a_distribution(seed: int, classes: int, size: tuple[int, int], kept: int, sharp: float) -> None:
    mean = distributions(seed, 1, classes, size, sharp)[0]
    frame = encode(mean, mean, Encoding(kept=kept))
    rebuilt = decode_lists(frame["top_class"], frame["top_probability"], classes)
    assert rebuilt.sum(axis=0) == pytest.approx(np.ones(size), abs=1e-5)
    assert (rebuilt >= 0).all()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32),
    st.integers(2, 12),
    st.integers(1, 12),
    st.floats(0, 8),
    st.sampled_from([0.0, 0.01, 0.1]),
    st.sampled_from([1, 2, 5]),
)
def test_lists_hold_the_likeliest_in_order_within_half_a_step(
    seed: int, classes: int, kept: int, sharp: float, drop: float, step: int
) -> None:
    mean = distributions(seed, 1, classes, (3, 4), sharp)[0]
    frame = encode(mean, mean, Encoding(kept=kept, drop=drop, step=step))
    right = np.sort(mean, axis=0)[::-1][: len(frame["top_class"])]
    there = frame["top_class"] != IGNORE
    assert ((frame["top_probability"] > 0) == there).all()
    listed = np.take_along_axis(mean, np.where(there, frame["top_class"], 0).astype(int), axis=0)
    assert listed[there] == pytest.approx(right[there])
    assert (np.diff(frame["top_probability"].astype(int), axis=0) <= 0).all()
    error = dequantise(frame["top_probability"]) - right
    half = step / 2 / 255 + 1e-6
    assert (np.abs(error[1:][there[1:]]) <= half).all()
    assert (right[~there] <= max(drop, half)).all()
    assert (right[1:][there[1:]] >= np.float32(drop)).all()
    assert (frame["top_class"][0] == frame["label"]).all()


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32), st.integers(2, 12), st.floats(0, 8))
def test_entropy_is_kept_within_half_a_level(seed: int, classes: int, sharp: float) -> None:
    entropy = normalised_entropy(distributions(seed, 1, classes, (3, 4), sharp)[0])
    assert np.abs(dequantise(quantise(entropy, 1)) - entropy).max() <= 0.5 / 255 + 1e-6


def test_of_classes_equally_likely_the_lower_comes_first() -> None:
    mean = np.full((4, 2, 2), 0.25, np.float32)
    frame = encode(mean, mean, Encoding(kept=4))
    assert frame["top_class"][:, 0, 0].tolist() == [0, 1, 2, 3]
    assert not frame["label"].any()


def test_everything_kept_comes_back_as_float16_allows() -> None:
    mean = distributions(3, 1, 9, (4, 4))[0]
    frame = encode(mean, mean, Encoding(keep="all"))
    assert frame["logits"].dtype == np.float16
    assert decode_logits(frame["logits"]) == pytest.approx(mean, rel=0.02, abs=1e-5)


def test_arrays_follow_the_encoding() -> None:
    specs = arrays_for(Encoding(grid=4, kept=8), 124, (481, 853))
    assert {name: spec.tail for name, spec in specs.items()} == {
        "label": (481, 853),
        "entropy": (481, 853),
        "top_class": (8, 121, 214),
        "top_probability": (8, 121, 214),
    }
    assert arrays_for(Encoding(kept=8), 5, (4, 4))["top_class"].tail == (5, 4, 4)
    assert arrays_for(Encoding(keep="all"), 5, (4, 4))["logits"].tail == (5, 4, 4)


def test_large_frames_make_shorter_segments() -> None:
    assert segment_frames(arrays_for(Encoding(), 11, (90, 120))) == 64
    # 18 bytes a pixel: 7.4 MB a frame, so 16 of them stay under 128 MiB
    assert segment_frames(arrays_for(Encoding(), 124, (480, 853))) == 16
    assert segment_frames(arrays_for(Encoding(keep="all"), 124, (2160, 3840))) == 1


@pytest.mark.parametrize(
    "values",
    [{"grid": 3}, {"kept": 0}, {"kept": 255}, {"keep": "some"}, {"drop": 1}, {"step": 0}, {"entropy_step": 2.5}],
)
def test_an_encoding_that_is_none_is_refused(values: dict) -> None:
    with pytest.raises(VssError):
        Encoding(**values)
