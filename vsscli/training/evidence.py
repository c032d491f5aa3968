"""What is known of unlabelled crops: labels, which of them are reliable, and which classes a pixel surely is not.

There are two sources: a store of fused predictions, cropped with the image; and a moving average of the student. Labels
that are given and final need none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from vsscli.data.classes import IGNORE
from vsscli.data.samples import Crops
from vsscli.models.constants import on_device
from vsscli.models.scores import ScoreKind, Scores, to_probabilities
from vsscli.store.header import MAX_LEVEL
from vsscli.training.contrast import label_mask
from vsscli.training.losses import total
from vsscli.training.ranks import Ranks
from vsscli.training.unsupervised import entropy_of, keep_sure, narrowing_share, split_by_entropy


@dataclass(frozen=True)
class StoreMeaning:
    """What a prediction store's levels mean.

    A pixel is reliable if its entropy is at most a level: ``levels`` has one for all pixels, or one for each of the C
    classes. ``kept`` is the number of ranked classes per pixel.
    """

    levels: tuple[int, ...]
    kept: int

    def reliable(self, label: Tensor, entropy: Tensor) -> Tensor:
        """Which pixels are reliable, bool, from labels (255 in padding) and stored entropies, uint8 of one shape."""
        if len(self.levels) == 1:
            return (entropy <= self.levels[0]) & (label != IGNORE)
        return _at_most(on_device(self.levels, label.device), label, entropy)

    def surest(self, label: Tensor, entropy: Tensor, percent: float) -> Tensor:
        """The largest stored entropy among the surest per cent of all processes' pixels, (1,), or of each class's."""
        classes = len(self.levels)
        known = label != IGNORE
        place = torch.where(known, label.long() if classes > 1 else 0, classes) * (MAX_LEVEL + 1) + entropy.long()
        counts = torch.zeros((classes + 1) * (MAX_LEVEL + 1), dtype=torch.int64, device=label.device)
        counts.scatter_add_(0, place.flatten(), torch.ones_like(place.flatten()))
        until = total(counts).view(classes + 1, -1)[:classes].cumsum(1).double()
        # Slightly less, so that 80 % of 10 pixels are 8 and not 9, as in `fusion.threshold`.
        wanted = until[:, -1:] * (percent / 100 * (1 - 1e-12))
        return torch.searchsorted(until, wanted)[:, 0].clamp_max(MAX_LEVEL)


class Narrowing(NamedTuple):
    """U2PL's split at a point of the run: per cent of the pixels that get no label (``dropped``), and that are reliable
    and unreliable for the contrast (``share``)."""

    dropped: float
    share: float

    @classmethod
    def at(cls, progress: float, drop: float, sure: float) -> Narrowing:
        """The split at a fraction of the run, from the shares at its start."""
        return cls(narrowing_share(drop, progress), narrowing_share(sure, progress))


class CellEvidence(NamedTuple):
    """What is known of N cells, h x w of each crop.

    ``label`` (B, h, w) int64 is 255 where there is none, and ``reliable`` and ``unreliable`` (B, h, w) are bool.
    ``ranked`` (N, K) int64 has the classes, likeliest first, 255 where a store lists no more; ``sure`` (N, C) bool,
    which have enough probability for an anchor.
    """

    label: Tensor
    reliable: Tensor
    unreliable: Tensor
    ranked: Tensor
    sure: Tensor


class Evidence(Protocol):
    """What is known of unlabelled crops as the student will see them."""

    @property
    def target(self) -> Tensor:
        """Labels to learn, (B, H, W) uint8; 255 for none."""
        ...

    @property
    def certainty(self) -> Tensor:
        """1 minus the normalised entropy of each pixel, (B, H, W) float32 in [0, 1]."""
        ...

    def cells(self, size: tuple[int, int], ranks: Ranks, confidence: float) -> CellEvidence:
        """What is known of the cells, (h, w) per crop; an anchor has at least this confidence."""
        ...


@dataclass(frozen=True)
class StoredEvidence:
    """What a prediction store says of crops, whose labels are 255 where nothing is known.

    ``narrowing`` decides which pixels are reliable at this point of the run. Without it the store's levels do, and all
    other pixels are unreliable.
    """

    crops: Crops
    meaning: StoreMeaning
    narrowing: Narrowing | None = None

    @property
    def target(self) -> Tensor:
        """The labels of the reliable pixels, or with narrowing of all but the dropped ones."""
        labels, entropy = self.crops.labels, self._entropy
        if self.narrowing is None:
            return torch.where(self.meaning.reliable(labels, entropy), labels, IGNORE)
        levels = self.meaning.surest(labels, entropy, 100 - self.narrowing.dropped)
        return torch.where(_at_most(levels, labels, entropy), labels, IGNORE)

    @property
    def certainty(self) -> Tensor:
        """That of the stored entropies."""
        return 1.0 - self._entropy.float() / MAX_LEVEL

    def cells(self, size: tuple[int, int], ranks: Ranks, confidence: float) -> CellEvidence:
        """Those of the pixels at the cells' centres."""
        assert self.crops.stored is not None
        entropy, level, ranked = (shrink(maps, size) for maps in self.crops.stored)
        label = shrink(self.crops.labels, size)
        if self.narrowing is None:
            reliable = self.meaning.reliable(label, entropy)
            unreliable = ~reliable & (label != IGNORE)
        else:
            share = self.narrowing.share
            sure, most = (self.meaning.surest(self.crops.labels, self._entropy, p) for p in (share, 100 - share))
            reliable = _at_most(sure, label, entropy)
            # Stored entropies take few values, so many pixels lie exactly on the bound; if these counted, all might.
            unreliable = ~_at_most(most, label, entropy) & (label != IGNORE)
        classes = label.long()
        sure_enough = torch.where(level.float() > confidence * MAX_LEVEL, classes, IGNORE)
        listed = ranked.movedim(1, 0).flatten(1).T.long()
        return CellEvidence(classes, reliable, unreliable, listed, label_mask(sure_enough, ranks.num_classes))

    @property
    def _entropy(self) -> Tensor:
        assert self.crops.stored is not None
        return self.crops.stored.entropy


