"""From a backbone's four maps to mask features and the memory of the mask decoder (Cheng et al. 2022, Mask2Former,
arXiv:2112.01527). Parameters have detectron2's names below ``sem_seg_head.pixel_decoder``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from vsscli.models.mask2former.config import GROUPS, HeadConfig
from vsscli.models.mask2former.deformable import DeformableAttention, Shapes, cell_centres
from vsscli.models.scores import own_types

LEVELS = 3  # maps of the encoder, at strides 32, 16 and 8


class PixelFeatures(NamedTuple):
    """``mask`` (B, D, H / 4, W / 4); ``memory``, three maps (B, D, h_i, w_i) at strides 32, 16, 8."""

    mask: Tensor
    memory: tuple[Tensor, ...]


class PixelDecoder(nn.Module):
    """Deformable encoder over strides 32, 16 and 8, and one step of a feature pyramid to stride 4.

    Everything is computed in the type of the weights, so in float32 also under autocast: offsets of a tenth of a cell
    matter for deformable attention.
    """

    def __init__(self, in_channels: Sequence[int], config: HeadConfig, checkpointing: bool) -> None:
        super().__init__()
        channels = config.channels
        finest, *coarser = in_channels
        projections = [nn.Conv2d(incoming, channels, 1) for incoming in reversed(coarser)]
        self.input_proj = nn.ModuleList(
            nn.Sequential(projection, nn.GroupNorm(GROUPS, channels)) for projection in projections
        )
        self.transformer = _Transformer(config, checkpointing)
        self.mask_features = nn.Conv2d(channels, channels, 1)
        self.adapter_1 = _NormedConvolution(finest, channels, 1)
        self.layer_1 = _NormedConvolution(channels, channels, 3)
        for projection in projections:
            nn.init.xavier_uniform_(projection.weight)
            assert projection.bias is not None
            nn.init.zeros_(projection.bias)
        for convolution in (self.mask_features, self.adapter_1, self.layer_1):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        assert self.mask_features.bias is not None
        nn.init.zeros_(self.mask_features.bias)

    def forward(self, maps: Sequence[Tensor]) -> PixelFeatures:
        """Decode maps (B, in_channels[i], h_i, w_i), finest first."""
        with own_types(maps[0]):
            finest, *coarser = (map_.to(self.mask_features.weight.dtype) for map_ in maps)
            projected = [project(map_) for project, map_ in zip(self.input_proj, reversed(coarser), strict=True)]
            memory = self.transformer(projected)
            enlarged = functional.interpolate(memory[-1], size=finest.shape[-2:], mode="bilinear", align_corners=False)
            merged = functional.relu(self.layer_1(self.adapter_1(finest) + enlarged))
            return PixelFeatures(self.mask_features(merged), memory)


class _Transformer(nn.Module):
    def __init__(self, config: HeadConfig, checkpointing: bool) -> None:
        super().__init__()
        self.level_embed = nn.Parameter(torch.randn(LEVELS, config.channels))
        layers = nn.ModuleList(_EncoderLayer(config) for _ in range(config.encoder_layers))
        self.encoder = nn.ModuleDict({"layers": layers})
        self.checkpointing = checkpointing

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Self-attention among the cells of maps (B, D, h_i, w_i), coarsest first."""
        shapes = [(map_.shape[-2], map_.shape[-1]) for map_ in maps]
        x = torch.cat([map_.flatten(2).transpose(1, 2) for map_ in maps], dim=1)
        position = torch.cat(
            [
                sine_positions(shape, x.shape[-1], x.device).to(x.dtype).flatten(1).T + level
                for shape, level in zip(shapes, self.level_embed, strict=True)
            ]
        )
        centres = cell_centres(shapes, x.device)
        layers = self.encoder["layers"]
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            if self.checkpointing and self.training:
                x = checkpoint(layer, x, position, centres, shapes, use_reentrant=False)
            else:
                x = layer(x, position, centres, shapes)
        parts = x.transpose(1, 2).split([height * width for height, width in shapes], dim=2)
        return tuple(part.unflatten(2, shape) for part, shape in zip(parts, shapes, strict=True))


class _EncoderLayer(nn.Module):
    """Deformable self-attention and a feed-forward network, each followed by a norm."""

    def __init__(self, config: HeadConfig) -> None:
        super().__init__()
        channels, width = config.channels, config.encoder_width
        self.self_attn = DeformableAttention(channels, config.heads, LEVELS, config.points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, width)
        self.linear2 = nn.Linear(width, channels)
        self.norm2 = nn.LayerNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, position: Tensor, centres: Tensor, shapes: Shapes) -> Tensor:
        x = self.norm1(x + self.self_attn(x + position, centres, x, shapes))
        return self.norm2(x + self.linear2(functional.relu(self.linear1(x))))


class _NormedConvolution(nn.Conv2d):
    """A convolution without bias and its group norm, a child of it in the official names."""

    def __init__(self, incoming: int, outgoing: int, side: int) -> None:
        super().__init__(incoming, outgoing, side, padding=side // 2, bias=False)
        self.norm = nn.GroupNorm(GROUPS, outgoing)

    def forward(self, input: Tensor) -> Tensor:
        return self.norm(super().forward(input))


def sine_positions(shape: tuple[int, int], channels: int, device: torch.device) -> Tensor:
    """Positions of a map's cells as sines and cosines: (channels, h, w), the first half of y, the second of x.

    Rows and columns are numbered from 1 and scaled to 2 pi at the far edge; wavelengths go from 2 pi to 10000 * 2 pi;
    sine and cosine of a wavelength are adjacent (Carion et al. 2020, DETR, arXiv:2005.12872, with ``normalize``).
    """
    half = channels // 2
    exponent = 2.0 * torch.arange(half, device=device).div(2, rounding_mode="floor") / half
    wavelength = 10000.0**exponent

    def waves(count: int) -> Tensor:
        place = torch.arange(1, count + 1, dtype=torch.float32, device=device)
        angle = (place / (count + 1e-6) * (2.0 * math.pi))[:, None] / wavelength
        return torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1)  # (count, half)

    height, width = shape
    rows = waves(height).T[:, :, None].expand(-1, -1, width)
    columns = waves(width).T[:, None, :].expand(-1, height, -1)
    return torch.cat([rows, columns])
