"""Bipartite matching of queries and the classes of an image: target masks, points, the assignment of least cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from vsscli.data.classes import IGNORE
from vsscli.data.samples import present_labels
from vsscli.errors import VssError
from vsscli.models.constants import on_device
from vsscli.models.outputs import IMAGES, Clip, QueryPrediction

Void = Literal["negative", "ignored"]
"""How mask losses take pixels without a label: as outside all masks, or not at all."""

Draw = Callable[[tuple[int, int, int], torch.device], Tensor]  # uniform numbers in [0, 1) of a shape, on a device


def draw_uniform(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Draw from torch's global generator."""
    return torch.rand(shape, device=device)


class Seen(NamedTuple):
    """An image, and the classes that are matched in it."""

    image: int
    classes: tuple[int, ...]


@dataclass(frozen=True)
class TargetMasks:
    """The masks of a batch, one for each class that an image has; not stored, but sampled from the label maps.

    A pixel without a label (255) belongs to no mask: all are 0 there (specs: mask2former.md, Losses). ``void`` says
    whether it counts as outside all masks, as published, or not at all. Labels are (B, H, W); classes are those
    that each image has, ascending; every frame of a clip has those of all its frames, with empty masks where one is
    absent. ``seen`` says of each clip, or image, in which images which of its classes are matched. ``weights`` (B, H,
    W) float32, 0 to 1, say how much each pixel counts, where ``void`` is ignored; None: alike.

    In all methods ``image`` is an index in the batch, or int64 indices that broadcast with the points (..., 2),
    which are x and y as fractions of width and height.
    """

    labels: Tensor
    classes: tuple[tuple[int, ...], ...]
    void: Void = "negative"
    seen: tuple[tuple[Seen, ...], ...] = ()
    weights: Tensor | None = None

    @property
    def places(self) -> list[Seen]:
        """Everything that is matched, clip by clip."""
        return [place for clip in self.seen for place in clip]

    def sample(self, image: int | Tensor, points: Tensor, classes: Tensor) -> Tensor:
        """Sample masks bilinearly, with zeros around them, each pixel by its weight; classes are int64, and the result
        is float32 of the shape that points and classes broadcast to."""
        total = torch.zeros((), device=points.device)
        for share, label, weight in self._around(image, points):
            total = total + share * (label == classes) * weight
        return total

    def counted(self, image: int | Tensor, points: Tensor) -> Tensor | None:
        """The weights of points: the interpolated weight, 0 without a label, of the pixels around them; None if all
        weigh 1.

        A point between a pixel with a label and one without counts in part, so that its loss is the pixels' losses,
        interpolated as the masks are. Pixels beyond the image are left out. Where pixels count alike, the weight is
        exactly 1 away from void, and it is always exactly 0 within it.
        """
        if self.void == "negative":
            return None
        inside = lost = torch.zeros((), device=points.device)
        for share, label, weight in self._around(image, points):
            lacks = label == IGNORE if self.weights is None else torch.where(label == IGNORE, 1.0, 1.0 - weight)
            inside, lost = inside + share, lost + share * lacks
        return 1.0 - lost / inside

    def within_void(self, image: int | Tensor, points: Tensor) -> Tensor | None:
        """Whether points have weight 0 (see `counted`, which costs more): no pixel around them has a label."""
        if self.void == "negative":
            return None
        height, width = self.labels.shape[-2:]
        # For each corner of the pixel grid, whether one of the four pixels around it has a label.
        labelled = functional.pad((self.labels != IGNORE).float()[:, None], (1, 1, 1, 1))
        known = functional.max_pool2d(labelled, 2, stride=1)[:, 0] > 0  # (B, H + 1, W + 1)
        column = (points[..., 0] * width + 0.5).long().clamp(0, width)
        row = (points[..., 1] * height + 0.5).long().clamp(0, height)
        return ~known[image, row, column]

    def _around(self, image: int | Tensor, points: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor | float]]:
        """The four pixels around points: bilinear share, 0 beyond the image, label, and weight."""
        height, width = self.labels.shape[-2:]
        x = points[..., 0] * width - 0.5
        y = points[..., 1] * height - 0.5
        left, top = x.floor(), y.floor()
        for down in (0, 1):
            for right in (0, 1):
                column, row = left + right, top + down
                share = (1.0 - (x - column).abs()) * (1.0 - (y - row).abs())
                share = share * ((column >= 0) & (column < width) & (row >= 0) & (row < height))
                column, row = column.clamp(0, width - 1).long(), row.clamp(0, height - 1).long()
                weight = 1.0 if self.weights is None else self.weights[image, row, column]
                yield share, self.labels[image, row, column].long(), weight


