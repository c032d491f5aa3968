"""PMT's decoder over a frozen trunk: tokens of several depths are added up and join the queries in blocks of its own.

Parameters have timm's names of DINOv3's blocks (specs: pmt.md, Network).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from timm.models.eva import EvaBlock
from torch import Tensor, nn

from vsscli.models.plain_vit.positions import RotaryPositions

EPS = 1e-5  # of its layer norms
THETA = 100.0  # of its rotary positions


class Laterals(nn.Module):
    """Adds up the tokens of several depths, each through a batch norm, a small network and a scale by channel."""

    def __init__(self, width: int, taps: int) -> None:
        super().__init__()
        self.bn = nn.ModuleList(nn.BatchNorm2d(width) for _ in range(taps))
        self.lateral_projections = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width // 2), nn.GELU(), nn.Linear(width // 2, width)) for _ in range(taps)
        )
        self.scalers = nn.ParameterList(nn.Parameter(torch.ones(width)) for _ in range(taps))

    def forward(self, taps: Sequence[Tensor]) -> Tensor:
        """Add up tokens (B, N, D) of each tap; statistics are of all images and tokens, class and registers too."""
        total = torch.zeros((), device=taps[0].device)
        for tokens, norm, projection, scale in zip(taps, self.bn, self.lateral_projections, self.scalers, strict=True):
            # As cells of one map each, whose memory reads the same in any layout: see `vsscli.models.norm.settled`.
            normed = norm(tokens.flatten(0, 1)[..., None, None]).view_as(tokens)
            total = total + scale * (normed + projection(normed))
        return total


class Decoder(nn.Module):
    """Blocks of DINOv3's kind that tokens and queries pass through, and the norm before each prediction."""

    def __init__(self, width: int, heads: int, hidden: int, blocks: int, prefix: int, rescale: float) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            EvaBlock(
                width,
                heads,
                mlp_ratio=(hidden + 0.5) / width,  # half a unit more, so that no rounding loses one
                num_prefix_tokens=prefix,
                rotate_half=True,
                init_values=1.0,
                norm_layer=partial(nn.LayerNorm, eps=EPS),
            )
            for _ in range(blocks)
        )
        self.norm = nn.LayerNorm(width, EPS)
        self.rope = RotaryPositions(
            width // heads, THETA, rotate_half=True, rescale_coords=rescale if rescale > 1.0 else None
        )

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Rotary positions of a grid of patches (N, 2 * D / heads), in training at a random scale if asked."""
        return self.rope.get_embed(shape=list(grid))
