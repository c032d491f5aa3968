"""Mixing unlabelled crops with one another (specs: U2PL section 7)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vsscli.data.classes import IGNORE

Whole = Callable[[int, int], int]
"""A whole number from the first to before the second."""


def draw_whole(low: int, high: int) -> int:
    """With torch's generator of the CPU, which the device is not waited for."""
    return int(torch.randint(low, high, ()))


def cut_box(height: int, width: int, draw: Whole = draw_whole) -> tuple[slice, slice]:
    """Rows and columns of a box of half the area, anywhere (Yun et al. 2019, arXiv:1905.04899, as U2PL draws it)."""
    area = height * width / 2
    box_width = draw(width // 2 + 1, width)
    box_height = round(area / box_width)
    left = draw(0, width - box_width + 1)
    top = draw(0, height - box_height + 1)
    return slice(top, top + box_height), slice(left, left + box_width)


def box_masks(crops: int, height: int, width: int, draw: Whole = draw_whole) -> Tensor:
    """For each crop, where it stays itself: (B, H, W) bool, on the CPU."""
    stays = torch.ones(crops, height, width, dtype=torch.bool)
    for mask in stays:
        mask[cut_box(height, width, draw)] = False
    return stays


def class_masks(label: Tensor, priority: Tensor | None = None) -> Tensor:
    """For each crop, the pixels of a random half of its classes (Olsson et al. 2020, arXiv:2007.07936).

    Parameters
    ----------
    label
        (B, H, W) uint8; 255 counts as a class.
    priority
        (B, 256) by which classes are chosen, lowest first; none: drawn.

    Returns
    -------
    Tensor
        (B, H, W) bool. Of an odd number of classes the smaller half.
    """
    flat = label.flatten(1).long()
    if priority is None:
        priority = torch.rand(len(label), 256, device=label.device)
    present = torch.zeros(len(label), 256, dtype=torch.bool, device=label.device).scatter_(1, flat, True)
    place = torch.where(present, priority, torch.inf).argsort(dim=1).argsort(dim=1)
    chosen = present & (place < present.sum(1, keepdim=True) // 2)
    return chosen.gather(1, flat).view_as(label)


def exchange(maps: Tensor, stays: Tensor) -> Tensor:
    """Each crop where it stays itself, the next one elsewhere: maps (B, ..., H, W) of any type, stays (B, H, W)."""
    stays = stays.view(len(stays), *(1 for _ in maps.shape[1:-2]), *stays.shape[1:])
    return torch.where(stays, maps, maps.roll(-1, dims=0))


def erase(maps: Tensor, stays: Tensor, fill: int = IGNORE) -> Tensor:
    """Each crop where it stays itself, ``fill`` elsewhere."""
    stays = stays.view(len(stays), *(1 for _ in maps.shape[1:-2]), *stays.shape[1:])
    return torch.where(stays, maps, torch.full((), fill, dtype=maps.dtype, device=maps.device))


def mix(method: str, images: Tensor, maps: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Mix normalised images (B, 3, H, W) and what belongs to them, maps (B, L, H, W) uint8.

    Parameters
    ----------
    method
        ``cutmix``, ``classmix`` or ``cutout``.
    label
        (B, H, W) uint8, what ClassMix chooses by.
    """
    stays = class_masks(label) if method == "classmix" else box_masks(*label.shape).to(label.device, non_blocking=True)
    if method == "cutout":
        return erase(images, stays, 0), erase(maps, stays)
    return exchange(images, stays), exchange(maps, stays)
