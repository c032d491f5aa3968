"""Training on several data sets: their shares, and that batches still follow from seed and step alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from listener import Listener
from PIL import Image
from pydantic import ValidationError
from small import small_recipe, train

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import Portion, TrainItems
from vsscli.data.config import Augment
from vsscli.data.loader import training_loader
from vsscli.data.masks import MaskIds
from vsscli.data.order import BLOCK, Order, StepSampler
from vsscli.data.samples import Crops, LabelledFrames
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.pipeline.inspection import inspect_recipe
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.schema import Recipe
from vsscli.stages.key import content
from vsscli.training.sources import open_sources
from vsscli.training.state import other_run

CROP = (16, 16)


def pictures(root: Path, count: int, size: tuple[int, int], classes: int, *, value: int = 1) -> None:
    """Images and masks of one class as `layout: images` finds them, with a table of so many classes."""
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for number in range(count):
        Image.new("RGB", size[::-1], (number, 90, 90)).save(root / "images" / f"{number}.jpg")
        Image.new("L", size[::-1], value).save(root / "masks" / f"{number}.png")
    (root / "classes.json").write_text(str([f"c{k}" for k in range(classes)]).replace("'", '"'))


def images_data(root: Path, name: str = "pictures", **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "root": str(root),
        "layout": "images",
        "images": "images",
        "masks": "masks",
        "classes": "classes.json",
        **values,
    }


def frames(root: Path, count: int, size: tuple[int, int], value: int) -> LabelledFrames:
    pictures(root, count, size, 9, value=value)
    videos = [
        FolderVideo(str(n), (Frame(str(n), str(n), root / "images" / f"{n}.jpg", root / "masks" / f"{n}.png"),))
        for n in range(count)
    ]
    return LabelledFrames(videos, MaskIds(), 9)


def mixed(root: Path) -> TrainItems:
    """Frames of class 0; large ones of class 1, three tenths of the crops; tiny ones of class 2, a tenth."""
    augment = Augment(crop=CROP, scale=(0.5, 2.0), single_class_limit=1.0)
    small = TrainAugment(augment.model_copy(update={"size": 20}))
    return TrainItems(
        frames(root / "a", 5, (24, 32), 1),
        TrainAugment(augment),
        [
            Portion(frames(root / "b", 3, (300, 200), 2), small, 300),
            Portion(frames(root / "c", 2, (5, 7), 3), small, 100),
        ],
    )


def test_a_thousand_samples_hold_each_set_by_its_share_and_its_frames_in_epochs() -> None:
    order = Order(3, (7, 5, 4), (600, 300, 100))
    taken = [order.at(sample) for sample in range(2 * BLOCK)]
    assert Counter(part for part, _, _ in taken[:BLOCK]) == {0: 600, 1: 300, 2: 100}
    assert Counter(part for part, _, _ in taken[BLOCK:]) == {0: 600, 1: 300, 2: 100}
    for part, length in enumerate(order.lengths):
        own = [frame for of, frame, _ in taken if of == part]
        epochs = [own[start : start + length] for start in range(0, len(own) - length + 1, length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
    halves = Counter(part for part, _, _ in taken[:100])
    assert 40 < halves[0] < 80  # not one set after the other
    assert taken != [Order(4, (7, 5, 4), (600, 300, 100)).at(sample) for sample in range(2 * BLOCK)]


def test_one_data_set_is_ordered_as_before_there_were_several() -> None:
    # What the sampler gave before it knew of several data sets: a permutation drawn from (seed, epoch).
    batches = list(StepSampler(Order(11, (6,)), 4, start=0, steps=6))
    taken = [address.frame for batch in batches for address in batch]
    before = [int(n) for epoch in range(4) for n in np.random.default_rng([11, epoch]).permutation(6)]
    assert taken == before
    assert {address.part for batch in batches for address in batch} == {0}


@pytest.mark.parametrize("workers", [0, 2])
def test_mixed_batches_follow_from_seed_and_step_alone(tmp_path: Path, workers: int) -> None:
    items = mixed(tmp_path)

    def load(start: int, rank: int = 0, world: int = 1) -> list[Crops]:
        return list(
            training_loader(items, batch_size=4, seed=7, start=start, steps=6, workers=workers, rank=rank, world=world)
        )

    whole = load(0)
    for batch, later in zip(whole[3:], load(3), strict=True):
        assert torch.equal(batch.images, later.images)
        assert torch.equal(batch.labels, later.labels)
    for batch, first, second in zip(whole, load(0, 0, 2), load(0, 1, 2), strict=True):
        assert torch.equal(batch.images, torch.stack([first.images, second.images], 1).flatten(0, 1))
    reference = training_loader(items, batch_size=4, seed=7, start=0, steps=6, workers=0)
    assert all(torch.equal(a.images, b.images) for a, b in zip(whole, reference, strict=True))


def test_images_larger_and_smaller_than_crops_mix(tmp_path: Path) -> None:
    items = mixed(tmp_path)
    addresses = [address for batch in StepSampler(items.order(0), 10, start=0, steps=20) for address in batch]
    void = []
    for address in addresses[:60]:
        crop = items[address]
        assert isinstance(crop, Crops)
        assert crop.images.shape == (3, *CROP)
        assert set(crop.labels.unique().tolist()) <= {address.part, 255}
        assert torch.equal(crop.labels == 255, crop.padding)
        void.append(crop.padding.float().mean().item())
    assert max(void) > 0  # frames that are scaled below the crop are padded with void


def recipe_with(root: Path, *also: dict[str, Any], **train_values: Any) -> Recipe:
    values = small_recipe(root / "data", **train_values).model_dump(mode="json")
    return Recipe.model_validate({**values, "also": list(also)})


def street_pictures(root: Path, recipe: Recipe, name: str = "pictures") -> dict[str, Any]:
    """Further images in the classes of the drawn streets, after those are drawn."""
    drawn = open_sources(recipe.model_copy(update={"also": ()}), None)
    pictures(root, 3, (80, 60), 2, value=2)
    (root / "classes.json").write_text((drawn.main.root / "classes.json").read_text())
    return images_data(root, name)


def test_training_on_two_sets_says_what_each_gives_and_its_checkpoint_finds_both_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = street_pictures(tmp_path / "more", recipe_with(tmp_path), "more")
    data = {**data, "root": "nowhere", "root_env": "MORE"}
    monkeypatch.setenv("MORE", str(tmp_path / "more"))
    recipe = recipe_with(tmp_path, {"data": data, "share": 0.25, "size": 48}, steps=3, checkpoint_every=1)
    heard = Listener()
    whole = train(recipe, tmp_path / "run", talk=heard)
    assert "labelled data: street 12 frames (75.0% of the crops), more 3 frames (25.0% of the crops)" in heard.said
    assert any("training small: 15 labelled frames" in said for said in heard.said)
    kept = load_checkpoint(whole.last, weights=False).recipe
    assert kept["also"][0]["data"]["root"] == str(tmp_path / "more")
    monkeypatch.delenv("MORE")
    found = open_sources(recipe_from_dict(kept, "the recipe"), None)
    assert len(found.also[0].dataset.split("labelled")) == 3
    heard = Listener()
    assert train(recipe, tmp_path / "run", talk=heard) == whole  # moved data is the same data
    assert "cached" in heard.said[0]


def test_a_mixed_semi_supervised_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    data = street_pictures(tmp_path / "more", recipe_with(tmp_path), "more")
    values = recipe_with(tmp_path, {"data": data, "share": 0.5}, steps=3, checkpoint_every=2).model_dump(mode="json")
    recipe = Recipe.model_validate({**values, "unlabelled": {"teacher": "ema", "batch_size": 2}})
    first = train(small_recipe(tmp_path / "data", steps=1), tmp_path / "first").last
    whole = train(recipe, tmp_path / "whole", init=first)

    class Stop(Listener):
        @contextmanager
        def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
            counted = 0

            def done(count: int) -> None:
                nonlocal counted
                counted += count
                if label == recipe.name and counted == 3:
                    raise KeyboardInterrupt

            yield done

    with pytest.raises(KeyboardInterrupt):
        train(recipe, tmp_path / "broken", init=first, talk=Stop())
    assert load_checkpoint(tmp_path / "broken" / "last.pt", weights=False).step == 2
    again = train(recipe, tmp_path / "broken", init=first, resume=True)
    assert load_checkpoint(again.last).fingerprint == load_checkpoint(whole.last).fingerprint


def test_a_run_that_was_begun_before_there_were_several_data_sets_goes_on(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=1)
    begun = load_checkpoint(train(recipe, tmp_path / "run").last, weights=False)
    old = {key: value for key, value in begun.recipe.items() if key != "also"}
    old["data"] = {key: value for key, value in old["data"].items() if key not in ("images", "masks")}
    assert other_run(replace(begun, recipe=old), recipe, {}) == ""


def test_other_classes_are_refused_with_both_names(tmp_path: Path) -> None:
    pictures(tmp_path / "more", 2, (10, 10), 2)
    recipe = recipe_with(tmp_path, {"data": images_data(tmp_path / "more", "more"), "share": 0.5})
    with pytest.raises(VssError, match=r"more has the 2 classes of .* street the"):
        open_sources(recipe, None)


def test_the_doctor_looks_at_all_sets_of_a_recipe(tmp_path: Path) -> None:
    data = street_pictures(tmp_path / "more", recipe_with(tmp_path))
    recipe = recipe_with(tmp_path, {"data": data, "share": 0.5})
    heard = Listener()
    assert inspect_recipe(recipe, None, talk=heard).faults == []
    assert "pictures, labelled: 3 videos, 3 frames, with masks" in heard.said
    (tmp_path / "more" / "masks" / "1.png").write_bytes(b"")
    assert ["empty" in fault.what for fault in inspect_recipe(recipe, None).faults] == [True]


@pytest.mark.parametrize(
    ("also", "expected"),
    [
        (
            [{"data": {"name": "a"}, "share": 0.6}, {"data": {"name": "b"}, "share": 0.4}],
            "shares 0.6, 0.4 leave nothing",
        ),
        ([{"data": {"name": "vspw"}, "share": 0.4}], "data.name 'vspw'"),
        ([{"data": {"name": "a", "unlabelled": ["test"]}, "share": 0.4}], "data.unlabelled can't be set here"),
        ([{"data": {"name": "a"}, "share": 0.0}], "greater than or equal to 0.001"),
    ],
)
def test_impossible_mixtures_are_refused(also: list[dict[str, Any]], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        Recipe.model_validate({"name": "a", "also": also})


def test_places_of_data_sets_decide_nothing() -> None:
    def decides(share: float, **data: str) -> dict[str, Any]:
        one = {"name": "b", **data}
        return content(Recipe.model_validate({"name": "a", "data": data, "also": [{"data": one, "share": share}]}))

    assert decides(0.3) == decides(0.3, root="elsewhere", root_env="THERE", publisher="they", without="other")
    assert decides(0.3) != decides(0.4)
    assert decides(0.3) != decides(0.3, val="other")
