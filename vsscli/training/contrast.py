"""Contrast on unreliable pixels: features of a class are pulled to its centre and pushed away from other classes.

The loss is equation 6 of Wang et al. 2022 (arXiv:2203.03884), the third term of the paper's equation 3:

    L_c = -1 / (C M) sum_c sum_i log(e(z_ci, z+_c) / (e(z_ci, z+_c) + sum_j e(z_ci, z-_cij)))

with e(x, y) = exp(cos(x, y) / tau), M anchors z_ci of each class c, its centre z+_c, and N negatives z-_cij each. A
cell is a pixel at the stride of the features; all cells of a batch, labelled crops first, are one axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from vsscli.data.classes import IGNORE
from vsscli.recipes.training import Contrast
from vsscli.training.bank import Banks, nth_true, piece_length

EPSILON = 1e-8  # norms below count as this one, as in torch's cosine similarity

DrawBelow = Callable[[Tensor, int], Tensor]
"""From counts (A,) and a size: integers (A, size), each below its row's count; 0 where that is 0."""


@dataclass(frozen=True)
class Cells:
    """What the loss needs to know of the N cells of ``crops`` crops: for each class, (N, C) bool.

    A trusted cell reliably belongs to the class and counts in its centre; if the teacher is sure of it too, giving the
    class enough probability, it may be an anchor. A negative one surely does not belong to the class.
    """

    trusted: Tensor
    sure: Tensor
    negative: Tensor
    crops: int = 1


class ContrastPlan(NamedTuple):
    """One step's draws, for A pairs of a class's anchors and a bank.

    anchors (A, M) are cells, negatives (A, M * N) rows of the banks, centres (A, D) features; weight (A,) is the share
    of each pair in the loss.
    """

    anchors: Tensor
    negatives: Tensor
    centres: Tensor
    weight: Tensor


def label_mask(label: Tensor, num_classes: int) -> Tensor:
    """Labels (B, h, w) int64 as masks (N, C) bool, False everywhere for 255."""
    return label.reshape(-1, 1) == torch.arange(num_classes, device=label.device)


def published_label_mask(label: Tensor, num_classes: int) -> Tensor:
    """`label_mask` as the published code makes it: the labels of all crops end up on the first, none on the others.

    Void of the other crops counts as class 0 there, and void of the first crop takes precedence.
    """
    classes = torch.arange(num_classes, device=label.device)
    mask = torch.zeros(*label.shape, num_classes, dtype=torch.bool, device=label.device)
    everywhere = (torch.where(label == IGNORE, 0, label)[..., None] == classes).any(dim=0)
    mask[0] = everywhere & (label[0] != IGNORE)[..., None]
    return mask.flatten(0, 2)


def negatives_of(window: Tensor, own: Tensor, counts: Tensor, *, labelled: int, variant: str) -> Tensor:
    """Which cells are negatives of which classes, (N, C) bool (specs: U2PL section 6).

    A cell that counts is a negative of every class that it ranks within the window. ``counts`` holds, of the labelled
    cells, which come first, those with a label, whose own class is excluded; of the unlabelled ones, the unreliable
    ones. The published code (variants ``official``, ``fix_index``) also requires the cell to have the class that it is
    to be a negative of, so labelled cells never are.
    """
    negative = window & counts[:, None]
    negative[:labelled] &= ~own[:labelled]
    return negative if variant == "paper" else negative & own


def draw_below(counts: Tensor, size: int) -> Tensor:
    """Integers (A, size), uniform below counts (A,), with replacement."""
    # Numbers this large make the bias of the remainder negligible.
    numbers = torch.randint(2**62, (len(counts), size), device=counts.device)
    return numbers % counts.clamp_min(1)[:, None]


