"""The vision trunk of ONE-PEACE (Wang et al. 2023, arXiv:2305.11172) with a ViT-Adapter.

Parameters have the names of the official segmentation checkpoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from vsscli.models.mask2former.adapter import AdapterBackbone
from vsscli.models.mask2former.backbone import drop_path_rates, initialise
from vsscli.models.mask2former.beit import first_tokens
from vsscli.models.mask2former.relative_position import Window, gather_bias, table_rows
from vsscli.models.mask2former.trunks import OnePeaceConfig, TrunkConfig


class OnePeace(AdapterBackbone):
    """ONE-PEACE's vision trunk with an adapter."""

    def __init__(self, config: OnePeaceConfig) -> None:
        super().__init__(config)
        self.image_adapter = ImageAdapter(config.width, config.grid)
        self.encoder = OnePeaceEncoder(config)
        initialise(self.image_adapter)
        initialise(self.encoder)
        if config.frozen:
            self.freeze("image_adapter", "encoder")

    def first_tokens(self, images: Tensor) -> Tensor:
        return self.image_adapter(images)

    def trunk_blocks(self) -> nn.ModuleList:
        return self.encoder.layers

    def depth_of(self, name: str) -> int:
        depth = len(self.encoder.layers)
        if name.startswith("encoder.layers."):
            return depth - int(name.split(".")[2])
        return depth + 1 if name.startswith("image_adapter.") else 0


class ImageAdapter(nn.Module):
    """Images to tokens: three convolutions (Touvron et al. 2022, arXiv:2203.09795), and position embeddings."""

    def __init__(self, width: int, grid: Window) -> None:
        super().__init__()
        self.cls_embedding = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(grid[0] * grid[1] + 1, width))
        narrow = width // 4
        self.embed_images = nn.Sequential(
            nn.Conv2d(3, narrow, 4, 4),
            ChannelNorm(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, narrow, 2, 2),
            ChannelNorm(narrow),
            nn.GELU(),
            nn.Conv2d(narrow, width, 2, 2),
        )
        nn.init.normal_(self.cls_embedding, std=0.02)
        nn.init.normal_(self.pos_embed, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, 1 + N, D)."""
        patches = self.embed_images(images).flatten(2).transpose(1, 2)
        return first_tokens(self.cls_embedding, patches) + self.pos_embed


class ChannelNorm(nn.Module):
    """Layer norm over the channels of a map (B, D, h, w)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, map_: Tensor) -> Tensor:
        return self.layer_norm(map_.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class OnePeaceEncoder(nn.Module):
    """The blocks, without the adapter."""

    def __init__(self, config: TrunkConfig) -> None:
        super().__init__()
        rates = drop_path_rates(config.drop_path, config.depth)
        self.layers = nn.ModuleList(
            OnePeaceLayer(config.width, config.heads, config.hidden, config.grid, rate, config.gamma) for rate in rates
        )


class OnePeaceLayer(nn.Module):
    """Attention and a feed-forward network, with norms before and within (Magneto, Wang et al. 2022, arXiv:2210.06423),
    each scaled per channel before stochastic depth."""

    def __init__(self, width: int, heads: int, hidden: int, window: Window, drop_path: float, gamma: float) -> None:
        super().__init__()
        self.gamma_1 = nn.Parameter(torch.full((width,), gamma))
        self.gamma_2 = nn.Parameter(torch.full((width,), gamma))
        self.self_attn = OnePeaceAttention(width, heads)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.image_ffn = nn.Sequential(
            GatedLinear(width, hidden), nn.Identity(), nn.LayerNorm(hidden), nn.Linear(hidden, width)
        )
        self.rel_pos_table = nn.Embedding(table_rows(window), heads)
        self.drop_path = DropPath(drop_path)
        nn.init.zeros_(self.rel_pos_table.weight)

    def forward(self, tokens: Tensor, index: Tensor) -> Tensor:
        """Transform tokens (B, N, D); ``index`` (`lookup_index`) gives the row of each pair in the table."""
        attended = self.self_attn(self.self_attn_layer_norm(tokens), self.rel_pos_table.weight, index)
        tokens = tokens + self.drop_path(self.gamma_1 * attended)
        return tokens + self.drop_path(self.gamma_2 * self.image_ffn(self.final_layer_norm(tokens)))


class OnePeaceAttention(nn.Module):
    """Self-attention with a bias for each offset between two patches, and a norm over all heads; no key bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.ln = nn.LayerNorm(width)

    def forward(self, tokens: Tensor, table: Tensor, index: Tensor) -> Tensor:
        """Transform tokens (B, N, D)."""
        query, key, value = (
            projection(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        position = gather_bias(table, index, query.dtype)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=position)
        return self.out_proj(self.ln(mixed.transpose(1, 2).flatten(2)))


class GatedLinear(nn.Module):
    """GEGLU (Shazeer 2020, arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.wi_0 = nn.Linear(width, hidden, bias=False)
        self.wi_1 = nn.Linear(width, hidden, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, D) to (B, N, hidden)."""
        return F.gelu(self.wi_0(tokens)) * self.wi_1(tokens)