class TeacherEvidence:
    """What a teacher says of the crops themselves: its scores, and labels (B, H, W) uint8 from before mixing, 255 where
    nothing is known."""

    def __init__(self, scores: Scores, labels: Tensor, narrowing: Narrowing) -> None:
        self._scores, self._labels, self._narrowing = scores, labels, narrowing
        size = labels.shape[-2:]
        self._entropy = torch.cat([entropy_of(_shares(scores, crop, size)) for crop in range(len(labels))])

    @property
    def target(self) -> Tensor:
        """The labels of all but the least sure pixels."""
        return keep_sure(self._labels, self._entropy, 100 - self._narrowing.dropped)

    @property
    def certainty(self) -> Tensor:
        """That of the teacher's entropies."""
        return (1.0 - self._entropy / math.log(self._scores.values.shape[1])).clamp(0.0, 1.0)

    def cells(self, size: tuple[int, int], ranks: Ranks, confidence: float) -> CellEvidence:
        """Those of the pixels at the cells' centres, and the teacher's own probabilities."""
        reliable, unreliable = split_by_entropy(self._entropy, self._labels != IGNORE, self._narrowing.share)
        shares = cell_shares(self._scores, size)
        return CellEvidence(
            shrink(self._labels, size).long(),
            shrink(reliable, size),
            shrink(unreliable, size),
            shares.topk(ranks.listed, dim=1).indices,
            shares > confidence,
        )


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (..., H, W) at the cells' size: each cell takes the pixel at its centre.

    U2PL takes pixel i H / h for cell i, where its networks, with ``align_corners=True``, have the cell. Here cells
    are enlarged with ``align_corners=False``, and that pixel is half a cell off: two in five labels of poles were
    wrong.
    """
    down, across = (
        (2 * torch.arange(new, device=maps.device) + 1) * old // (2 * new)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., down, :][..., across]


def _at_most(levels: Tensor, label: Tensor, entropy: Tensor) -> Tensor:
    """Which pixels have an entropy of at most their label's level, or the only level; never padding."""
    return (entropy <= levels[label.long().clamp(max=len(levels) - 1)]) & (label != IGNORE)


def cell_shares(scores: Scores, size: tuple[int, int]) -> Tensor:
    """Probabilities (N, C) of the cells of crops, h x w each.

    Scores may be finer than cells, if masks are resized to the image before they are summed.
    """
    if scores.values.shape[-2:] != size:
        scores = Scores(shrink(scores.values, size), scores.kind)
    return to_probabilities(scores).movedim(1, -1).flatten(0, 2)


def label_crops(scores: Scores, void: Tensor) -> Tensor:
    """The likeliest class of each pixel, (B, H, W) uint8, 255 where ``void`` (B, H, W) is True."""
    size = void.shape[-2:]
    label = torch.stack([_upsampled(scores, crop, size).argmax(dim=1)[0] for crop in range(len(void))])
    return torch.where(void, IGNORE, label.to(torch.uint8))


def sure_labels(scores: Scores, void: Tensor, confidence: float) -> tuple[Tensor, Tensor]:
    """As `label_crops`, and whether the class has at least a probability, (B, H, W) bool; not where ``void``."""
    labels, sure = [], []
    for crop, outside in enumerate(void):
        largest, label = _shares(scores, crop, outside.shape)[0].max(dim=0)
        labels.append(torch.where(outside, IGNORE, label.to(torch.uint8)))
        sure.append((largest >= confidence) & ~outside)
    return torch.stack(labels), torch.stack(sure)


def _shares(scores: Scores, crop: int, size: torch.Size) -> Tensor:
    """Probabilities of one crop at full size, (1, C, H, W) float32."""
    values = _upsampled(scores, crop, size)
    return values.softmax(dim=1) if scores.kind is ScoreKind.LOGITS else values


def _upsampled(scores: Scores, crop: int, size: torch.Size) -> Tensor:
    """Logits, or probabilities, of one crop at full size, (1, C, H, W) float32.

    One crop at a time: all of them at full size with every class would be the largest tensor of a step.
    """
    values = scores.values[crop : crop + 1].float()
    if scores.kind is not ScoreKind.LOGITS:
        values = to_probabilities(Scores(values, scores.kind))
    return functional.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)
