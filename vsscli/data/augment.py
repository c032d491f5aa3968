"""Training augmentation: random resize, random crop, flip and colour jitter; drawing is separate from applying.

A `Geometry` says which window of a frame becomes the crop. Drawing it needs only the frame's size, so that a frame, its
labels and related maps (a pseudo-label, entropy, ranks on a coarser grid) can be cropped by the same one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from vsscli.data.classes import IGNORE
from vsscli.data.config import Augment
from vsscli.data.samples import Crops, Sample, StoredPixels
from vsscli.data.strong import strong_colours, strong_views
from vsscli.errors import VssError

CROP_DRAWS = 10  # as in mmsegmentation's RandomCrop, which the paper's recipes use


@dataclass(frozen=True)
class Geometry:
    """How a frame of `size` (H, W) becomes a crop: cut out `window`, (top, left, height, width) in pixels of the frame,
    resize it to `resized`, at most `crop`, flip it, and pad it to `crop` at the bottom and right.

    Cutting before resizing saves the work outside of the window; the scale is rounded to whole pixels of the window.
    """

    size: tuple[int, int]
    window: tuple[int, int, int, int]
    resized: tuple[int, int]
    crop: tuple[int, int]
    flip: bool


@dataclass(frozen=True)
class Wanted:
    """A class, and the number of its pixels (of the frame) that a crop should hold."""

    number: int
    pixels: float

    def within(self, label: np.ndarray) -> bool:
        """Whether a part of a label map holds as many."""
        return bool((label == self.number).sum() >= self.pixels)


def draw_geometry(
    augment: Augment, size: tuple[int, int], label: np.ndarray | None = None, wanted: Wanted | None = None
) -> Geometry:
    """Draw a geometry for a frame of ``size`` (H, W) with torch's global generator.

    The position of the crop is drawn up to ten times, until no class covers more than ``augment.single_class_limit`` of
    its labelled pixels, some are labelled, and it holds enough of a wanted class; otherwise the last one is used.
    Without ``label``, (H, W) uint8, it is drawn once.
    """
    base = 1.0 if augment.size is None else augment.size / min(size)
    scale = base * _uniform(*augment.scale)
    flip = _uniform(0.0, 1.0) < augment.flip
    sides = [_window_side(length, scale, crop) for length, crop in zip(size, augment.crop, strict=True)]
    (height, resized_height), (width, resized_width) = sides
    for _ in range(CROP_DRAWS):
        top, left = _whole(size[0] - height), _whole(size[1] - width)
        part = None if label is None else label[top : top + height, left : left + width]
        if part is None or (_is_varied(part, augment.single_class_limit) and (wanted is None or wanted.within(part))):
            break
    return Geometry(size, (top, left, height, width), (resized_height, resized_width), augment.crop, flip)


def apply_image(image: np.ndarray, geometry: Geometry, colours: v2.Transform | None = None) -> Tensor:
    """Cut a crop out of a frame, (H, W, 3) uint8, bilinear with antialiasing: (3, *crop) uint8. `colours` are applied
    before padding with 0, so that the padding affects neither their statistics nor the result."""
    picture = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
    crop = functional.resized_crop(picture, *geometry.window, size=list(geometry.resized), antialias=True)
    if colours is not None:
        crop = colours(crop)
    if geometry.flip:
        crop = functional.horizontal_flip(crop)
    bottom, right = _padding(geometry)
    return functional.pad(crop, [0, 0, right, bottom]).as_subclass(Tensor).contiguous()


def apply_label(label: np.ndarray, geometry: Geometry, fill: int = IGNORE) -> Tensor:
    """Cut the same crop out of a label or any other map, (..., h, w), nearest neighbour by pixel centres: (..., *crop),
    padded with ``fill``. A map whose size differs from the frame's (a score grid) is taken to cover the frame."""
    top, left, height, width = geometry.window
    rows = _nearest(top, height, geometry.resized[0], geometry.size[0], label.shape[-2])
    columns = _nearest(left, width, geometry.resized[1], geometry.size[1], label.shape[-1])
    crop = tv_tensors.Mask(torch.from_numpy(label[..., rows, :][..., columns]))
    if geometry.flip:
        crop = functional.horizontal_flip(crop)
    bottom, right = _padding(geometry)
    return functional.pad(crop, [0, 0, right, bottom], fill=fill).as_subclass(Tensor).contiguous()


