"""Rare classes first: the choice follows from seed and sample, and crops contain the class they were chosen for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from listener import Listener
from PIL import Image
from small import small_recipe, train

from vsscli.data.augment import TrainAugment, Wanted
from vsscli.data.batches import TrainItems
from vsscli.data.config import Augment, RareClasses
from vsscli.data.loader import training_loader
from vsscli.data.masks import MaskIds
from vsscli.data.order import Order
from vsscli.data.rare import RareFirst, class_counts
from vsscli.data.samples import LabelledFrames, Sample
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint

COUNTS = np.array([[900, 100, 0], [1000, 0, 0], [950, 30, 20], [990, 0, 10]])
SETTINGS = RareClasses(temperature=0.5, pixels=15)


def test_classes_are_drawn_by_daformers_formula_and_frames_that_hold_enough_evenly() -> None:
    rare = RareFirst(COUNTS, SETTINGS)
    share = COUNTS.sum(0) / COUNTS.sum()
    expected = np.exp((1 - share) / 0.5) / np.exp((1 - share) / 0.5).sum()
    assert rare.probability == pytest.approx(expected)
    drawn = [rare.draw(3, sample, 0) for sample in range(6000)]
    assert None not in drawn
    counted = Counter(of for found in drawn if found for of in [found[1]])
    assert [counted[number] / 6000 for number in range(3)] == pytest.approx(expected, abs=0.02)
    frames = Counter(found for found in drawn if found)
    assert {frame for frame, number in frames if number == 1} == {0, 2}
    assert {frame for frame, number in frames if number == 2} == {2}  # the other frame holds too few pixels
    assert frames[0, 1] / counted[1] == pytest.approx(0.5, abs=0.03)
    # As cold as DAFormer's the rarest class has nearly all, and no number overflows.
    cold = RareFirst(COUNTS, RareClasses(temperature=0.001, pixels=15)).probability
    assert cold[2] > 0.99
    assert np.isfinite(cold).all()


def test_what_is_drawn_follows_from_seed_and_sample_and_the_rest_comes_in_turn() -> None:
    rare = RareFirst(COUNTS, SETTINGS.model_copy(update={"share": 0.4}))
    plain, mixed = Order(5, (4,)), Order(5, (4,), rare=(rare,))
    taken = [mixed.at(sample) for sample in range(1000)]
    assert taken == [Order(5, (4,), rare=(rare,)).at(sample) for sample in range(1000)]
    assert taken != [Order(6, (4,), rare=(rare,)).at(sample) for sample in range(1000)]
    assert sum(wanted is not None for _, _, wanted in taken) == pytest.approx(400, abs=50)
    # A sample that is not chosen by class takes the frame that it would take anyway.
    assert all(found == plain.at(sample) for sample, found in enumerate(taken) if found[2] is None)


def test_no_class_that_could_be_chosen_is_an_error_with_the_number() -> None:
    with pytest.raises(VssError, match="no labelled frame holds 3000 pixels of any class") as caught:
        RareFirst(COUNTS, RareClasses())
    assert "1000" in caught.value.hint


@pytest.fixture
def frames(tmp_path: Path) -> LabelledFrames:
    """Six frames 40x60 of class 0; the last two have a patch of class 1, one of them a void corner."""
    made = []
    for t in range(6):
        mask = np.ones((40, 60), np.uint8)
        mask[20:30, 45:55] = 2 if t > 3 else 1
        mask[:5, :5] = 0 if t == 5 else 1
        image, path = tmp_path / f"{t}.jpg", tmp_path / f"{t}.png"
        Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(image)
        Image.fromarray(mask).save(path)
        made.append(Frame("a", str(t), image, path))
    return LabelledFrames([FolderVideo("a", tuple(made))], MaskIds(), 2)


def test_crops_hold_the_class_they_are_for_with_any_number_of_workers(frames: LabelledFrames) -> None:
    counts = class_counts(frames, 2, "a")
    assert counts.tolist() == [[2400, 0]] * 4 + [[2300, 100], [2275, 100]]
    rare = RareFirst(counts, RareClasses(temperature=0.05, pixels=80))
    augment = Augment(crop=(16, 16), scale=(1.0, 1.0), single_class_limit=1.0, colour_jitter=0.0)

    def batches(items: TrainItems, workers: int = 0, **share: int) -> list[torch.Tensor]:
        loader = training_loader(items, batch_size=4, seed=1, start=0, steps=8, workers=workers, **share)
        return [crops.labels for crops in loader]

    chosen = batches(TrainItems(frames, TrainAugment(augment), rare=rare))
    plain = batches(TrainItems(frames, TrainAugment(augment)))

    def held(some: list[torch.Tensor]) -> float:
        return float(torch.cat([(labels == 1).sum((1, 2)) >= 40 for labels in some]).float().mean())

    assert held(chosen) > 0.6 > 0.3 > held(plain)
    again = batches(TrainItems(frames, TrainAugment(augment), rare=rare), workers=2)
    assert all(torch.equal(a, b) for a, b in zip(chosen, again, strict=True))
    halves = [batches(TrainItems(frames, TrainAugment(augment), rare=rare), rank=rank, world=2) for rank in (0, 1)]
    for whole, first, second in zip(chosen, *halves, strict=True):
        assert torch.equal(whole, torch.stack([first[0], second[0], first[1], second[1]]))


def test_a_crop_is_drawn_ten_times_for_its_class_and_then_taken() -> None:
    label = np.zeros((40, 60), np.uint8)
    label[0, 0] = 1
    augment = TrainAugment(Augment(crop=(8, 8), scale=(1.0, 1.0), single_class_limit=1.0))
    image = np.zeros((40, 60, 3), np.uint8)
    assert augment(Sample(image, label), Wanted(1, 2)).labels.shape == (8, 8)


def test_a_recipe_chooses_rare_classes_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    recipe = small_recipe(tmp_path / "data", steps=4, rare={"pixels": 20, "temperature": 0.1, "share": 0.7})
    heard = Listener()
    whole = train(recipe, tmp_path / "whole", talk=heard).last
    assert any("70% of the crops are chosen by class, rare ones first" in text for text in heard.said)
    plain = train(small_recipe(tmp_path / "data", steps=4), tmp_path / "plain").last
    found, other = load_checkpoint(whole), load_checkpoint(plain)
    assert found.fingerprint != other.fingerprint
    again = train(recipe, tmp_path / "again").last
    assert load_checkpoint(again).fingerprint == found.fingerprint
