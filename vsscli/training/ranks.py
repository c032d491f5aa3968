"""Ranks of classes in a cell's prediction: which classes it surely is not."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.recipes.training import Contrast
from vsscli.talk import SILENCE, Talk

PUBLISHED = 3, 19
"""U2PL takes classes from rank 3 on, of the 19 of Cityscapes (and of VOC's 21)."""


class Ranks(NamedTuple):
    """Bounds of the windows, counted from 0.

    An unlabelled cell is a negative of classes ranked from ``low`` to before ``high``; a labelled one of those ranked
    before ``low`` that are not its own.
    """

    low: int
    high: int
    num_classes: int

    @property
    def listed(self) -> int:
        """How many ranked classes are needed to decide."""
        return self.low if self.high >= self.num_classes else self.high


def rank_bounds(settings: Contrast, num_classes: int, kept: int | None = None, talk: Talk = SILENCE) -> Ranks:
    """Bounds for a number of classes, of which a store keeps the ``kept`` likeliest of each pixel (None: all).

    Raises
    ------
    VssError
        There are too few classes to contrast, the window is empty, or the store keeps too few classes.
    """
    if num_classes < 2:
        raise VssError(
            "contrast needs at least two classes: with one, no pixel is surely of another",
            "leave `contrast` out of the recipe",
        )
    share = PUBLISHED[0] / PUBLISHED[1] * num_classes
    low = settings.low_rank or min(PUBLISHED[0], max(round(share), 1))
    high = min(settings.high_rank or num_classes, num_classes)
    if low >= high:
        raise VssError(
            f"none of {num_classes} classes has a rank from {low} to before {high}, so no unlabelled pixel would be a "
            "negative",
            "leave unlabelled.contrast.low_rank and high_rank out: the defaults adapt",
        )
    ranks = Ranks(low, high, num_classes)
    if kept is not None and kept < min(ranks.listed, num_classes - 1):
        raise VssError(
            f"ranks from {low} to before {high} of {num_classes} need the {ranks.listed} likeliest classes of each "
            f"pixel; the store keeps {kept}",
            "predict with more in store.kept, or leave unlabelled.contrast.high_rank out, which needs fewer",
        )
    because = "" if settings.low_rank or low == PUBLISHED[0] else f" ({PUBLISHED[0]} is for {PUBLISHED[1]} and more)"
    talk.say(
        f"an unreliable pixel is a negative of the {high - low} classes ranked from {low} to {high - 1} of "
        f"{num_classes}, counted from 0{because}"
    )
    return ranks


def rank_window(ranked: Tensor, low: int, high: int, num_classes: int) -> Tensor:
    """Which classes each cell ranks from ``low`` to before ``high``, counted from 0: (N, C) bool.

    ``ranked`` (N, K) int64 has each cell's classes, likeliest first, 255 for none. K is at least ``low``, and at least
    ``high`` if that is less than C: a class that is not listed ranks K or later.
    """
    ranked = ranked.clamp_max(num_classes)  # one column more for 255
    inside = torch.zeros(len(ranked), num_classes + 1, dtype=torch.bool, device=ranked.device)
    if high < num_classes:
        inside.scatter_(1, ranked[:, low:high], True)
    else:
        inside.scatter_(1, ranked[:, :low], True).logical_not_()
    return inside[:, :num_classes]
