"""BEiT (Bao et al. 2022, arXiv:2106.08254): its trunk, and a pyramid over four of its blocks.

Parameters have the names of the official checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from vsscli.models.mask2former.backbone import Backbone, drop_path_rates, initialise
from vsscli.models.mask2former.relative_position import (
    Window,
    gather_bias,
    lookup_index,
    table_rows,
)
from vsscli.models.mask2former.trunks import PATCH, BeitConfig, TrunkConfig
from vsscli.models.network import require_crop

EPS = 1e-6  # of its layer norms


class Beit(Backbone):
    """BEiT and a simple pyramid: transposed convolutions to strides 4 and 8, the map itself, max pooling to stride 32.

    As in BEiT's own segmentation networks, with their names.
    """

    def __init__(self, config: BeitConfig) -> None:
        super().__init__(config.checkpointing)
        width = config.width
        self.crop, self.grid, self.taps = config.crop, config.grid, config.taps
        self.channels = (width,) * 4
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed = BeitPatches(width)
        self.blocks = blocks_of(config)
        self.fpn1 = nn.Sequential(
            nn.ConvTranspose2d(width, width, 2, 2),
            nn.BatchNorm2d(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, width, 2, 2),
        )
        self.fpn2 = nn.Sequential(nn.ConvTranspose2d(width, width, 2, 2))
        self.fpn3 = nn.Identity()
        self.fpn4 = nn.MaxPool2d(2)
        initialise(self)
        nn.init.normal_(self.cls_token, std=0.02)
        if config.frozen:
            self.freeze("cls_token", "patch_embed", "blocks")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W) of the crop's size into maps (B, D, H / s, W / s) at strides s 4, 8, 16, 32."""
        require_crop(images, self.crop)
        tokens = first_tokens(self.cls_token, self.patch_embed(images))
        index = lookup_index(self.grid, tokens.device)
        pyramid = iter((self.fpn1, self.fpn2, self.fpn3, self.fpn4))
        maps = []
        for number, block in enumerate(self.blocks):
            tokens = self.run(block, tokens, index)
            if number in self.taps:
                maps.append(next(pyramid)(tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid)))
        return maps

    def depth_of(self, name: str) -> int:
        return depth_in_trunk(name, len(self.blocks))


def depth_in_trunk(name: str, depth: int) -> int:
    """Depth of a parameter, by BEiT's rule: 1 for the last block, one more than the first block for the embedding."""
    if name.startswith("blocks."):
        return depth - int(name.split(".")[1])
    return depth + 1 if name.startswith(("cls_token", "patch_embed.")) else 0


def blocks_of(config: TrunkConfig) -> nn.ModuleList:
    """The blocks of a trunk."""
    rates = drop_path_rates(config.drop_path, config.depth)
    return nn.ModuleList(
        BeitBlock(config.width, config.heads, config.hidden, config.grid, rate, config.gamma) for rate in rates
    )


def first_tokens(cls_token: Tensor, patches: Tensor) -> Tensor:
    """Prepend the class token (1, 1, D) to patches (B, N, D)."""
    return torch.cat([cls_token.expand(len(patches), -1, -1).to(patches.dtype), patches], dim=1)


class BeitPatches(nn.Module):
    """Patches of 16x16 pixels into tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, N, D)."""
        return self.proj(images).flatten(2).transpose(1, 2)


class BeitBlock(nn.Module):
    """Attention and a feed-forward network, each scaled per channel before stochastic depth."""

    def __init__(self, width: int, heads: int, hidden: int, window: Window, drop_path: float, gamma: float) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((width,), gamma))
        self.gamma_2 = nn.Parameter(torch.full((width,), gamma))
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = BeitAttention(width, heads, window)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Transform tokens (B, N, D); ``index`` (`lookup_index`) gives the row of each pair in the tables."""
        tokens = tokens + self.drop_path(self.gamma_1 * self.attn(self.norm1(tokens), index))
        return tokens + self.drop_path(self.gamma_2 * self.mlp(self.norm2(tokens)))


class BeitAttention(nn.Module):
    """Self-attention with a bias for each offset between two patches; the key projection has no bias."""

    def __init__(self, width: int, heads: int, window: Window) -> None:
        super().__init__()
        self.heads = heads
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.relative_position_bias_table = nn.Parameter(torch.zeros(table_rows(window), heads))
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Transform tokens (B, N, D)."""
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        projected = F.linear(tokens, self.qkv.weight, bias).unflatten(2, (3, self.heads, -1))
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (B, heads, N, d)
        # Looked up on every call, a tenth of a block's time at 512 pixels on a CPU: kept for all 24 blocks, the biases
        # would take 7.6 GB at 896 pixels in bfloat16.
        position = gather_bias(self.relative_position_bias_table, index, query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=position)
        return self.proj(mixed.transpose(1, 2).flatten(2))
