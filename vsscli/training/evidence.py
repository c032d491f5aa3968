"""What is known of unlabelled crops: their labels, which of them to trust, and which classes a pixel surely is not.

Two teachers say it alike: a store of fused predictions, whose maps went through the crops' own geometry, or a moving
average of the student.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vsscli.data.classes import IGNORE
from vsscli.models.scores import ScoreKind, Scores, to_probabilities
from vsscli.store.header import MAX_LEVEL
from vsscli.training.contrast import label_mask
from vsscli.training.unsupervised import entropy_of, keep_sure, split_by_entropy


@dataclass(frozen=True)
class MapMeaning:
    """What the maps of a prediction store mean.

    Parameters
    ----------
    levels
        Up to which stored entropy a pixel is reliable: one number, or one for each of the C classes that it may be
        predicted as.
    kept
        How many places of its ranking are kept.
    """

    levels: tuple[int, ...]
    kept: int

    def reliable(self, label: Tensor, entropy: Tensor) -> Tensor:
        """Which pixels are reliable, bool, of labels (255 in padding) and stored entropies, uint8 of one shape."""
        if len(self.levels) == 1:
            return (entropy <= self.levels[0]) & (label != IGNORE)
        return _up_to(torch.tensor(self.levels, device=label.device), label, entropy)

    def surest(self, label: Tensor, entropy: Tensor, percent: float) -> Tensor:
        """The largest stored entropy of the surest per cent of these pixels, (1,), or of each class's pixels, (C,)."""
        classes = len(self.levels)
        known = label != IGNORE
        place = torch.where(known, label.long() if classes > 1 else 0, classes) * (MAX_LEVEL + 1) + entropy.long()
        counts = torch.zeros((classes + 1) * (MAX_LEVEL + 1), dtype=torch.int64, device=label.device)
        counts.scatter_add_(0, place.flatten(), torch.ones_like(place.flatten()))
        until = counts.view(classes + 1, -1)[:classes].cumsum(1).double()
        # A hair less, so that 80 % of 10 pixels are 8 and not 9, as where stores are thresholded.
        wanted = until[:, -1:] * (percent / 100 * (1 - 1e-12))
        return torch.searchsorted(until, wanted)[:, 0].clamp_max(MAX_LEVEL)


@dataclass(frozen=True)
class Narrowing:
    """U2PL's split at a time of the run, on stored entropies: per cent of the pixels that get no label, and that are
    reliable and unreliable for the contrast."""

    dropped: float
    share: float


@dataclass(frozen=True)
class Evidence:
    """Of unlabelled crops as the student will see them.

    Parameters
    ----------
    target
        (B, H, W) uint8, labels to learn; 255 where none.
    label
        (B, h, w) int64, the label of every cell, sure or not.
    reliable, unreliable
        (B, h, w) bool.
    ranked
        (N, K) int64, each cell's classes, likeliest first; 255 where a store lists no more.
    sure
        (N, C) bool, classes with enough probability for an anchor.
    """

    target: Tensor
    label: Tensor
    reliable: Tensor
    unreliable: Tensor
    ranked: Tensor
    sure: Tensor