def target_masks(
    labels: Tensor,
    num_classes: int,
    void: Void = "negative",
    clip: Clip = IMAGES,
    present: Tensor | None = None,
    weights: Tensor | None = None,
) -> TargetMasks:
    """Find the classes of each label map (B, H, W), uint8 or int64; refuse one beyond the network's.

    ``present`` (`data.samples.Crops.present`) says on the host which labels occur; without it this waits for the
    device.

    In a clip, each class is matched in the frame where it first appears; as published, in the clip's first frame, even
    if it is absent there (specs: videomt.md, Matching).
    """
    known = (present_labels(labels).cpu() if present is None else present).numpy().copy()
    known[:, IGNORE] = False
    surplus = np.flatnonzero(known[:, num_classes:].any(axis=0))
    if len(surplus):
        raise VssError(
            f"a label map has the value {num_classes + int(surplus[0])}; the network knows {num_classes} classes",
            "train with the class table that the masks were made for, or remap them with `vss remap`",
        )
    own = [tuple(np.flatnonzero(row).tolist()) for row in known]
    classes, seen = [], []
    for start in range(0, len(own), clip.frames):
        frames = own[start : start + clip.frames]
        every = tuple(sorted({number for frame in frames for number in frame}))
        classes += [every] * len(frames)
        seen.append((Seen(start, every),) if clip.published else _first_seen(frames, start))
    return TargetMasks(labels, tuple(classes), void, tuple(seen), weights)


def _first_seen(frames: Sequence[tuple[int, ...]], start: int) -> tuple[Seen, ...]:
    """The classes that each frame of a clip has and none before it; the first frame always, even without any."""
    seen: list[Seen] = []
    known: set[int] = set()
    for number, frame in enumerate(frames):
        new = tuple(sorted(set(frame) - known))
        known |= set(new)
        if new or number == 0:
            seen.append(Seen(start + number, new))
    return tuple(seen)


@dataclass(frozen=True)
class Matches:
    """Matched queries of one layer, image by image, ascending within an image: index in the batch, query and target
    class, all (M,) int64. Those of a clip are matched in each of its frames."""

    image: Tensor
    query: Tensor
    target_class: Tensor


@dataclass(frozen=True)
class MatchWeights:
    """How much class, mask and dice count in the cost of a match."""

    classes: float = 2.0
    mask: float = 5.0
    dice: float = 5.0