class TrainAugment:
    """The paper's augmentation of a frame and its maps, with random numbers of torch's global generator."""

    def __init__(self, augment: Augment, *, strong: bool = False) -> None:
        """With ``strong``, crops keep the colours of their frames, and come with two views that do not."""
        self.augment = augment.model_copy(update={"colour_jitter": 0.0}) if strong else augment
        augment, self.strong = self.augment, strong_colours() if strong else None
        jitter = v2.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)
        # In Pillow the same jitter takes two thirds of the time (hue is the expensive part).
        in_pillow = v2.Compose([v2.ToPILImage(), jitter, v2.PILToTensor()])
        self.colours = v2.RandomApply([in_pillow], p=augment.colour_jitter)

    def __call__(self, sample: Sample, wanted: Wanted | None = None) -> Crops:
        """Cut one crop out of a frame. Without labels, its position is drawn once, and all labels of the crop are void.

        Parameters
        ----------
        sample
            The frame.
        wanted
            As for `draw_geometry`.
        """
        return self._crop(sample, draw_geometry(self.augment, _size(sample), sample.labels, wanted))

    def clip(self, samples: Sequence[Sample]) -> list[Crops]:
        """Cut the same crop out of every frame of a clip, with the same colours; labels of the first decide where."""
        geometry = draw_geometry(self.augment, _size(samples[0]), samples[0].labels)
        drawn, crops = torch.get_rng_state(), []
        for sample in samples:
            if _size(sample) != geometry.size:
                raise VssError(
                    f"a clip has frames of {geometry.size[0]}x{geometry.size[1]} and of "
                    f"{sample.image.shape[0]}x{sample.image.shape[1]} (height x width)",
                    "make the frames of a video equal in size (`vss doctor --data ROOT` lists the others)",
                )
            torch.set_rng_state(drawn)
            crops.append(self._crop(sample, geometry))
        return crops

    def _crop(self, sample: Sample, geometry: Geometry) -> Crops:
        images = apply_image(sample.image, geometry, self.colours)
        padding = torch.ones(geometry.crop, dtype=torch.bool)
        padding[: geometry.resized[0], : geometry.resized[1]] = False
        if sample.labels is None:
            strong = None if self.strong is None else strong_views(images, padding, self.strong)
            return Crops(images, torch.full(geometry.crop, IGNORE, dtype=torch.uint8), padding, strong=strong)
        stored = sample.stored and StoredPixels[Tensor](*(apply_label(maps, geometry) for maps in sample.stored))
        return Crops(images, apply_label(sample.labels, geometry), padding, stored)


def _size(sample: Sample) -> tuple[int, int]:
    return sample.image.shape[0], sample.image.shape[1]


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))


def _whole(highest: int) -> int:
    return int(torch.randint(highest + 1, ()))


def _window_side(length: int, scale: float, crop: int) -> tuple[int, int]:
    """How many pixels of a side of `length` are cut out, and how many they are resized to."""
    scaled = max(round(length * scale), 1)
    resized = min(scaled, crop)
    return min(max(round(length * resized / scaled), 1), length), resized


def _is_varied(label: np.ndarray, limit: float) -> bool:
    counts = np.bincount(label.ravel(), minlength=256)
    counts[IGNORE] = 0
    return 0 < counts.max() <= limit * counts.sum()


def _nearest(start: int, length: int, resized: int, frame: int, side: int) -> np.ndarray:
    """For each of `resized` pixels, the one of a map's `side` cells that its centre is in, by integer arithmetic."""
    in_frame = start + (2 * np.arange(resized) + 1) * length // (2 * resized)
    return (2 * in_frame + 1) * side // (2 * frame)


def _padding(geometry: Geometry) -> tuple[int, int]:
    return geometry.crop[0] - geometry.resized[0], geometry.crop[1] - geometry.resized[1]
