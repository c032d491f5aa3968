"""From tokens to classes and masks: EoMT's heads, everything as wide as the trunk.

Parameters have the names of the official checkpoints (specs: eomt.md, Forward).
"""

from __future__ import annotations

from timm.layers import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from vsscli.models.outputs import QueryPrediction
from vsscli.models.plain_vit.config import doublings


class QueryHead(nn.Module):
    """Class logits of each query, and its mask over an enlarged map of the patches."""

    def __init__(self, width: int, num_classes: int, patch: int) -> None:
        super().__init__()
        self.class_head = nn.Linear(width, num_classes + 1)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
        )
        self.upscale = nn.Sequential(*(ScaleBlock(width) for _ in range(doublings(patch))))

    def forward(self, queries: Tensor, patches: Tensor) -> tuple[QueryPrediction, Tensor]:
        """Predict from queries (B, Q, D) and a map of patches (B, D, h, w).

        Returns
        -------
        tuple
            Class logits (B, Q, C + 1) and mask logits (B, Q, 4h, 4w); features (B, D, 4h, 4w), which masks are made of.
        """
        features = self.upscale(patches)
        mask_logits = self.mask_head(queries) @ features.flatten(2)
        return QueryPrediction(self.class_head(queries), mask_logits.unflatten(2, features.shape[-2:])), features


class ScaleBlock(nn.Module):
    """Doubles a map: a transposed convolution, a depthwise one, and a norm of the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(width, width, 2, 2)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.norm = LayerNorm2d(width, eps=1e-6)

    def forward(self, map_: Tensor) -> Tensor:
        """(B, D, h, w) to (B, D, 2h, 2w)."""
        return self.norm(self.conv2(functional.gelu(self.conv1(map_))))
