"""Predictions that were made again: results of the old ones are refused, unless forced."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from store_samples import change_group, distributions, prediction_header, snapshot, write_predictions

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.pseudo import pseudo
from vsscli.store.reader import open_store


def predict(path: Path, seed: int) -> Path:
    """A store of one network's predictions of the current frames."""
    shutil.rmtree(path, ignore_errors=True)
    videos = {"lane": distributions(1, 2), "street": distributions(seed, 3)}
    return write_predictions(path, prediction_header(weights=path.stem), videos).path


def test_a_fusion_of_what_has_changed_is_refused_and_forced_in_its_place(tmp_path: Path) -> None:
    stores = [predict(tmp_path / "a.zarr", 2), predict(tmp_path / "b.zarr", 3)]
    fused = ensemble(stores, context=Context(tmp_path)).store
    before = snapshot(fused)
    predict(stores[0], 4)
    with pytest.raises(VssError, match=r"street .* predictions") as caught:
        ensemble(stores, context=Context(tmp_path))
    assert "--force" in caught.value.hint
    assert ensemble(stores, context=Context(tmp_path), force=True).store == fused
    after = snapshot(fused)
    assert after.keys() == before.keys()
    assert {name.split("/")[0] for name in after if after[name] != before[name]} == {"street"}
    shutil.rmtree(fused)
    assert after == snapshot(ensemble(stores, context=Context(tmp_path)).store)


@pytest.mark.parametrize("by_class", [False, True])
def test_pseudo_labels_of_what_has_changed_are_forced(tmp_path: Path, by_class: bool) -> None:
    store = predict(tmp_path / "a.zarr", 2)
    limit = {"percentile": 50.0} if by_class else {"threshold": 0.5}

    def labels(*, force: bool = False) -> Path:
        return pseudo([], store=store, context=Context(tmp_path), by_class=by_class, force=force, **limit).store  # type: ignore[arg-type]

    first = labels()
    predict(store, 4)
    with pytest.raises(VssError) as caught:
        labels()
    assert "--force" in caught.value.hint
    made = labels(force=True)
    assert (made == first) is not by_class  # levels of its own for each class are another header: a store beside it
    forced = snapshot(made)
    shutil.rmtree(first)
    assert snapshot(labels()) == forced


def of_frames(path: Path, frames: str) -> Path:
    """Record the content of the frames of a store's videos."""
    for file in path.glob("*/zarr.json"):
        change_group(file, lambda values: values.update(frames=frames * 64))
    return path


def test_predictions_of_other_images_of_the_same_names_are_not_fused(tmp_path: Path) -> None:
    stores = [predict(tmp_path / "a.zarr", 2), predict(tmp_path / "b.zarr", 3)]
    of_frames(stores[0], "a")
    ensemble(stores, context=Context(tmp_path))  # of the other nobody knows
    of_frames(stores[1], "b")
    with pytest.raises(VssError, match="different images of video lane") as caught:
        ensemble(stores, context=Context(tmp_path))
    assert "predict" in caught.value.hint


def test_what_is_made_of_predictions_says_from_which_images(tmp_path: Path) -> None:
    stores = [of_frames(predict(tmp_path / name, seed), "a") for name, seed in (("a.zarr", 2), ("b.zarr", 3))]
    fused = ensemble(stores, context=Context(tmp_path)).store
    labels = pseudo([], store=fused, context=Context(tmp_path), threshold=0.5).store
    for store in (fused, labels):
        assert {open_store(store).record(video).frames for video in ("lane", "street")} == {"a" * 64}
    before = snapshot(labels)
    for store in stores:  # other files, the same predictions: no need to force anything
        of_frames(store, "c")
    again = pseudo(
        [], store=ensemble(stores, context=Context(tmp_path)).store, context=Context(tmp_path), threshold=0.5
    ).store
    assert open_store(again).record("lane").frames == "c" * 64
    assert {name for name in before if before[name] != snapshot(again)[name]} == {"lane/zarr.json", "street/zarr.json"}
