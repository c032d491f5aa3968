"""Attention to a few learned locations on several maps (Zhu et al. 2021, Deformable DETR, arXiv:2010.04159).

Sampling maps bilinearly and weighting the samples is one weighted sum of map cells for each query, and `embedding_bag`
computes it as such: the samples, which would take more memory than everything else together, never exist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from vsscli.errors import VssError
from vsscli.models.constants import kept_on_device

Shapes = Sequence[tuple[int, int]]  # height and width of each level


class DeformableAttention(nn.Module):
    """Multi-scale deformable attention; the parameters have the official names.

    Each head samples ``points`` locations of each of the ``levels`` maps. ``ratio`` is the width of the values as a
    fraction of the channels: 0.5 in ViT-Adapter (Chen et al. 2023, arXiv:2205.08534).
    """

    def __init__(self, channels: int, heads: int, levels: int, points: int, ratio: float = 1.0) -> None:
        super().__init__()
        inner = int(channels * ratio)
        if inner < heads or inner % heads:
            raise VssError(
                f"{heads} heads do not divide the {inner} channels of deformable attention",
                "choose channels and a ratio whose product the heads divide",
            )
        self.heads, self.levels, self.points = heads, levels, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, inner)
        self.output_proj = nn.Linear(inner, channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start with one direction per head, each point one cell further out, all with equal weight."""
        nn.init.zeros_(self.sampling_offsets.weight)
        angle = torch.arange(self.heads, dtype=torch.float32) * (2.0 * math.pi / self.heads)
        direction = torch.stack([angle.cos(), angle.sin()], dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)
        distance = torch.arange(1, self.points + 1, dtype=torch.float32)
        bias = direction[:, None, None, :] * distance[:, None]
        self.sampling_offsets.bias.copy_(bias.expand(-1, self.levels, -1, -1).reshape(-1))
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(self, query: Tensor, reference_points: Tensor, values: Tensor, shapes: Shapes) -> Tensor:
        """Let each query (B, N, D) gather from maps (B, S, D) with heights and widths ``shapes``, flattened row by row.

        Reference points (B or 1, N, L or 1, 2) are the queries' x and y, as fractions of a map's width and height.
        """
        batch, count, _ = query.shape
        projected = self.value_proj(values).unflatten(2, (self.heads, -1))
        places = (batch, count, self.heads, self.levels, self.points)
        offsets = self.sampling_offsets(query).view(*places, 2)
        weights = self.attention_weights(query).view(batch, count, self.heads, -1).softmax(dim=-1).view(places)
        # bfloat16 has too few bits for half a cell of a map of 100; reference points are float32.
        sizes = _sizes(reference_points, shapes)
        locations = reference_points[:, :, None, :, None] + offsets / sizes
        return self.output_proj(deformable_attention(projected, shapes, locations, weights))


def deformable_attention(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sum of several maps, sampled bilinearly at given locations.

    Parameters
    ----------
    values
        (B, S, heads, d), the maps flattened row by row, one after the other; ``shapes`` are their heights and widths.
    locations
        (B, N, heads, L, P, 2): x and y as fractions of a map's width and height; cell i has its centre at i + 0.5.
        Cells outside are zero (``grid_sample`` with zeros and ``align_corners=False``).
    weights
        (B, N, heads, L, P).

    Returns
    -------
    Tensor
        (B, N, heads * d) of the type of ``values``; computed in float32 if that is a shorter one.
    """
    cells = sum(height * width for height, width in shapes)
    if cells != values.shape[1]:
        raise ValueError(f"{values.shape[1]} values for maps {list(shapes)}, which have {cells} cells")
    exact = torch.float64 if values.dtype is torch.float64 else torch.float32
    result = _WeightedSamples.apply(values.to(exact), locations.to(exact), weights.to(exact), tuple(shapes))
    return result.to(values.dtype)


class _WeightedSamples(torch.autograd.Function):
    """The sum, with a backward pass that needs only the three inputs.

    With the four cells (0, 0), (0, 1), (1, 0), (1, 1) around a location, its fractional offsets u and v to the right
    and down, and dot products g_c of the output's gradient with each cell's value, all gradients are linear in g_c.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, locations: Tensor, weights: Tensor, shapes: Shapes) -> Tensor:
        ctx.save_for_backward(values, locations, weights)
        ctx.shapes = shapes
        corner, right, down = _corners(values, locations, shapes)
        summed = functional.embedding_bag(
            _four(corner, values, shapes).flatten(0, 2).flatten(1),
            _bordered(values, shapes),
            per_sample_weights=torch.stack(_shares(right, down, weights), dim=3).flatten(0, 2).flatten(1),
            mode="sum",
        )
        return summed.view(*weights.shape[:2], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        values, locations, weights = ctx.saved_tensors
        shapes = ctx.shapes
        gradient = gradient.reshape(-1, values.shape[-1])  # (B * N * heads, d)
        corner, right, down = _corners(values, locations, shapes)
        index = _four(corner, values, shapes).flatten(0, 2)  # (B * N * heads, 4, L, P)
        each = index[0].numel()
        rows = torch.arange(len(index), dtype=index.dtype, device=index.device)
        dots = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            gradient, _bordered(values, shapes), index.view(-1), rows * each, rows.repeat_interleave(each), 0
        )
        a, b, c, d = dots.view(*weights.shape[:3], 4, *weights.shape[3:]).unbind(dim=3)
        left, up = 1.0 - right, 1.0 - down
        by_weight = up * (left * a + right * b) + down * (left * c + right * d)
        by_x = weights * (up * (b - a) + down * (d - c))
        by_y = weights * (left * (c - a) + right * (d - b))
        by_location = torch.stack([by_x, by_y], dim=-1) * _sizes(locations, shapes)
        # Locations more than a cell outside were clamped to the border, where small changes have no effect.
        position = locations * _sizes(locations, shapes) - 0.5
        inside = ((position > -1.0) & (position < _sizes(locations, shapes))).all(dim=-1, keepdim=True)
        by_location = by_location * inside
        by_value = _scattered(values, shapes, corner, _shares(right, down, weights), gradient)
        return by_value, by_location, by_weight, None


