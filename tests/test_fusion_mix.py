"""The fast mean of lists against the plain one over all classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import distributions

from vsscli.fusion import mix as module
from vsscli.fusion.mix import Dense, Lists, mean_of, mix
from vsscli.store.encode import decode_lists, decode_logits, dequantise_log_probability, encode
from vsscli.store.header import LOG_STEP, Encoding

PIXELS = (6, 7)


def sources_of(
    seed: int, count: int, classes: int, kept: Sequence[int], sharp: float, dense: Sequence[bool]
) -> tuple[list[Lists | Dense], list[np.ndarray]]:
    """Some sources, and the dense distribution (C, P) that each stands for."""
    sources: list[Lists | Dense] = []
    means = []
    for i in range(count):
        mean = distributions(seed + i, 1, classes, PIXELS, sharp)[0].reshape(classes, -1)
        if dense[i]:
            logits = encode(mean, mean, Encoding(keep="all"))["logits"]
            sources.append(Dense(logits))
            means.append(decode_logits(logits))
        else:
            frame = encode(mean, mean, Encoding(kept=kept[i]))
            sources.append(Lists(frame["top_class"], frame["top_logit"]))
            means.append(decode_lists(frame["top_class"], frame["top_logit"], classes))
    return sources, means


def entropy(mean: np.ndarray) -> np.ndarray:
    mean = mean.astype(np.float64)
    return -(mean * np.log(np.maximum(mean, 1e-30))).sum(axis=0)


@settings(deadline=None, max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 4),
    classes=st.integers(1, 30),
    kept=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    sharp=st.floats(0.5, 6),
    dense=st.lists(st.booleans(), min_size=4, max_size=4),
    raw=st.lists(st.floats(0.05, 1), min_size=4, max_size=4),
)
def test_the_mean_of_lists_equals_the_dense_mean(
    seed: int, count: int, classes: int, kept: list[int], sharp: float, dense: list[bool], raw: list[float]
) -> None:
    sources, means = sources_of(seed, count, classes, kept, sharp, dense)
    weights = [weight / sum(raw[:count]) for weight in raw[:count]]
    reference = sum(weight * mean for weight, mean in zip(weights, means, strict=True))
    divergence = entropy(reference) - sum(w * entropy(mean) for w, mean in zip(weights, means, strict=True))
    assert mean_of(sources, weights, classes) == pytest.approx(reference, abs=1e-6)

    listed = [min(k, classes) for k, all_ in zip(kept[:count], dense, strict=False) if not all_]
    wanted = max(listed, default=min(8, classes))
    mixed = mix(sources, weights, classes, wanted)
    assert mixed.divergence == pytest.approx(divergence, abs=2e-4)
    # The lists name different classes, and the tail of a poor list may outdo what another one names last: what is
    # listed is compared with the classes that any source lists.
    candidates = np.zeros_like(reference, bool)
    for source in sources:
        if isinstance(source, Dense):
            candidates[:] = True
        else:
            np.put_along_axis(candidates, source.top_class.astype(int), True, axis=0)
    best = np.sort(np.where(candidates, reference, 0), axis=0)[::-1][:wanted]
    found = np.take_along_axis(reference, mixed.top_class.astype(int), axis=0)
    assert found == pytest.approx(best, rel=1e-4, abs=1e-7)
    assert (np.sort(mixed.top_class, axis=0)[1:] != np.sort(mixed.top_class, axis=0)[:-1]).all()
    error = dequantise_log_probability(mixed.top_logit) - np.log(np.maximum(found, 1e-12))
    assert (np.abs(error[mixed.top_logit < 255]) <= LOG_STEP / 2 + 1e-3).all()
    assert (np.diff(mixed.top_logit.astype(int), axis=0) >= 0).all()


def test_a_mean_worked_out_by_hand() -> None:
    # A: class 2 at 1/2, class 0 at 1/4, the other three classes share 1/4. B: class 4 at 1/2, class 2 at 1/4.
    steps = [round(32 * np.log(2)), round(32 * np.log(4))]
    a = Lists(np.array([[2], [0]], np.uint8), np.array(steps, np.uint8)[:, None])
    b = Lists(np.array([[4], [2]], np.uint8), np.array(steps, np.uint8)[:, None])
    mixed = mix([a, b], [0.5, 0.5], 5, 2)
    # class 2: (1/2 + 1/4) / 2 = 0.375; class 4: (1/12 + 1/2) / 2 = 0.29; -32 ln of them: 31.4 and 39.5
    assert mixed.top_class[:, 0].tolist() == [2, 4]
    assert mixed.top_logit[:, 0] == pytest.approx([31.4, 39.5], abs=1)


def test_a_source_mixed_with_itself_stays_what_it_is() -> None:
    (source,), _ = sources_of(1, 1, 20, [8], 3.0, [False])
    mixed = mix([source, source], [0.3, 0.7], 20, 8)
    assert (mixed.top_class[0] == source[0][0]).all()
    assert np.abs(mixed.top_logit.astype(int) - source[1]).max() <= 1
    assert mixed.divergence == pytest.approx(np.zeros(mixed.divergence.shape), abs=1e-5)


def test_bands_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, _ = sources_of(7, 3, 12, [3, 5, 4], 3.0, [False] * 3)
    whole = mix(sources, [0.2, 0.3, 0.5], 12, 5)
    monkeypatch.setattr(module, "BAND_PIXELS", 5)
    for one, other in zip(whole, mix(sources, [0.2, 0.3, 0.5], 12, 5), strict=True):
        assert (one == other).all()


def test_the_agreed_class_leads_its_list_once() -> None:
    level = np.full((2, 1), 40, np.uint8)
    a = Lists(np.array([[3], [1]], np.uint8), level)
    # Rounding has put 1 and 3 level, but in both sources 3 leads.
    assert mix([a, a], [0.5, 0.5], 6, 2).top_class[:, 0].tolist() == [1, 3]
    assert mix([a, a], [0.5, 0.5], 6, 2, np.array([3], np.uint8)).top_class[:, 0].tolist() == [3, 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.data())
def test_the_network_sorts_the_first_places(values: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(values)))
    ranked = list(values)
    for upper, lower in module._network(len(values), kept):
        if ranked[upper] < ranked[lower]:
            ranked[upper], ranked[lower] = ranked[lower], ranked[upper]
    assert ranked[:kept] == sorted(values, reverse=True)[:kept]
