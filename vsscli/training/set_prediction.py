"""Losses of a mask classifier: classes of all queries, and masks of matched ones at points (Cheng et al. 2022,
Mask2Former, arXiv:2112.01527, section 3.3; points as in Kirillov et al. 2020, PointRend, arXiv:1912.08193)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from vsscli.errors import VssError
from vsscli.models.outputs import IMAGES, Clip, QueryPrediction
from vsscli.training.losses import processes, total
from vsscli.training.matching import (
    Draw,
    Matches,
    MatchWeights,
    TargetMasks,
    Void,
    draw_uniform,
    match,
    sample_points,
    target_masks,
)


@dataclass(frozen=True)
class SetPredictionSettings:
    """Settings of the loss; the defaults are those of all published models.

    Masks are compared at P = ``points`` points. The mask losses draw ``oversample`` candidates for each of them, and
    the least certain make up the share ``uncertain`` of the points; the rest are drawn at random. ``no_object`` is the
    weight of "no object" in the class loss, ``weights`` are those of the parts, in the loss and in the matching cost.

    ``void`` says what pixels without a label are: "negative", outside every mask, as in all published programs; or
    "ignored": points there count neither in mask and dice losses nor in costs, which are over the remaining points.
    """

    points: int = 12544
    oversample: float = 3.0
    uncertain: float = 0.75
    no_object: float = 0.1
    weights: MatchWeights = field(default_factory=MatchWeights)
    void: Void = "negative"

    def __post_init__(self) -> None:
        if self.points < 1 or self.oversample < 1.0 or not 0.0 <= self.uncertain <= 1.0:
            raise VssError(
                f"invalid set prediction loss: {self.points} points, {self.oversample} candidates for each, a share of "
                f"{self.uncertain} uncertain ones",
                "12544, 3.0 and 0.75 are usual",
            )


@dataclass(frozen=True)
class SetPredictionLosses:
    """Losses of each layer, (layers,) each, unweighted, and their weighted sum."""

    classes: Tensor
    masks: Tensor
    dice: Tensor
    total: Tensor


class LayerDraws(NamedTuple):
    """Random numbers of one layer: points of the matcher for each place of `TargetMasks.places` (P, 2), candidates and
    plain points for each matched mask, (M, oversample * P, 2) and (M, the rest of P, 2)."""

    matching: list[Tensor]
    candidates: Tensor
    plain: Tensor


class SetPredictionLoss:
    """Class, mask and dice losses of every layer, each matched separately.

    Random numbers are drawn, for each layer in the order given, as (1, P, 2) for each image, then (M, oversample *
    P, 2), then (M, the rest, 2), where M are the layer's matched masks. That is the order of the official programs,
    which differ only in the order of layers: detectron2's begins with the last layer, mmsegmentation's ends with it.

    In clips, a class is matched once, and the query is that of its masks in all frames (specs: videomt.md). As
    published, the last layer is the first to be drawn for, and the layer before it does not count.
    """

    def __init__(self, settings: SetPredictionSettings | None = None, draw: Draw = draw_uniform) -> None:
        self.settings = settings or SetPredictionSettings()
        self.draw = draw

    def __call__(
        self,
        layers: Sequence[QueryPrediction],
        labels: Tensor,
        clip: Clip = IMAGES,
        present: Tensor | None = None,
        weights: Tensor | None = None,
    ) -> SetPredictionLosses:
        """Compare the predictions of all layers, class logits (B, Q, C + 1) and mask logits (B, Q, h, w), with label
        maps (B, H, W) of class indices, 255 for no label; ``clip`` says which images are frames of one clip,
        ``present`` which labels occur, ``weights`` how much each pixel counts in masks (`TargetMasks`)."""
        settings, parts = self.settings, self.settings.weights
        with torch.autocast(device_type=labels.device.type, enabled=False):
            targets = target_masks(labels, layers[0].class_logits.shape[-1] - 1, settings.void, clip, present, weights)
            numbers = list(range(len(layers)))
            drawn = {number: self._draw(layers[number], targets) for number in _drawn_in(numbers, clip)}
            draws = [drawn[number] for number in numbers]
            matches = match(layers, targets, [draw.matching for draw in draws], parts)
            classes = torch.stack(
                [self.class_loss(layer.class_logits, found) for layer, found in zip(layers, matches, strict=True)]
            )
            classes = classes * self._class_share(layers[0].class_logits, matches[0])
            masks, dice = self.mask_losses(layers, targets, matches, draws)
        each = parts.classes * classes + parts.mask * masks + parts.dice * dice
        if clip.published:
            each = torch.cat([each[:-2], each[-1:]])
        return SetPredictionLosses(classes, masks, dice, each.sum())

    def class_loss(self, class_logits: Tensor, matches: Matches) -> Tensor:
        """Cross-entropy of all queries (B, Q, C + 1), with target "no object" for unmatched ones: weighted mean."""
        nothing = class_logits.shape[-1] - 1
        target = torch.full(class_logits.shape[:2], nothing, device=class_logits.device)
        target[matches.image, matches.query] = matches.target_class
        weight = torch.ones(nothing + 1, device=class_logits.device)
        weight[nothing] = self.settings.no_object
        return functional.cross_entropy(class_logits.float().flatten(0, 1), target.flatten(), weight)

    def _class_share(self, class_logits: Tensor, matches: Matches) -> Tensor:
        """The weight of this process's queries over the mean of all processes, the same in each layer: with it the mean
        of their class losses is that over all queries. 1 in a single process; the published programs leave it out."""
        matched = len(matches.query)
        weight = matched + self.settings.no_object * (class_logits[..., 0].numel() - matched)
        return weight / _mean_over_processes(weight, class_logits.device)

    def mask_losses(
        self,
        layers: Sequence[QueryPrediction],
        targets: TargetMasks,
        matches: Sequence[Matches],
        draws: Sequence[LayerDraws],
    ) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy and dice of the matched masks of each layer, (layers,) each: sums over masks, divided by
        the mean number of target masks per process. A mask without a point that counts adds 0."""
        normaliser = _mean_over_processes(sum(map(len, targets.classes)), targets.labels.device).clamp_min(1.0)
        masks, dice = [], []
        for layer, found, draw in zip(layers, matches, draws, strict=True):
            predicted = layer.mask_logits[found.image, found.query].float()[:, None]  # (M, 1, h, w)
            if not len(predicted):  # no labelled pixel: 0, with a gradient of 0 in every process
                masks.append(predicted.sum())
                dice.append(predicted.sum())
                continue
            with torch.no_grad():
                image = found.image[:, None]
                void = targets.within_void(image, draw.candidates)
                points = self.uncertain_points(predicted, draw, void)  # (M, P, 2)
                truth = targets.sample(image, points, found.target_class[:, None])  # (M, P)
                counted = targets.counted(image, points)  # (M, P)
            logits = sample_points(predicted, points)[:, 0]
            inside = logits.sigmoid()
            overlap = 2.0 * (inside * truth).sum(dim=1)
            if counted is None:
                binary = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none").mean(dim=1)
            else:
                # `truth` is already weighted by `counted`.
                within = truth / counted.clamp_min(1e-6)
                binary = functional.binary_cross_entropy_with_logits(logits, within, counted, reduction="none")
                binary = binary.sum(dim=1) / counted.sum(dim=1).clamp_min(1.0)
                inside = inside * counted
            masks.append(binary.sum())
            dice.append((1.0 - (overlap + 1.0) / (inside.sum(dim=1) + truth.sum(dim=1) + 1.0)).sum())
        return torch.stack(masks) / normaliser, torch.stack(dice) / normaliser

    def uncertain_points(self, mask_logits: Tensor, draw: LayerDraws, void: Tensor | None = None) -> Tensor:
        """Choose P points for each mask (M, 1, h, w): candidates whose logit is nearest to 0, those in void (M,
        candidates) last, and plain ones."""
        doubt = sample_points(mask_logits, draw.candidates)[:, 0].abs().neg()
        if void is not None:
            doubt = doubt.masked_fill(void, -torch.inf)
        count = self.settings.points - draw.plain.shape[1]
        chosen = doubt.topk(count, dim=1).indices
        return torch.cat([draw.candidates.gather(1, chosen[..., None].expand(-1, -1, 2)), draw.plain], dim=1)

    def _draw(self, layer: QueryPrediction, targets: TargetMasks) -> LayerDraws:
        """All random numbers of a layer: their number does not depend on the matching."""
        settings, device = self.settings, targets.labels.device
        queries = layer.class_logits.shape[1]
        matched = sum(min(queries, len(classes)) for classes in targets.classes)
        matching = [self.draw((1, settings.points, 2), device)[0] for _ in targets.places]
        candidates = self.draw((matched, int(settings.points * settings.oversample), 2), device)
        plain = self.draw((matched, settings.points - int(settings.points * settings.uncertain), 2), device)
        return LayerDraws(matching, candidates, plain)


def _drawn_in(numbers: list[int], clip: Clip) -> list[int]:
    """The order in which layers are drawn for."""
    return [*numbers[-1:], *numbers[:-1]] if clip.published else numbers


def _mean_over_processes(count: float, device: torch.device) -> Tensor:
    return total(torch.full((), float(count), device=device)) / processes()
