"""Weak-to-strong consistency: what a teacher says of weak views, on strong views mixed by boxes (UniMatch V2)."""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vsscli.data.samples import Crops
from vsscli.data.strong import VIEWS
from vsscli.training.mixing import exchange, stay_outside

LEAST, MOST = 0.02, 0.4  # share of a crop that a box covers
ASPECT = 0.3  # least ratio of its sides


class Said(NamedTuple):
    """What a teacher says of crops: labels (B, H, W) uint8, 255 in padding, and whether it is sure, bool."""

    labels: Tensor
    sure: Tensor


class StrongCrops(NamedTuple):
    """Strong views, all first ones, then all second ones, with the labels of their pixels, and which are sure."""

    crops: Crops
    sure: Tensor


def mixed_views(crops: Crops, said: Said, share: float) -> StrongCrops:
    """Mix each strong view of crops with another crop's, by a box of its own for a ``share`` of them, and the teacher's
    labels as the images."""
    assert crops.strong is not None
    weak = crops._replace(labels=said.labels, strong=None)
    views, sure = [], []
    for view in range(VIEWS):
        height, width = said.labels.shape[1:]
        boxes = [box_or_none(share, height, width) for _ in said.labels]
        stays = stay_outside(boxes, height, width, said.labels.device)
        partner = int(torch.randint(1, max(2, len(stays)), ()))  # another crop, as many places further on for all
        own = weak._replace(images=crops.strong[:, view])
        swap = partial(exchange, stays=stays, frames=partner)
        views.append(own.each(swap, swap))
        sure.append(swap(said.sure))
    first, second = views
    images, labels, padding = (torch.cat(pair) for pair in zip(first[:3], second[:3], strict=True))
    return StrongCrops(Crops(images, labels, padding), torch.cat(sure))


def box_or_none(share: float, height: int, width: int) -> tuple[slice, slice] | None:
    """Rows and columns of a box of 2 to 40 % of the area with sides at a ratio of 0.3 to 1 / 0.3; None for all but a
    ``share`` of the calls. Drawn from torch's CPU generator."""
    if float(torch.rand(())) >= share:
        return None
    while True:
        area = height * width * (LEAST + (MOST - LEAST) * float(torch.rand(())))
        ratio = ASPECT + (1 / ASPECT - ASPECT) * float(torch.rand(()))
        down, across = max(1, round(math.sqrt(area * ratio))), max(1, round(math.sqrt(area / ratio)))
        if down <= height and across <= width:
            top, left = int(torch.randint(height - down + 1, ())), int(torch.randint(width - across + 1, ()))
            return slice(top, top + down), slice(left, left + across)
