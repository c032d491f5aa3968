"""Mixing unlabelled crops with one another (specs: U2PL section 7)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from vsscli.data.classes import IGNORE
from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.recipes.training import Unlabelled

Whole = Callable[[int, int], int]
"""Draws an integer from the first argument up to, not including, the second."""


def draw_whole(low: int, high: int) -> int:
    """Draw from torch's CPU generator, which never waits for the device."""
    return int(torch.randint(low, high, ()))


def cut_box(height: int, width: int, draw: Whole = draw_whole) -> tuple[slice, slice]:
    """Rows and columns of a box of half the area, anywhere (Yun et al. 2019, arXiv:1905.04899, as U2PL draws it)."""
    area = height * width / 2
    box_width = draw(width // 2 + 1, width)
    box_height = round(area / box_width)
    left = draw(0, width - box_width + 1)
    top = draw(0, height - box_height + 1)
    return slice(top, top + box_height), slice(left, left + box_width)


def box_masks(crops: int, height: int, width: int, device: torch.device, draw: Whole = draw_whole) -> Tensor:
    """For each crop, the pixels that stay its own: (B, H, W) bool."""
    return stay_outside([cut_box(height, width, draw) for _ in range(crops)], height, width, device)


def stay_outside(boxes: Sequence[tuple[slice, slice] | None], height: int, width: int, device: torch.device) -> Tensor:
    """The pixels outside of a box, one for each crop, or all: (B, H, W) bool, drawn on the device."""
    stays = torch.ones(len(boxes), height, width, dtype=torch.bool, device=device)
    for mask, box in zip(stays, boxes, strict=True):
        if box is not None:
            mask[box] = False
    return stays


def class_masks(label: Tensor, priority: Tensor | None = None) -> Tensor:
    """For each crop or clip (B, ..., H, W), the pixels of a random half of its classes (Olsson et al. 2020,
    arXiv:2007.07936), bool of the same shape.

    For an odd number of classes the smaller half; 255 counts as a class. The classes of lowest ``priority`` (B, 256)
    are chosen; by default it is random.
    """
    flat = label.flatten(1).long()
    if priority is None:
        priority = torch.rand(len(label), 256, device=label.device)
    present = torch.zeros(len(label), 256, dtype=torch.bool, device=label.device).scatter_(1, flat, True)
    place = torch.where(present, priority, torch.inf).argsort(dim=1).argsort(dim=1)
    chosen = present & (place < present.sum(1, keepdim=True) // 2)
    return chosen.gather(1, flat).view_as(label)


def exchange(maps: Tensor, stays: Tensor, frames: int = 1) -> Tensor:
    """Each crop where it stays its own, the next crop elsewhere, or of clips of ``frames`` the same frame of the next
    clip: maps (B, ..., H, W) of any type, stays (B, H, W)."""
    stays = stays.view(len(stays), *(1 for _ in maps.shape[1:-2]), *stays.shape[1:])
    return torch.where(stays, maps, maps.roll(-frames, dims=0))


def erase(maps: Tensor, stays: Tensor, fill: int = IGNORE) -> Tensor:
    """Each crop where it stays its own, ``fill`` elsewhere."""
    stays = stays.view(len(stays), *(1 for _ in maps.shape[1:-2]), *stays.shape[1:])
    return torch.where(stays, maps, torch.full((), fill, dtype=maps.dtype, device=maps.device))


def mixed(method: str, crops: Crops, frames: int = 1) -> Crops:
    """Mix crops by ``cutmix``, ``classmix`` (which chooses by their labels) or ``cutout``.

    ``frames`` of them, one after another, are a clip, whose frames are mixed alike.
    """
    labels = crops.labels.unflatten(0, (-1, frames))
    if method == "classmix":
        stays = class_masks(labels).flatten(0, 1)
    else:
        height, width = labels.shape[2:]
        stays = box_masks(len(labels), height, width, labels.device).repeat_interleave(frames, dim=0)
    if method == "cutout":
        # As in U2PL, erased pixels have no label; they are not padding.
        erased = crops.each(partial(erase, stays=stays, fill=0), partial(erase, stays=stays))
        return erased._replace(padding=erase(crops.padding, stays, 0))
    swap = partial(exchange, stays=stays, frames=frames)
    return crops.each(swap, swap)


def require_partners(settings: Unlabelled | None, world: int) -> None:
    """Refuse mixing if a process has only one crop, which would silently stay as it is."""
    if settings is None or settings.batch_size // world > 1:
        return
    if settings.method == "paper" and settings.mixing not in ("cutmix", "classmix"):
        return
    what = f"mixing {settings.mixing}" if settings.method == "paper" else f"method {settings.method}"
    raise VssError(
        f"unlabelled.{what} mixes the unlabelled crops of a process, and unlabelled.batch_size "
        f"{settings.batch_size} over {world} process{'es' if world > 1 else ''} leaves one for each",
        f"set unlabelled.batch_size to {2 * world} or more, use fewer --devices, or set mixing to cutout",
    )