def cell_centres(shapes: Shapes, device: torch.device) -> Tensor:
    """Centres of the cells of several maps: (1, S, 1, 2), x and y as fractions of the image's width and height."""
    centres = []
    for height, width in shapes:
        y = (torch.arange(height, dtype=torch.float32, device=device) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float32, device=device) + 0.5) / width
        centres.append(torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1).flatten(0, 1))
    return torch.cat(centres)[None, :, None]


def _sizes(like: Tensor, shapes: Shapes) -> Tensor:
    """Width and height of each level (L, 1, 2)."""
    return kept_on_device(tuple((width, height) for height, width in shapes), like.device, like.dtype)[:, None]


def _starts(shapes: Shapes) -> list[int]:
    """Where each level begins among all cells, with a border of one cell around each; and the total number."""
    starts = [0]
    for height, width in shapes:
        starts.append(starts[-1] + (height + 2) * (width + 2))
    return starts


def _bordered(values: Tensor, shapes: Shapes) -> Tensor:
    """Rows (B * cells * heads, d) of values, with zeros around each level, so that locations need no bounds checks."""
    batch, width = len(values), values.shape[-1]
    levels = values.split([height * width for height, width in shapes], dim=1)
    padded = [
        functional.pad(level.reshape(batch, *shape, -1), (0, 0, 1, 1, 1, 1)).flatten(1, 2)
        for level, shape in zip(levels, shapes, strict=True)
    ]
    return torch.cat(padded, dim=1).view(-1, width)


def _corners(values: Tensor, locations: Tensor, shapes: Shapes) -> tuple[Tensor, Tensor, Tensor]:
    """Row in `_bordered` of the upper left cell around each location, and the offsets from it to the right and down."""
    batch, _, heads, _ = values.shape
    starts = _starts(shapes)
    sizes = _sizes(locations, shapes)
    position = (locations * sizes - 0.5).clamp_min(-1.0).minimum(sizes)
    # A location that is NaN makes the result NaN through its weights; as a row it would be out of bounds.
    first = position.floor().minimum(sizes - 1.0).nan_to_num(nan=-1.0)
    right, down = (position - first).unbind(dim=-1)
    column, row = (first + 1.0).to(torch.int32).unbind(dim=-1)
    pitches = tuple(width + 2 for _, width in shapes)
    level, pitch = kept_on_device((tuple(starts[:-1]), pitches), row.device, row.dtype)[..., None]
    image = torch.arange(batch, dtype=row.dtype, device=row.device).view(-1, 1, 1, 1, 1) * starts[-1]
    head = torch.arange(heads, dtype=row.dtype, device=row.device).view(-1, 1, 1)
    return (row * pitch + column + (level + image)) * heads + head, right, down


def _four(corner: Tensor, values: Tensor, shapes: Shapes) -> Tensor:
    """Rows of the four cells around each location: (B, N, heads, 4, L, P)."""
    heads = values.shape[2]
    below = kept_on_device(tuple((width + 2) * heads for _, width in shapes), corner.device, corner.dtype).view(-1, 1)
    return torch.stack([corner, corner + heads, corner + below, corner + (below + heads)], dim=3)


def _shares(right: Tensor, down: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights of the four cells around each location, each (B, N, heads, L, P)."""
    lower = weights * down
    upper = weights - lower
    upper_right, lower_right = upper * right, lower * right
    return upper - upper_right, upper_right, lower - lower_right, lower_right


def _scattered(values: Tensor, shapes: Shapes, corner: Tensor, shares: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """Gradient of the values: the sum over all samples of each cell.

    Locations are sorted by their upper left cell, once for all four cells, so that the terms of every sum are
    contiguous and in a fixed order. Adding in the order of the queries is slower, and not deterministic on a GPU.
    """
    batch, _, heads, width = values.shape
    starts = _starts(shapes)
    sorted_corner, order = corner.flatten().sort(stable=True)
    rows = torch.arange(batch * starts[-1] * heads, dtype=corner.dtype, device=corner.device)
    offsets = torch.searchsorted(sorted_corner, rows, out_int32=True)
    source = (order // (len(shapes) * corner.shape[-1])).to(corner.dtype)
    total: list[Tensor] = []
    for place, share in enumerate(shares):
        summed = functional.embedding_bag(
            source, gradient, offsets, per_sample_weights=share.flatten()[order], mode="sum"
        )
        cells = summed.view(batch, starts[-1], heads, width)
        y, x = 1 - place // 2, 1 - place % 2
        for level, (rows_, columns) in enumerate(shapes):
            grid = cells[:, starts[level] : starts[level + 1]].view(batch, rows_ + 2, columns + 2, heads, width)
            part = grid[:, y : y + rows_, x : x + columns]
            if place == 0:
                total.append(part)
            else:
                total[level] = total[level] + part
    return torch.cat([level.flatten(1, 2) for level in total], dim=1)
