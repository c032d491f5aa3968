"""The fast mean of lists against the definition over all classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import distributions

from vsscli.fusion import mix as module
from vsscli.fusion.mix import Dense, Lists, Mean, Method, mean_of, mix, rebuild
from vsscli.store.encode import IGNORE, decode_lists, decode_logits, dequantise, encode
from vsscli.store.header import Encoding

PIXELS = (6, 7)
HALF = Mean(np.array([0.5, 0.5], np.float32))


def sources_of(
    seed: int,
    count: int,
    classes: int,
    kept: Sequence[int],
    sharp: float,
    dense: Sequence[bool],
    drop: float = 0.01,
    step: int = 1,
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
            frame = encode(mean, mean, Encoding(kept=kept[i], drop=drop, step=step))
            sources.append(Lists(frame["top_class"], frame["top_probability"]))
            means.append(decode_lists(frame["top_class"], frame["top_probability"], classes))
    return sources, means


def entropy(mean: np.ndarray) -> np.ndarray:
    mean = mean.astype(np.float64)
    return -(mean * np.log(np.maximum(mean, 1e-30))).sum(axis=0)


def assert_mixed(sources: Sequence[Lists | Dense], means: Sequence[np.ndarray], how: Mean, encoding: Encoding) -> None:
    """The mean's lists and divergence against the definition over all classes."""
    classes, weights, method = len(means[0]), how.weights, how.method
    plain = [mean if how.temperature(i) == 1 else np.ones((1, mean.shape[1])) for i, mean in enumerate(means)]
    if how.temperatures:
        means = [mean.astype(np.float64) ** (1 / t) for mean, t in zip(means, how.temperatures, strict=True)]
        means = [mean / mean.sum(axis=0) for mean in means]
    by_class = weights if weights.ndim == 2 else np.repeat(weights[:, None], classes, axis=1)
    if method == "arithmetic":
        reference = sum(w[:, None] * mean for w, mean in zip(by_class, means, strict=True))
    else:
        powers = [np.maximum(mean, 1e-4) ** w[:, None] for w, mean in zip(by_class, means, strict=True)]
        reference = np.prod(powers, axis=0)
    reference = reference / reference.sum(axis=0)
    assert mean_of(sources, how, classes) == pytest.approx(reference, abs=1e-5)
    mixed = mix(sources, how, classes, encoding)
    parts = sum(w.mean() * entropy(mean) for w, mean in zip(by_class, plain, strict=True))
    assert mixed.divergence == pytest.approx(entropy(reference) - parts, abs=3e-4)
    # The lists name different classes, and the tail of a poor list may outdo what another one names last: what is
    # listed is compared with the classes that any source lists.
    candidates = np.zeros_like(reference, bool)
    every = method == "geometric" or weights.ndim == 2 or any(isinstance(source, Dense) for source in sources)
    for source in sources:
        for row in () if every else source[0]:
            there = np.flatnonzero(row != IGNORE)
            candidates[row[there], there] = True
    best = np.sort(np.where(candidates | every, reference, 0), axis=0)[::-1][: min(encoding.kept, classes)]
    there = mixed.top_class != IGNORE
    assert there[0].all()
    assert ((mixed.top_probability > 0) == there).all()
    found = np.take_along_axis(reference, np.where(there, mixed.top_class, 0).astype(int), axis=0)
    assert found[there] == pytest.approx(best[there], rel=1e-4, abs=1e-6)
    limit = max(encoding.drop, encoding.step / 2 / 255)
    assert (best[~there] < limit * 1.001 + 1e-6).all()
    error = dequantise(mixed.top_probability) - found
    assert (np.abs(error[1:][there[1:]]) <= encoding.step / 2 / 255 + 1e-5).all()
    for pixel in range(len(there[0])):
        listed = mixed.top_class[there[:, pixel], pixel]
        assert len(set(listed.tolist())) == len(listed)
    assert (np.diff(mixed.top_probability.astype(int), axis=0)[1:] <= 0).all()


