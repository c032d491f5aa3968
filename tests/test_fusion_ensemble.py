"""Fusing stores."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from fusion_samples import CLASSES, FRAMES, source
from store_samples import (
    SIZE,
    class_table,
    distributions,
    prediction_header,
    snapshot,
    stems,
    write_predictions,
)

from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.fusion import ensemble
from vsscli.fusion.ensemble import fuse, normalised_weights
from vsscli.fusion.grid import enlarge, neighbours
from vsscli.fusion.mix import Mean, Method
from vsscli.store import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter


@pytest.fixture(scope="module", autouse=True)
def short_segments() -> Iterator[None]:
    """Of four frames, so that few frames make two segments."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encode, "MAX_SEGMENT", 4)
        yield


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, short_segments: None) -> list[Store]:
    folder = tmp_path_factory.mktemp("sources")
    return [source(folder / f"{seed}.zarr", seed) for seed in (1, 2, 3)]


def reference(stores: list[Store], weights: list[float], video: str, t: int) -> tuple[np.ndarray, ...]:
    """Label, entropy and mean of a frame on grid 1, over all classes."""
    weights = [weight / sum(weights) for weight in weights]
    dense = [store.probabilities(video, t).astype(np.float64) for store in stores]
    mean = sum(weight * one for weight, one in zip(weights, dense, strict=True))

    def entropy(p: np.ndarray) -> np.ndarray:
        return -(p * np.log(np.maximum(p, 1e-30))).sum(axis=0) / np.log(len(p))

    stored = sum(weight * store.entropy(video, t) for weight, store in zip(weights, stores, strict=True))
    rebuilt = sum(weight * entropy(one) for weight, one in zip(weights, dense, strict=True))
    labels = [store.label(video, t) for store in stores]
    agree = np.all([label == labels[0] for label in labels], axis=0)
    label = np.where(agree, labels[0], mean.argmax(axis=0))
    return label, np.clip(stored + entropy(mean) - rebuilt, 0, 1), mean


@pytest.mark.parametrize("weights", [[0.6, 0.4, 1.0], [1, 1, 1], [3, 0.1, 2]])
def test_a_fusion_is_the_weighted_mean(tmp_path: Path, stores: list[Store], weights: list[float]) -> None:
    fused = open_store(fuse(stores, weights, tmp_path / "f.zarr"))
    assert fused.videos() == ("alley", "street")
    for video, t in (("alley", 0), ("street", 0), ("street", 5)):
        label, entropy, mean = reference(stores, weights, video, t)
        assert np.abs(fused.entropy(video, t) - entropy).max() <= 0.5 / 255 + 2e-4
        top_class, probability = fused.lists(video, t)
        assert top_class.shape == (5, *SIZE)
        assert (fused.label(video, t) == top_class[0]).all()
        # Where two classes are as good as level the lower bits decide: their probabilities are equal then.
        chosen = np.take_along_axis(mean, fused.label(video, t)[None].astype(int), axis=0)[0]
        right = np.take_along_axis(mean, label[None].astype(int), axis=0)[0]
        assert chosen == pytest.approx(right, rel=1e-4)
        there = top_class != 255
        listed = np.take_along_axis(mean, np.where(there, top_class, 0).astype(int), axis=0)
        assert np.abs(probability - listed)[1:][there[1:]].max() <= 1.5 / 255 + 1e-5


def test_where_all_labels_agree_theirs_is_the_fused_label(tmp_path: Path, stores: list[Store]) -> None:
    fused = open_store(fuse(stores, [1, 1, 1], tmp_path / "f.zarr"))
    differing = 0
    for t in range(FRAMES):
        labels = np.stack([store.label("street", t) for store in stores])
        agree = (labels == labels[0]).all(axis=0)
        assert (fused.label("street", t)[agree] == labels[0][agree]).all()
        differing += int((~agree).sum())
    assert 0 < differing < 0.8 * FRAMES * SIZE[0] * SIZE[1]


def test_a_source_of_weight_nought_has_no_say(tmp_path: Path, stores: list[Store]) -> None:
    fused = open_store(fuse(stores, [0, 2, 0], tmp_path / "f.zarr"))
    for t in range(3):
        assert (fused.label("alley", t) == stores[1].label("alley", t)).all()
        assert (fused.read("alley", "entropy", t) == stores[1].read("alley", "entropy", t)).all()
        # Classes that rounding has put level may change places.
        levels = [store.read("alley", "top_probability", t).astype(int) for store in (fused, stores[1])]
        assert np.abs(levels[0] - levels[1]).max() <= 3
        assert fused.probabilities("alley", t) == pytest.approx(stores[1].probabilities("alley", t), abs=0.05)


