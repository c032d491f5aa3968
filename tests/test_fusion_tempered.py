"""Fusions with temperatures: their entropies, and what lists lose."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fusion_samples import CLASSES, source
from store_samples import (
    prediction_header,
    write_predictions,
)

from vsscli.errors import VssError
from vsscli.fusion import ensemble
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.grid import enlarge
from vsscli.fusion.mix import Method
from vsscli.store.header import Encoding
from vsscli.store.reader import Store, open_store


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[Store]:
    folder = tmp_path_factory.mktemp("sources")
    return [source(folder / f"{seed}.zarr", seed) for seed in (1, 2, 3)]


LARGE = (24, 32)


COARSE = Encoding(kept=5, drop=0.06, step=8, entropy_step=4)


def tempered_mean(
    dense: list[np.ndarray], weights: np.ndarray, temperatures: list[float], method: Method
) -> tuple[np.ndarray, np.ndarray]:
    """The mean (C, ...) of tempered distributions in float64, and its entropy as a share of the largest."""
    powers = [np.asarray(one, np.float64) ** (1 / t) for one, t in zip(dense, temperatures, strict=True)]
    powers = [one / one.sum(axis=0) for one in powers]
    shares = [weight[:, None, None] if weights.ndim == 2 else weight for weight in weights]
    if method == "geometric":
        logs = [share * np.log(np.maximum(one, 1e-4)) for share, one in zip(shares, powers, strict=True)]
        mean = np.exp(sum(logs))
    else:
        mean = np.asarray(sum(share * one for share, one in zip(shares, powers, strict=True)))
    mean /= mean.sum(axis=0)
    return mean, -(mean * np.log(np.maximum(mean, 1e-30))).sum(axis=0) / np.log(len(mean))


def flipped(found: np.ndarray, right: np.ndarray) -> float:
    """Share of the pixels that are reliable in one and not in the other, at the 80th percentile of what is right."""
    levels = [np.rint(part * 255) for part in (found, right)]
    limit = np.quantile(levels[1], 0.8, method="inverted_cdf")
    return float(((levels[0] <= limit) != (levels[1] <= limit)).mean())


@pytest.mark.parametrize("method", ["arithmetic", "geometric"])
@pytest.mark.parametrize(
    "encoding",
    [
        Encoding(kept=5),
        COARSE,
        Encoding(kept=5, grid=2),
        Encoding(kept=5, grid=4),
        Encoding(keep="all"),
        Encoding(keep="all", grid=4),
    ],
    ids=["top", "compact", "grid 2", "grid 4", "all", "all, grid 4"],
)
def test_under_temperatures_entropies_are_those_of_the_tempered_lists(
    tmp_path: Path, encoding: Encoding, method: Method
) -> None:
    stores = [source(tmp_path / f"{seed}.zarr", seed, encoding, LARGE) for seed in (1, 2)]
    by_class = np.random.default_rng(0).uniform(0.1, 1, (2, CLASSES))
    cases: list[tuple[list[float], list[float] | list[list[float]]]] = [
        *(([heat], [1.0]) for heat in (0.3, 0.5, 2.0, 3.0)),
        *(([heat, heat], [0.6, 0.4]) for heat in (0.3, 0.9, 1.1, 2.0, 3.0)),
        ([0.5, 2.0], [0.6, 0.4]),
        ([2.0, 0.7], (by_class / by_class.sum(axis=0)).tolist()),
    ]
    for number, (heats, weights) in enumerate(cases):
        heard = stores[: len(heats)]
        fused = open_store(
            fuse(heard, weights, tmp_path / f"f{number}.zarr", method=method, temperatures=heats)  # type: ignore[arg-type]
        )
        dense = [store.probabilities("street", 1) for store in heard]
        if encoding.grid > 1:
            dense = [np.stack([enlarge(of_class, LARGE) for of_class in one]) for one in dense]
        mean, entropy = tempered_mean(dense, np.array(weights), heats, method)
        found = fused.entropy("street", 1)
        assert np.abs(found - entropy).max() <= encoding.entropy_step / 2 / 255 + 3e-4, heats
        if encoding.entropy_step == 1:
            assert flipped(found, entropy) <= 0.01, heats
        labels = [store.label("street", 1) for store in heard]
        agree = np.all([label == labels[0] for label in labels], axis=0) & (np.ndim(weights) == 1)
        label = fused.label("street", 1)
        assert (label == labels[0])[agree].all()
        chosen = np.take_along_axis(mean, label[None].astype(int), axis=0)[0]
        assert chosen[~agree] == pytest.approx(mean.max(axis=0)[~agree], rel=1e-3)


@pytest.mark.parametrize(
    ("heat", "most"), [(0.3, 0.02), (0.5, 0.01), (0.8, 0.01), (1.0, 0.005), (1.25, 0.02), (2.0, 0.06), (3.0, 0.09)]
)
def test_what_lists_lose_flips_few_of_the_reliable_pixels(tmp_path: Path, heat: float, most: float) -> None:
    """Against the distributions before they were kept; each mask at the 80th percentile of its own entropies."""
    size, frames = (64, 64), 2
    stores, means = [], []
    smooth = np.random.default_rng(5).normal(size=(frames, CLASSES, 9, 9)) * 7
    for seed in (1, 2):
        own = smooth + np.random.default_rng(seed).normal(size=smooth.shape) * 2
        scores = np.stack([[enlarge(of_class, size) for of_class in frame] for frame in own])
        mean = np.exp(scores - scores.max(axis=1, keepdims=True))
        means.append((mean / mean.sum(axis=1, keepdims=True)).astype(np.float32))
        header = prediction_header(CLASSES, Encoding(), weights=f"smooth {seed}")
        stores.append(write_predictions(tmp_path / f"{seed}.zarr", header, {"a": means[-1]}))
    for count, weights in ((1, [1.0]), (2, [0.6, 0.4])):
        fused = open_store(fuse(stores[:count], weights, tmp_path / f"f{count}.zarr", temperatures=[heat] * count))
        masks = []
        for t in range(frames):
            dense = [mean[t] for mean in means[:count]]
            _, entropy = tempered_mean(dense, np.array(weights), [heat] * count, "arithmetic")
            masks.append((entropy, fused.entropy("a", t)))
        right, found = (np.stack(part) for part in zip(*masks, strict=True))
        bounds = [np.quantile(part, 0.8) for part in (right, found)]
        assert ((right <= bounds[0]) != (found <= bounds[1])).mean() <= most


def test_a_fusion_under_temperatures_is_not_taken_for_one_of_an_earlier_version(
    tmp_path: Path, stores: list[Store]
) -> None:
    plain = [ensemble.fused_header(stores[:2], [0.5, 0.5], tmp_path, temperatures=heats) for heats in ((), (1.0, 1.0))]
    assert all("tempered" not in header.source for header in plain)
    hot = ensemble.fused_header(stores[:2], [0.5, 0.5], tmp_path, temperatures=(1.0, 2.0))
    assert hot.source["tempered"] == ensemble.TEMPERED
    source = {name: value for name, value in hot.source.items() if name != "tempered"}
    assert replace(hot, source=source).fingerprint != hot.fingerprint
    path = tmp_path / "f.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ensemble, "TEMPERED", 1)
        fuse(stores[:2], [1, 1], path, temperatures=(1.0, 2.0))
    with pytest.raises(VssError, match="tempered"):
        fuse(stores[:2], [1, 1], path, temperatures=(1.0, 2.0))