def shrink(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps (..., H, W) at the cells' size: each cell takes the pixel that its centre lies in.

    U2PL takes pixel i H / h for cell i, where its networks, with ``align_corners=True``, have the cell. Here cells
    are enlarged with ``align_corners=False``, and that pixel lies half a cell off: of poles two labels in five were
    wrong.
    """
    down, across = (
        (2 * torch.arange(new, device=maps.device) + 1) * old // (2 * new)
        for new, old in zip(size, maps.shape[-2:], strict=True)
    )
    return maps[..., down, :][..., across]


def _up_to(levels: Tensor, label: Tensor, entropy: Tensor) -> Tensor:
    """Which pixels have an entropy of at most the level of their label, or of the one level there is; no padding."""
    return (entropy <= levels[label.long().clamp(max=len(levels) - 1)]) & (label != IGNORE)


def stored_target(maps: Tensor, meaning: MapMeaning, narrowing: Narrowing | None = None) -> Tensor:
    """The labels to learn (B, H, W) of stored maps (B, 3 + K, H, W), 255 where none; see `from_store`."""
    label, entropy = maps[:, 0], maps[:, 1]
    if narrowing is None:
        return torch.where(meaning.reliable(label, entropy), label, IGNORE)
    levels = meaning.surest(label, entropy, 100 - narrowing.dropped)
    return torch.where(_up_to(levels, label, entropy), label, IGNORE)


def from_store(
    maps: Tensor,
    size: tuple[int, int],
    meaning: MapMeaning,
    *,
    confidence: float,
    num_classes: int,
    narrowing: Narrowing | None = None,
) -> Evidence:
    """Evidence from stored maps.

    Parameters
    ----------
    maps
        (B, 3 + K, H, W) uint8 as `StoredEvidence` gives them: label, entropy, level of the label's probability, and
        the K likeliest classes. Padding is 255 throughout.
    size
        h, w of the cells.
    meaning
        Of the maps.
    confidence
        Probability that an anchor has at least.
    num_classes
        C.
    narrowing
        Who is reliable at this time of the run; none: whom the store says, and all others are unreliable.
    """
    target = stored_target(maps, meaning, narrowing)
    small = shrink(maps, size).movedim(1, 0)  # (3 + K, B, h, w)
    if narrowing is None:
        reliable = meaning.reliable(small[0], small[1])
        unreliable = ~reliable & (small[0] != IGNORE)
    else:
        label, entropy = maps[:, 0], maps[:, 1]
        sure, most = (meaning.surest(label, entropy, p) for p in (narrowing.share, 100 - narrowing.share))
        reliable = _up_to(sure, small[0], small[1])
        # Stored entropies are few, so many pixels have the very bound: these are not unreliable, or all could be.
        unreliable = ~_up_to(most, small[0], small[1]) & (small[0] != IGNORE)
    sure_enough = small[2].float() > confidence * MAX_LEVEL
    classes = small[0].long()
    return Evidence(
        target,
        classes,
        reliable,
        unreliable,
        small[3 : 3 + meaning.kept].flatten(1).T.long(),
        label_mask(torch.where(sure_enough, classes, IGNORE), num_classes),
    )


def from_teacher(
    scores: Scores,
    label: Tensor,
    *,
    size: tuple[int, int] | None = None,
    dropped: float,
    share: float,
    listed: int,
    confidence: float,
) -> Evidence:
    """Evidence from a teacher that has seen the very crops.

    Parameters
    ----------
    scores
        Of those crops.
    label
        (B, H, W) uint8 from before they were mixed; 255 in padding.
    size
        h, w of the cells; none: those of the scores.
    dropped, share
        Per cent of the pixels that get no label, and that are reliable and unreliable, at this time of the run.
    listed
        K, how many classes to rank.
    confidence
        Probability that an anchor has at least.
    """
    entropy = torch.stack([_entropy(scores, crop, label.shape[-2:]) for crop in range(len(label))])
    reliable, unreliable = split_by_entropy(entropy, label != IGNORE, share)
    size = size or (scores.values.shape[-2], scores.values.shape[-1])
    cells = cell_shares(scores, size)
    return Evidence(
        keep_sure(label, entropy, 100 - dropped),
        shrink(label, size).long(),
        shrink(reliable, size),
        shrink(unreliable, size),
        cells.topk(listed, dim=1).indices,
        cells > confidence,
    )


def cell_shares(scores: Scores, size: tuple[int, int]) -> Tensor:
    """Probabilities (N, C) of the cells of crops, h x w each.

    Scores may be finer than cells: masks that are resized to the image before they are added up.
    """
    if scores.values.shape[-2:] != size:
        scores = Scores(shrink(scores.values, size), scores.kind)
    return to_probabilities(scores).movedim(1, -1).flatten(0, 2)


def label_crops(scores: Scores, void: Tensor) -> Tensor:
    """The likeliest class of each pixel, (B, H, W) uint8, 255 where ``void`` (B, H, W) is."""
    size = void.shape[-2:]
    label = torch.stack([_upsampled(scores, crop, size).argmax(dim=1)[0] for crop in range(len(void))])
    return torch.where(void, IGNORE, label.to(torch.uint8))


def _entropy(scores: Scores, crop: int, size: torch.Size) -> Tensor:
    # One crop at a time: all of them at full size with every class are the largest thing a step would hold.
    values = _upsampled(scores, crop, size)
    return entropy_of(values.softmax(dim=1) if scores.kind is ScoreKind.LOGITS else values)[0]


def _upsampled(scores: Scores, crop: int, size: torch.Size) -> Tensor:
    """Logits, or probabilities, of one crop at full size, (1, C, H, W) float32."""
    values = scores.values[crop : crop + 1].float()
    if scores.kind is not ScoreKind.LOGITS:
        values = to_probabilities(Scores(values, scores.kind))
    return functional.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)