def test_a_fusion_says_where_it_comes_from(tmp_path: Path, stores: list[Store]) -> None:
    fused = open_store(fuse(stores[:2], [3, 1], tmp_path / "f.zarr"))
    assert fused.header.kind == "fusion"
    assert fused.header.source["weights"] == [0.75, 0.25]
    noted = fused.header.source["stores"]
    assert [note["fingerprint"] for note in noted] == [store.fingerprint for store in stores[:2]]
    assert [(tmp_path / note["address"]).resolve() for note in noted] == [store.path.resolve() for store in stores[:2]]
    assert fused.record("alley").sources == tuple(store.digest("alley") for store in stores[:2])


def test_a_single_class_is_sure_in_every_fusion(tmp_path: Path) -> None:
    weights = [4, 7, 1]  # their shares sum to less than 1 in float32
    header, mean = prediction_header(1), np.ones((2, 1, *SIZE), np.float32)
    sources = [write_predictions(tmp_path / f"{n}.zarr", header, {"a": mean}) for n in range(len(weights))]
    for method in get_args(Method):
        fused = open_store(fuse(sources, weights, tmp_path / f"{method}.zarr", method=method))
        assert not fused.read("a", "entropy", slice(None)).any()
        assert not fused.label("a", slice(None)).any()


def test_fusions_can_be_fused(tmp_path: Path, stores: list[Store]) -> None:
    pair = open_store(fuse(stores[:2], [1, 1], tmp_path / "pair.zarr"))
    nested = open_store(fuse([pair, stores[2]], [2, 1], tmp_path / "nested.zarr"))
    flat = open_store(fuse(stores, [1, 1, 1], tmp_path / "flat.zarr"))
    same = np.mean([nested.label("street", t) == flat.label("street", t) for t in range(FRAMES)])
    assert same > 0.95


