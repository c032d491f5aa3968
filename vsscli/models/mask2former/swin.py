"""Swin transformer (Liu et al. 2021, arXiv:2103.14030) for images of any size, as Mask2Former uses it.

Parameters have the names of detectron2's checkpoints. If a map is not a multiple of the window, the order matters:
it is padded and then rolled, as in detectron2; timm rolls first, with other results.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath, Mlp
from torch import Tensor, nn

from vsscli.models.mask2former.backbone import Backbone, drop_path_rates
from vsscli.models.mask2former.relative_position import offset_index
from vsscli.models.mask2former.trunks import SwinConfig

PATCH = 4
SEPARATED = -100.0  # added to the attention between cells that only the roll has brought together


class Swin(Backbone):
    """Maps of all four stages, each with its own norm. A size that is not a multiple of a stride is rounded up."""

    def __init__(self, config: SwinConfig) -> None:
        super().__init__(config.checkpointing)
        self.channels = config.widths
        self.window = config.window
        self.patch_embed = SwinPatches(config.width)
        rates = iter(drop_path_rates(config.drop_path, sum(config.depths)))
        last = len(config.depths) - 1
        self.layers = nn.ModuleList(
            SwinStage(
                [
                    SwinBlock(width, heads, config.window, config.mlp_ratio, next(rates), shifted=block % 2 == 1)
                    for block in range(depth)
                ],
                PatchMerging(width) if stage < last else None,
            )
            for stage, (width, depth, heads) in enumerate(zip(config.widths, config.depths, config.heads, strict=True))
        )
        for stage, width in enumerate(config.widths):
            setattr(self, f"norm{stage}", nn.LayerNorm(width))
        self.apply(_initialise)
        if config.frozen:
            self.freeze("patch_embed", "layers")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W) into maps (B, channels[i], ceil(H / s), ceil(W / s)) at strides s 4, 8, 16, 32."""
        map_ = self.patch_embed(images)
        index = offset_index((self.window, self.window), map_.device)
        maps = []
        for number, stage in enumerate(self.stages()):
            apart = separations(map_.shape[1], map_.shape[2], self.window, map_.device)
            for block in stage.blocks:
                map_ = self.run(block, map_, index, apart)
            maps.append(getattr(self, f"norm{number}")(map_).permute(0, 3, 1, 2).contiguous())
            if stage.downsample is not None:
                map_ = stage.downsample(map_)
        return maps

    def stages(self) -> list[SwinStage]:
        """Its four stages."""
        return cast("list[SwinStage]", list(self.layers))

    def depth_of(self, name: str) -> int:
        """Counts blocks over all stages; patch merging belongs to the last block of the stage before it."""
        depths = [len(stage.blocks) for stage in self.stages()]
        parts = name.split(".")
        if parts[0] == "patch_embed":
            return sum(depths) + 1
        if parts[0] != "layers":
            return 0
        stage = int(parts[1])
        block = int(parts[3]) if parts[2] == "blocks" else depths[stage] - 1
        return sum(depths) - sum(depths[:stage]) - block

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Neither norms nor tables of relative positions, but biases, as in Mask2Former."""
        return not name.endswith("relative_position_bias_table") and "norm" not in name


class SwinPatches(nn.Module):
    """Patches of 4x4 pixels to cells; incomplete patches are padded with zeros."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, PATCH, PATCH)
        self.norm = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, h, w, D)."""
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % PATCH, 0, -height % PATCH))
        return self.norm(self.proj(padded).permute(0, 2, 3, 1))


class SwinStage(nn.Module):
    """Blocks of one width, and the patch merging after them."""

    def __init__(self, blocks: list[SwinBlock], downsample: PatchMerging | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample


class PatchMerging(nn.Module):
    """Four cells to one of twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)
        self.norm = nn.LayerNorm(4 * width)

    def forward(self, map_: Tensor) -> Tensor:
        """(B, h, w, D) to (B, ceil(h / 2), ceil(w / 2), 2 D); cells are joined column by column."""
        height, width = map_.shape[1:3]
        padded = F.pad(map_, (0, 0, 0, width % 2, 0, height % 2))
        squares = padded.unflatten(1, (-1, 2)).unflatten(3, (-1, 2))  # (B, h / 2, 2, w / 2, 2, D)
        return self.reduction(self.norm(squares.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class SwinBlock(nn.Module):
    """Attention within windows, which every second block shifts by half their side, and a feed-forward network."""

    def __init__(
        self, width: int, heads: int, window: int, mlp_ratio: float, drop_path: float, *, shifted: bool
    ) -> None:
        super().__init__()
        self.window = window
        self.shift = window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(width, heads, window)
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, map_: Tensor, index: Tensor, apart: Tensor) -> Tensor:
        """Transform (B, h, w, D), with the index of a window and the mask of its shifted windows (`separations`)."""
        map_ = map_ + self.drop_path(self._attend(self.norm1(map_), index, apart))
        return map_ + self.drop_path(self.mlp(self.norm2(map_)))

    def _attend(self, map_: Tensor, index: Tensor, apart: Tensor) -> Tensor:
        height, width = map_.shape[1:3]
        down, right = -height % self.window, -width % self.window
        padded = F.pad(map_, (0, 0, 0, right, 0, down))
        if not self.shift:
            windows = self.attn(partition(padded, self.window), index, None)
            return merge(windows, self.window, *padded.shape[1:3])[:, :height, :width]
        rolled = padded.roll((-self.shift, -self.shift), (1, 2))
        windows = self.attn(partition(rolled, self.window), index, apart)
        merged = merge(windows, self.window, *padded.shape[1:3]).roll((self.shift, self.shift), (1, 2))
        return merged[:, :height, :width]


class WindowAttention(nn.Module):
    """Self-attention of the cells of a window, with a bias for each offset between two of them."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(self, windows: Tensor, index: Tensor, apart: Tensor | None) -> Tensor:
        """Transform windows (B, V, N, D), given the index (N, N) and each window's attention mask (V, N, N)."""
        batch, count, cells, width = windows.shape
        projected = self.qkv(windows).view(batch, count, cells, 3, self.heads, -1)
        query, key, value = projected.permute(3, 0, 1, 4, 2, 5)  # each (B, V, heads, N, d)
        bias = self.relative_position_bias_table.t()[:, index].to(query.dtype)
        if apart is None:
            bias, groups = bias[None], (batch * count, self.heads)
        else:
            # Windows are grouped with heads, not with images, so that all images share one bias without copies.
            bias = (bias + apart[:, None].to(query.dtype)).flatten(0, 1)[None]
            groups = (batch, count * self.heads)
        query, key, value = (part.reshape(*groups, cells, -1) for part in (query, key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined = mixed.view(batch, count, self.heads, cells, -1).transpose(2, 3)
        return self.proj(joined.reshape(batch, count, cells, width))


def partition(map_: Tensor, window: int) -> Tensor:
    """Cut a map (B, h, w, D) into its V windows: (B, V, window * window, D)."""
    cut = map_.unflatten(1, (-1, window)).unflatten(3, (-1, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def merge(windows: Tensor, window: int, height: int, width: int) -> Tensor:
    """Join windows (B, V, window * window, D) to a map (B, height, width, D)."""
    cut = windows.unflatten(2, (window, window)).unflatten(1, (height // window, width // window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def separations(height: int, width: int, window: int, device: torch.device) -> Tensor:
    """The attention mask that separates, in shifted windows, cells that are not neighbours: (V, N, N) of 0 and -100."""
    rows, columns = (_strips(math.ceil(side / window) * window, window, device) for side in (height, width))
    regions = partition((3 * rows[:, None] + columns)[None, :, :, None], window)[0, :, :, 0]  # (V, N)
    return torch.where(regions[:, :, None] == regions[:, None, :], 0.0, SEPARATED)


def _strips(side: int, window: int, device: torch.device) -> Tensor:
    """Number the strips of a rolled side: all windows but the last, then the two halves of the last."""
    place = torch.arange(side, device=device)
    return (place >= side - window).long() + (place >= side - window // 2).long()


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)  # truncated at 100 standard deviations in the official code
        if module.bias is not None:
            nn.init.zeros_(module.bias)