@settings(deadline=None, max_examples=120)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 4),
    classes=st.integers(1, 30),
    kept=st.lists(st.integers(1, 9), min_size=4, max_size=4),
    sharp=st.floats(0.5, 9),
    dense=st.lists(st.booleans(), min_size=4, max_size=4),
    raw=st.lists(st.floats(0.05, 1), min_size=4, max_size=4),
    drop=st.sampled_from([0.0, 0.01, 0.05]),
    step=st.sampled_from([1, 3, 8]),
    method=st.sampled_from(["arithmetic", "geometric"]),
    by_class=st.booleans(),
    heat=st.one_of(st.just(()), st.lists(st.floats(0.3, 3) | st.just(1.0), min_size=4, max_size=4)),
)
def test_the_mean_of_lists_equals_the_dense_mean(
    seed: int,
    count: int,
    classes: int,
    kept: list[int],
    sharp: float,
    dense: list[bool],
    raw: list[float],
    drop: float,
    step: int,
    method: Method,
    by_class: bool,
    heat: Sequence[float],
) -> None:
    sources, means = sources_of(seed, count, classes, kept, sharp, dense, drop, step)
    weights = np.array(raw[:count])
    if by_class:
        weights = weights[:, None] * np.random.default_rng(seed).uniform(0.1, 1, (count, classes))
    how = Mean((weights / weights.sum(axis=0)).astype(np.float32), tuple(heat[:count]), method)
    assert_mixed(sources, means, how, Encoding(kept=max(kept[:count]), drop=drop, step=step))


def test_a_mean_worked_out_by_hand() -> None:
    # A: class 2 at 128/255, class 0 at 64/255, the other three classes share 63/255. B: class 4 at 128, class 2 at 64.
    levels = np.array([[128], [64]], np.uint8)
    a, b = Lists(np.array([[2], [0]], np.uint8), levels), Lists(np.array([[4], [2]], np.uint8), levels)
    mixed = mix([a, b], HALF, 5, Encoding(kept=3, step=1))
    # class 2: (128 + 64) / 2 = 96; class 4: (63 / 3 + 128) / 2 = 74.5; class 0: (64 + 63 / 3) / 2 = 42.5
    assert mixed.top_class[:, 0].tolist() == [2, 4, 0]
    assert mixed.top_probability[:, 0] == pytest.approx([96, 74.5, 42.5], abs=0.51)


def test_a_source_mixed_with_itself_stays_what_it_is() -> None:
    (source,), _ = sources_of(1, 1, 20, [8], 3.0, [False])
    mixed = mix([source, source], Mean(np.array([0.3, 0.7], np.float32)), 20, Encoding(kept=8, step=1, drop=0))
    assert (mixed.top_class[0] == source[0][0]).all()
    assert np.abs(mixed.top_probability.astype(int) - source[1]).max() <= 1
    assert mixed.divergence == pytest.approx(np.zeros(mixed.divergence.shape), abs=1e-5)


def test_bands_and_groups_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, _ = sources_of(7, 3, 12, [3, 5, 4], 4.0, [False] * 3)
    how, encoding = Mean(np.array([0.2, 0.3, 0.5], np.float32)), Encoding(kept=5)
    whole = mix(sources, how, 12, encoding)
    for name, value in (("BAND_PIXELS", 5), ("GROUPS", ())):
        monkeypatch.setattr(module, name, value)
        again = mix(sources, how, 12, encoding)
        assert (again.top_class == whole.top_class).all()
        assert (again.top_probability == whole.top_probability).all()
        assert again.divergence == pytest.approx(whole.divergence, abs=1e-5)


def test_a_temperature_of_a_hundredth_leaves_the_likeliest_class_alone() -> None:
    # 0.1 to the power of 100 is below the smallest float32.
    sources, _ = sources_of(3, 2, 40, [4, 4], 0.2, [False, True])
    how = Mean(np.array([0.5, 0.5], np.float32), (0.01, 0.01))
    assert np.isfinite(mean_of(sources, how, 40)).all()
    alone = Mean(np.ones(1, np.float32), (0.01,))
    for source in sources:
        mixed = mix([source], alone, 40, Encoding(kept=4))
        assert np.isfinite(mixed.divergence).all()
        assert (mixed.top_class[0] == rebuild(source, 40).argmax(axis=0)).all()


def test_the_agreed_class_leads_its_list_once() -> None:
    level = np.full((2, 1), 80, np.uint8)
    a = Lists(np.array([[3], [1]], np.uint8), level)
    # Rounding has put 1 and 3 level, but in both sources 3 leads.
    assert mix([a, a], HALF, 6, Encoding(kept=2)).top_class[:, 0].tolist() == [1, 3]
    assert mix([a, a], HALF, 6, Encoding(kept=2), np.array([3], np.uint8)).top_class[:, 0].tolist() == [3, 1]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=40), st.data())
def test_the_network_sorts_the_first_places(values: list[int], data: st.DataObject) -> None:
    kept = data.draw(st.integers(1, len(values)))
    ranked = list(values)
    for upper, lower in module._network(len(values), kept):
        if ranked[upper] < ranked[lower]:
            ranked[upper], ranked[lower] = ranked[lower], ranked[upper]
    assert ranked[:kept] == sorted(values, reverse=True)[:kept]
