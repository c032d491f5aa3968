"""Training augmentation: geometries, applied alike to frame, label and maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from vsscli.data import augment as augment_module
from vsscli.data.augment import CROP_DRAWS, Geometry, TrainAugment, apply_image, apply_label, draw_geometry
from vsscli.data.config import Augment
from vsscli.data.samples import Sample

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(1, 256, (36, 48, 3), dtype=np.uint8)  # no 0, to distinguish it from padding
LABEL = RNG.integers(0, 11, (36, 48), dtype=np.uint8)


def whole(size: tuple[int, int], flip: bool = False) -> Geometry:
    return Geometry(size, (0, 0, *size), size, size, flip)


def geometries(augment: Augment, size: tuple[int, int], count: int = 200) -> list[Geometry]:
    torch.manual_seed(0)
    return [draw_geometry(augment, size) for _ in range(count)]


def test_the_whole_frame_at_scale_one_is_the_frame() -> None:
    assert np.array_equal(apply_image(IMAGE, whole((36, 48))).permute(1, 2, 0), IMAGE)
    assert np.array_equal(apply_label(LABEL, whole((36, 48))), LABEL)


def test_a_crop_is_cut_resized_flipped_and_padded_in_that_order() -> None:
    label = np.array([[9, 9, 9, 9], [9, 1, 2, 9], [9, 3, 4, 9]], dtype=np.uint8)
    geometry = Geometry((3, 4), (1, 1, 2, 2), (4, 4), (5, 6), flip=True)
    expected = [
        [2, 2, 1, 1, 255, 255],
        [2, 2, 1, 1, 255, 255],
        [4, 4, 3, 3, 255, 255],
        [4, 4, 3, 3, 255, 255],
        [255, 255, 255, 255, 255, 255],
    ]
    assert apply_label(label, geometry).tolist() == expected
    image = apply_image(np.repeat(label[..., None], 3, axis=2), geometry)
    padding = np.array(expected) == 255
    assert (image[:, padding] == 0).all()
    assert (image[:, ~padding] > 0).all()


@pytest.mark.parametrize("size", [(36, 48), (300, 20), (1, 1), (500, 700)])
def test_crops_have_the_size_asked_for_whatever_the_frame(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    augment = TrainAugment(Augment(crop=(40, 56)))
    for _ in range(10):
        image, label, padding, *_ = augment(Sample(np.full((*size, 3), 200, np.uint8), np.full(size, 3, np.uint8)))
        assert image.shape == (3, 40, 56)
        assert image.dtype == torch.uint8
        assert image.is_contiguous()
        assert label.shape == (40, 56)
        assert label.dtype == torch.uint8
        assert label.is_contiguous()
        assert type(image) is torch.Tensor
        assert type(label) is torch.Tensor
        assert torch.equal(label == 255, padding)
        assert torch.equal((image == 0).all(dim=0), padding)


def test_cutting_before_resizing_gives_what_resizing_the_whole_frame_gives() -> None:
    frame = np.stack([np.add.outer(np.arange(60) * 2, np.arange(80))] * 3, axis=2).astype(np.uint8)
    for factor, resized in ((2, (40, 60)), (0.5, (10, 15))):
        height, width = int(resized[0] / factor), int(resized[1] / factor)
        crop = apply_image(frame, Geometry((60, 80), (10, 20, height, width), resized, resized, False))
        frame_resized = functional.resize(
            torch.from_numpy(frame).permute(2, 0, 1), [int(60 * factor), int(80 * factor)]
        )
        top, left = int(10 * factor), int(20 * factor)
        expected = frame_resized[:, top : top + resized[0], left : left + resized[1]]
        difference = (crop.int() - expected.int()).abs()[:, 2:-2, 2:-2]
        assert difference.max() <= 1


@pytest.mark.parametrize("resized", [(18, 24), (25, 33), (72, 96), (36, 48)])
def test_labels_are_resized_by_the_nearest_pixel_centre(resized: tuple[int, int]) -> None:
    expected = interpolate(torch.from_numpy(LABEL)[None, None].float(), resized, mode="nearest-exact")[0, 0]
    assert torch.equal(apply_label(LABEL, Geometry((36, 48), (0, 0, 36, 48), resized, resized, False)), expected.byte())


def test_image_and_label_stay_on_top_of_each_other() -> None:
    label = np.kron(RNG.integers(0, 8, (6, 8)), np.ones((24, 24))).astype(np.uint8)
    image = np.repeat(30 * label[..., None] + 10, 3, axis=2)
    augment = TrainAugment(Augment(crop=(64, 64), colour_jitter=0))
    torch.manual_seed(0)
    for _ in range(30):
        crop, cropped_label, *_ = augment(Sample(image, label))
        seen = cropped_label != 255
        agree = (crop[0][seen].int() - (30 * cropped_label[seen].int() + 10)).abs() < 15
        assert agree.float().mean() > 0.88  # the rest are edges, which bilinear resizing softens


def test_scales_fill_their_range() -> None:
    drawn = geometries(Augment(crop=(100, 100)), (400, 400))
    scales = np.array([geometry.resized[0] / geometry.window[2] for geometry in drawn])
    assert scales.min() > 0.49
    assert scales.max() < 2.01
    counts, _ = np.histogram(scales, bins=3, range=(0.5, 2.0))
    assert counts.min() > 40  # of 200: uniform gives 67 each


def test_scale_one_is_the_short_side_asked_for() -> None:
    for geometry in geometries(Augment(crop=(60, 60), size=72, scale=(1, 1)), (36, 48), 20):
        assert geometry.window[2:] == (30, 30)
        assert geometry.resized == (60, 60)


def test_windows_lie_in_the_frame_and_reach_its_corners() -> None:
    drawn = geometries(Augment(crop=(20, 20), scale=(0.8, 1.25)), (36, 48), 400)
    tops = {geometry.window[0] for geometry in drawn}
    assert min(tops) == 0
    for geometry in drawn:
        top, left, height, width = geometry.window
        assert 0 <= top <= 36 - height
        assert 0 <= left <= 48 - width
    assert any(geometry.window[0] + geometry.window[2] == 36 for geometry in drawn)
    assert any(geometry.window[1] + geometry.window[3] == 48 for geometry in drawn)


@pytest.mark.parametrize("often", [0.0, 1.0])
def test_flips_happen_as_often_as_asked(often: float) -> None:
    assert {geometry.flip for geometry in geometries(Augment(flip=often), (36, 48), 30)} == {bool(often)}


def test_crops_of_mostly_one_class_are_drawn_again() -> None:
    label = np.zeros((100, 100), np.uint8)
    label[:, 60:] = 1
    label[:50, :] = 255  # void does not count
    torch.manual_seed(0)
    augment = Augment(crop=(30, 30), scale=(1, 1))
    shares = []
    for _ in range(100):
        top, left, height, width = draw_geometry(augment, (100, 100), label).window
        counts = np.bincount(label[top : top + height, left : left + width].ravel(), minlength=256)[:2]
        shares.append(counts.max() / counts.sum() if counts.sum() else 1.0)
    # One place in six is so varied: ten draws miss them all one time in six.
    assert np.mean(np.array(shares) <= 0.75) > 0.6


def test_a_frame_of_one_class_is_taken_after_ten_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[int] = []

    def count(highest: int) -> int:
        draws.append(highest)
        return 0

    monkeypatch.setattr(augment_module, "_whole", count)
    draw_geometry(Augment(crop=(20, 20)), (36, 48), np.full((36, 48), 7, np.uint8))
    assert len(draws) == 2 * CROP_DRAWS


def test_one_class_may_cover_exactly_the_limit() -> None:
    label = np.array([[0, 0, 0, 1]], np.uint8)
    assert augment_module._is_varied(label, 0.75)
    assert not augment_module._is_varied(label, 0.74)
    assert not augment_module._is_varied(np.full((2, 2), 255, np.uint8), 0.75)


def test_maps_on_a_coarser_grid_go_through_the_same_geometry() -> None:
    grid = RNG.integers(0, 250, (5, 18, 24)).astype(np.uint16)
    dense = grid.repeat(2, axis=1).repeat(2, axis=2)
    for geometry in geometries(Augment(crop=(32, 40)), (36, 48), 30):
        from_grid, from_dense = apply_label(grid, geometry, fill=999), apply_label(dense, geometry, fill=999)
        assert from_grid.dtype == torch.uint16
        assert from_grid.shape == (5, 32, 40)
        assert np.array_equal(from_grid.numpy(), from_dense.numpy())


def test_colours_change_while_padding_and_geometry_do_not() -> None:
    geometry = Geometry((36, 48), (0, 0, 36, 48), (36, 48), (50, 60), False)
    augment = TrainAugment(Augment(colour_jitter=1.0))
    torch.manual_seed(0)
    plain, jittered = apply_image(IMAGE, geometry), apply_image(IMAGE, geometry, augment.colours)
    assert not torch.equal(plain, jittered)
    assert (jittered[:, 36:] == 0).all()
    assert (jittered[:, :, 48:] == 0).all()
    kept = TrainAugment(Augment(colour_jitter=0.0)).colours
    assert torch.equal(apply_image(IMAGE, geometry, kept), plain)


def test_torchs_generator_decides_everything() -> None:
    augment = TrainAugment(Augment(crop=(32, 32)))
    crops = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        crops.append(augment(Sample(IMAGE, LABEL)))
    assert torch.equal(crops[0][0], crops[1][0])
    assert torch.equal(crops[0][1], crops[1][1])
    assert not torch.equal(crops[0][0], crops[2][0])