def plan_step(
    features: Tensor, cells: Cells, banks: Banks, settings: Contrast, draw: DrawBelow = draw_below
) -> ContrastPlan:
    """Push the step's keys, then draw the anchors of all pairs, then their negatives.

    Features (N, D) are the teacher's, float32 and without gradient. Banks take in the negatives first, as in the
    published code.
    """
    banks.push(features, cells.negative, settings.keys, settings.step_bytes, cells.crops)
    cells_of = cells.trusted.sum(0)
    anchor = cells.trusted & cells.sure
    anchors_of = anchor.sum(0)
    valid = cells_of > 0
    present = valid.sum()
    classes = torch.arange(len(valid), device=features.device)
    if settings.variant == "official":
        # Its second loop contrasts the k-th class's anchors with the bank of the k-th class present.
        bank = (~valid).int().argsort(stable=True)
        counted = classes < present
    else:
        bank, counted = classes, valid
    active = counted & (anchors_of > 0) & (banks.lengths[bank] > 0)
    # One class alone has no contrast; the mean is over all classes present, also those without anchors.
    weight = (active & (present > 1)) / present.clamp_min(1)
    if features.device.type == "cpu":  # a CPU drops absent classes; on a device asking would wait for it, so all go on
        chosen = active.nonzero()[:, 0]
        classes, bank, weight = classes[chosen], bank[chosen], weight[chosen]
    number = draw(anchors_of[classes], settings.anchors)
    index = draw(banks.lengths[bank], settings.anchors * settings.negatives)
    anchors = torch.empty_like(number)
    centres = features.new_empty(len(classes), features.shape[1])
    piece = max(settings.step_bytes // (5 * len(features)), 1)
    for start in range(0, len(classes), piece):
        some = classes[start : start + piece]
        trusted = cells.trusted[:, some].T.float()
        centres[start : start + piece] = trusted @ features / cells_of[some].clamp_min(1)[:, None]
        anchors[start : start + piece] = nth_true(anchor[:, some].T, number[start : start + piece])
    return ContrastPlan(anchors, banks.places(bank, index), centres, weight)


def contrastive_loss(anchors: Tensor, plan: ContrastPlan, banks: Banks, settings: Contrast) -> Tensor:
    """The loss of a plan, with ``anchors`` the student's features (A, M, D) float32; only these get a gradient."""
    negatives = plan.negatives.view(*plan.anchors.shape, settings.negatives)
    losses: Tensor = _Contrast.apply(
        anchors, plan.centres, negatives, banks.features, banks.norms, settings.temperature, settings.step_bytes
    )
    return (losses * plan.weight).sum()


class _Contrast(torch.autograd.Function):
    """Loss (A,) of each pair, with its gradient computed in the forward pass while the negatives are in memory.

    Autograd would keep all (A, M, N, D) of them, or gather them a second time; this way they are gathered in pieces.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        anchors: Tensor,
        centres: Tensor,
        negatives: Tensor,
        features: Tensor,
        norms: Tensor,
        temperature: float,
        step_bytes: int,
    ) -> Tensor:
        pairs, number, channels = anchors.shape
        drawn = negatives.shape[-1]
        length = anchors.norm(dim=-1, keepdim=True).clamp_min(EPSILON)
        unit = anchors / length  # (A, M, D)
        centre = torch.nn.functional.normalize(centres, dim=-1, eps=EPSILON)[:, None]  # (A, 1, D)
        near = (unit * centre).sum(-1).view(-1, 1)  # (A M, 1)
        each, rows = unit.reshape(-1, channels), negatives.reshape(-1, drawn)  # (A M, D), (A M, N)
        losses, own = torch.empty_like(near), torch.empty_like(near)
        push = torch.empty_like(each)
        # For each anchor its negatives, and a few numbers for each of those.
        size = piece_length(drawn * (channels + 6) * 4, step_bytes, anchors.device)
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            row = rows[part].reshape(-1)
            negative = features.index_select(0, row).view(-1, drawn, channels)  # (a, N, D)
            scale = 1 / norms.index_select(0, row).clamp_min(EPSILON).view(-1, drawn)  # (a, N)
            far = torch.bmm(negative, each[part, :, None]).squeeze(-1) * scale  # (a, N)
            logits = torch.cat([near[part], far], dim=1) / temperature
            whole = logits.logsumexp(dim=1, keepdim=True)
            losses[part] = whole - logits[:, :1]
            share = (logits - whole).exp()
            own[part] = share[:, :1]
            push[part] = torch.bmm((share[:, 1:] * scale)[:, None], negative).squeeze(1)
        along = (own.view(pairs, number, 1) - 1) * centre + push.view(pairs, number, channels)
        gradient = (along - (along * unit).sum(-1, keepdim=True) * unit) / (length * temperature * number)
        ctx.save_for_backward(gradient)
        return losses.view(pairs, number).mean(dim=1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0][:, None, None] * gradient, None, None, None, None, None, None