def match(
    layers: Sequence[QueryPrediction], targets: TargetMasks, points: Sequence[Sequence[Tensor]], weights: MatchWeights
) -> list[Matches]:
    """Assign queries to the masks of their image or clip at the least cost, each layer separately.

    Masks are compared at points, (P, 2) for each layer and place of `TargetMasks.places`. In each layer min(Q, classes)
    queries match, in a clip those of earlier frames before those of later ones.
    """
    costs = match_costs(layers, targets, points, weights)
    shapes = [cost.shape for cost in costs[0]]
    device = targets.labels.device
    # One transfer for all layers: waiting for the device once, not ten times.
    flat = torch.cat([cost.flatten() for layer in costs for cost in layer]).cpu().numpy()
    # A network that has diverged gives NaN; the check of its loss reports that better than SciPy.
    flat = np.nan_to_num(flat, nan=1e6, posinf=1e6, neginf=-1e6)
    ends = np.cumsum([queries * count for queries, count in shapes * len(layers)])
    tables = iter(np.split(flat, ends[:-1]))
    frames = len(targets.classes) // max(1, len(targets.seen))
    matches = []
    for _ in layers:
        found: list[tuple[int, int, int]] = []
        sizes = iter(shapes)
        for clip, places in enumerate(targets.seen):
            tied = [(next(tables).reshape(next(sizes)), place.classes) for place in places]
            assigned = _assigned(tied)
            found += [(clip * frames + frame, *pair) for frame in range(frames) for pair in assigned]
        columns = on_device(found, device, torch.int64).view(-1, 3)
        matches.append(Matches(*columns.unbind(dim=1)))
    return matches


def _assigned(tied: Sequence[tuple[np.ndarray, tuple[int, ...]]]) -> list[tuple[int, int]]:
    """Queries and their classes, by costs (Q, classes) of one place after another; queries match once."""
    free = np.arange(len(tied[0][0]))
    pairs: list[tuple[int, int]] = []
    for cost, classes in tied:
        rows, columns = linear_sum_assignment(cost[free])
        pairs += [(int(free[row]), classes[column]) for row, column in zip(rows, columns, strict=True)]
        free = np.delete(free, rows)
    return sorted(pairs)


@torch.no_grad()
def match_costs(
    layers: Sequence[QueryPrediction], targets: TargetMasks, points: Sequence[Sequence[Tensor]], weights: MatchWeights
) -> list[list[Tensor]]:
    """Cost of each query for each mask, (Q, masks) for each layer and place of `TargetMasks.places`.

    ``weights.classes * -p(class) + weights.mask * BCE + weights.dice * dice``, BCE a mean over the points, dice with 1
    added to numerator and denominator (specs: mask2former.md, Losses). Points are weighted by `TargetMasks.counted`, as
    in `set_prediction`. Float32, whatever the predictions are.
    """
    device = targets.labels.device
    costs: list[list[Tensor]] = [[] for _ in layers]
    with torch.autocast(device_type=device.type, enabled=False):
        for place, (image, present) in enumerate(targets.places):
            classes = on_device(present, device, torch.int64)
            places = torch.stack([layer[place] for layer in points])  # (layers, P, 2)
            masks = targets.sample(image, places[:, :, None], classes)  # (layers, P, masks)
            counted = targets.counted(image, places)  # (layers, P)
            for number, layer in enumerate(layers):
                logits = sample_points(layer.mask_logits[image][None].float(), places[number][None])[0]  # (Q, P)
                mask = masks[number]
                probability = layer.class_logits[image].float().softmax(dim=-1)[:, classes]
                # BCE = t * softplus(-x) + (1 - t) * softplus(x) = softplus(x) - t * x, where masks are 0 in void.
                outside, inside = functional.softplus(logits), logits.sigmoid()
                claimed, compared = inside, torch.full((), float(len(mask)), device=device)
                if counted is not None:
                    outside, claimed = outside * counted[number], inside * counted[number]
                    compared = counted[number].sum().clamp_min(1.0)
                binary = (outside.sum(dim=1, keepdim=True) - logits @ mask) / compared
                total = claimed.sum(dim=1, keepdim=True) + mask.sum(dim=0)
                dice = 1.0 - (2.0 * (inside @ mask) + 1.0) / (total + 1.0)
                costs[number].append(weights.mask * binary - weights.classes * probability + weights.dice * dice)
    return costs


def sample_points(maps: Tensor, points: Tensor) -> Tensor:
    """Sample maps (B, D, h, w) bilinearly, with zeros around them, at points (B, P, 2), x and y as fractions of width
    and height: (B, D, P)."""
    grid = (2.0 * points - 1.0)[:, :, None]
    return functional.grid_sample(maps, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[..., 0]