def test_an_interrupted_fusion_goes_on_and_ends_with_the_same_bytes(
    tmp_path: Path, stores: list[Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = snapshot(fuse(stores, [1, 2, 3], tmp_path / "whole.zarr"))
    plain = ensemble.fuse_frame
    calls: list[tuple[str, int]] = []

    def failing(heard: list[Store], how: Mean, encoding: Encoding, video: str, t: int) -> dict:
        calls.append((video, t))
        if len(calls) == 8:
            raise KeyboardInterrupt
        return plain(heard, how, encoding, video, t)

    monkeypatch.setattr(ensemble, "fuse_frame", failing)
    with pytest.raises(KeyboardInterrupt):
        fuse(stores, [1, 2, 3], tmp_path / "f.zarr", engine=Engine(1))

    # 3 frames of alley and 4 of street were there.
    def counting(*arguments: object) -> dict:
        calls.append(arguments[-2:])
        return plain(*arguments)

    monkeypatch.setattr(ensemble, "fuse_frame", counting)
    calls.clear()
    assert snapshot(fuse(stores, [1, 2, 3], tmp_path / "f.zarr", engine=Engine(1))) == whole
    assert calls == [("street", 4), ("street", 5)]
    calls.clear()
    fuse(stores, [1, 2, 3], tmp_path / "f.zarr")
    assert calls == []


@pytest.mark.parametrize("grid", [2, 4])
def test_on_a_coarser_grid_labels_and_entropy_are_at_frame_size(tmp_path: Path, grid: int) -> None:
    size = (8, 12)
    stores = [source(tmp_path / f"{seed}.zarr", seed, Encoding(grid=grid, kept=5), size) for seed in (1, 2)]
    fused = open_store(fuse(stores, [0.7, 0.3], tmp_path / "f.zarr"))
    for t in range(3):
        labels = [store.label("alley", t) for store in stores]
        agree = labels[0] == labels[1]
        dense = [
            np.stack([enlarge(one, size) for one in store.probabilities("alley", t).astype(np.float64)])
            for store in stores
        ]
        mean = 0.7 * dense[0] + 0.3 * dense[1]
        right = np.where(agree, labels[0], mean.argmax(axis=0))
        assert (fused.label("alley", t) == right).mean() > 0.99
        assert fused.entropy("alley", t).shape == size
        stored = 0.7 * stores[0].entropy("alley", t) + 0.3 * stores[1].entropy("alley", t)
        # The divergence of two sources is between 0 and the entropy of their weights.
        excess = fused.entropy("alley", t) - stored
        assert excess.min() > -1 / 255
        assert excess.max() <= (-0.7 * np.log(0.7) - 0.3 * np.log(0.3)) / np.log(CLASSES) + 1 / 255


def test_the_grid_lies_on_the_frame_as_bilinear_resizing_has_it() -> None:
    # Two cells on four pixels: centres at 0.5 and 1.5 cells; pixel centres at 0.25, 0.75, 1.25, 1.75.
    lower, upper, share = neighbours(2, 4)
    assert lower.tolist() == [0, 0, 0, 1]
    assert upper.tolist() == [1, 1, 1, 1]
    assert share.tolist() == [0.0, 0.25, 0.75, 0.25]
    assert enlarge(np.array([[0.0, 4.0]]), (1, 4)).tolist() == [[0.0, 1.0, 3.0, 4.0]]


def test_sources_that_keep_everything_fuse_with_lists(tmp_path: Path) -> None:
    everything = source(tmp_path / "all.zarr", 1, Encoding(keep="all"))
    lists = source(tmp_path / "top.zarr", 2)
    for name, stores, kept in (("one", [everything, lists], 5), ("two", [everything, everything], Encoding().kept)):
        fused = open_store(fuse(stores, [0.4, 0.6], tmp_path / f"{name}.zarr"))
        assert fused.encoding == Encoding(kept=kept)
        label, entropy, mean = reference(stores, [0.4, 0.6], "alley", 1)
        assert np.abs(fused.entropy("alley", 1) - entropy).max() <= 0.5 / 255 + 2e-4
        assert (fused.label("alley", 1) == label).mean() > 0.99
        assert fused.probabilities("alley", 1) == pytest.approx(mean, abs=0.06)


@pytest.mark.parametrize(
    ("weights", "message"),
    [([1], "1 weights for 2"), ([1, -1], "-1"), ([0, 0], "all weights are 0"), ([1, float("nan")], "nan")],
)
def test_weights_that_are_none_are_refused(
    tmp_path: Path, stores: list[Store], weights: list[float], message: str
) -> None:
    with pytest.raises(VssError, match=message):
        fuse(stores[:2], weights, tmp_path / "f.zarr")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_divided_by_their_sum() -> None:
    assert normalised_weights([1, 3], 2) == [0.25, 0.75]
    with pytest.raises(VssError, match="no stores"):
        normalised_weights([], 0)


def small(path: Path, **changes: object) -> Store:
    """A store of one video, unlike another in one thing."""
    classes = int(str(changes.get("classes", 4)))
    frames = int(str(changes.get("frames", 2)))
    size = changes.get("size", (4, 4))
    assert isinstance(size, tuple)
    grid = int(str(changes.get("grid", 1)))
    header = prediction_header(classes, Encoding(grid=grid, kept=2))
    video = str(changes.get("video", "v"))
    return write_predictions(path, header, {video: distributions(1, frames, classes, size)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": 5}, "different classes: 4 and 5"),
        ({"grid": 2}, "different score grids: 1 and 2"),
        ({"video": "w"}, r"different videos: v is only in .*a\.zarr \(2 such\)"),
        ({"size": (4, 8)}, r"sizes of video v: \(4, 4\) and \(4, 8\)"),
        ({"frames": 3}, "different frames of video v: 2 and 3"),
    ],
)
def test_sources_that_differ_are_refused_with_what_differs(tmp_path: Path, changes: dict, message: str) -> None:
    stores = [small(tmp_path / "a.zarr"), small(tmp_path / "b.zarr", **changes)]
    with pytest.raises(VssError, match=message):
        fuse(stores, [1, 1], tmp_path / "f.zarr")
    assert not (tmp_path / "f.zarr").exists()


def test_a_source_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    one = small(tmp_path / "a.zarr")
    with StoreWriter(tmp_path / "b.zarr", one.header) as writer:
        writer.pending("v", stems(2), (4, 4))
    with pytest.raises(VssError, match=r"b\.zarr lacks frames of video v"):
        fuse([one, open_store(tmp_path / "b.zarr")], [1, 1], tmp_path / "f.zarr")


def test_pseudo_labels_and_empty_stores_are_refused(tmp_path: Path) -> None:
    pseudo = Header("pseudo", class_table(4), "", {"level": 3}, {})
    with StoreWriter(tmp_path / "p.zarr", pseudo) as writer:
        writer.pending("v", stems(2), (4, 4))
    with pytest.raises(VssError, match="pseudo-labels"):
        fuse([open_store(tmp_path / "p.zarr")], [1], tmp_path / "f.zarr")
    one = small(tmp_path / "a.zarr")
    one.path.joinpath("v").rename(tmp_path / "v")
    with pytest.raises(VssError, match="holds no videos"):
        fuse([open_store(one.path)], [1], tmp_path / "f.zarr")


def test_temperatures_of_one_change_no_byte(tmp_path: Path, stores: list[Store]) -> None:
    plain = fuse(stores, [1, 2, 3], tmp_path / "a" / "f.zarr")
    ones = fuse(stores, [1, 2, 3], tmp_path / "b" / "f.zarr", temperatures=[1.0, 1.0, 1.0])
    files = [{name: text for name, text in snapshot(path).items() if "/c/" in str(name)} for path in (plain, ones)]
    assert files[0]
    assert files[0] == files[1]
