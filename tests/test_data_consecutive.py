"""Clips of consecutive frames: which frames each has, and one augmentation for all of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import TrainItems
from vsscli.data.config import Augment
from vsscli.data.consecutive import Clips
from vsscli.data.loader import training_loader
from vsscli.data.samples import Crops, Sample
from vsscli.errors import VssError


class Frames:
    """Frames whose pixels are all their number."""

    def __init__(self, *lengths: int) -> None:
        self.lengths = lengths

    def __len__(self) -> int:
        return sum(self.lengths)

    def load(self, index: int) -> Sample:
        return Sample(np.full((12, 16, 3), index, np.uint8), np.full((12, 16), index, np.uint8))


def loaded(items: TrainItems, start: int = 0, workers: int = 0, **share: int) -> list[Crops]:
    return list(training_loader(items, batch_size=2, seed=3, start=start, steps=4, workers=workers, **share))


def test_a_clip_begins_at_every_frame_that_has_enough_after_it() -> None:
    clips = Clips([4, 1, 2, 3], 3)
    assert [clips.numbers(number) for number in range(len(clips))] == [
        [0, 1, 2],
        [1, 2, 3],
        [4, 4, 4],  # an image
        [5, 5, 6],  # a short video's frames are repeated evenly
        [7, 8, 9],
    ]
    assert clips.short == 2
    assert [Clips([2, 1], 1).numbers(number) for number in range(3)] == [[0], [1], [2]]


def test_batches_hold_clips_frame_by_frame_whoever_loads_them() -> None:
    items = TrainItems(Frames(7, 5), TrainAugment(Augment(crop=(8, 8), scale=(1.0, 1.0), colour_jitter=0.0)), clip=3)
    batches = loaded(items)
    for crops in batches:
        assert crops.images.shape == (6, 3, 8, 8)
        for clip in crops.labels.unflatten(0, (2, 3)):
            first = int(clip[0, 0, 0])
            assert [int(frame.unique()) for frame in clip] == [first, first + 1, first + 2]
            assert first + 2 < 7 or first >= 7
    again = loaded(items, start=2, workers=2)
    assert all(torch.equal(own.images, other.images) for own, other in zip(batches[2:], again, strict=True))
    halves = [loaded(items, rank=rank, world=2) for rank in (0, 1)]
    for whole, left, right in zip(batches, *halves, strict=True):
        assert torch.equal(whole.images, torch.cat([left.images, right.images]))


def test_all_frames_of_a_clip_have_one_crop_and_one_colour() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (24, 32, 3), np.uint8)
    augment = TrainAugment(Augment(crop=(16, 16), colour_jitter=1.0))
    for seed in range(3):
        torch.manual_seed(seed)
        first, second = augment.clip([Sample(image, image[..., 0]), Sample(image.copy(), image[..., 0].copy())])
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)
        torch.manual_seed(seed)
        assert torch.equal(augment(Sample(image, image[..., 0])).images, first.images)  # as of a single frame
    with pytest.raises(VssError, match=r"frames of 24x32 and of 12x16"):
        augment.clip([Sample(image, None), Frames(1).load(0)])
