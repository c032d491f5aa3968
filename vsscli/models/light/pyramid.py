"""A feature pyramid whose levels are summed at stride 4."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PyramidDecoder(nn.Module):
    """Feature pyramid (Lin et al. 2017, arXiv:1612.03144) with merging by addition (Kirillov et al. 2019, 1901.02446).

    It saves two things compared with the papers, so that the decoder of an encoder for two cores does not cost as much
    as the encoder: at stride 4, where three quarters of the work would be, the 3x3 convolution is depthwise and
    followed by a pointwise one; and levels are merged top-down, each upsampled to the next, not all to stride 4.

    It uses group norm instead of batch norm: the result for an image does not depend on the others in its batch, on
    the number of processes, or on train and eval mode.
    """

    def __init__(self, in_channels: Sequence[int], channels: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(width, channels, 1) for width in in_channels)
        finest = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False), nn.Conv2d(channels, channels, 1)
        )
        coarser = [nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels[1:]]
        self.smooth = nn.ModuleList(
            nn.Sequential(convolution, nn.GroupNorm(_groups(channels), channels), nn.ReLU(inplace=True))
            for convolution in (finest, *coarser)
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, num_classes, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Decode maps (B, in_channels[i], h_i, w_i), finest first, into logits (B, C, h_0, w_0) and features.

        The features (B, channels, h_0, w_0) are those before the dropout.
        """
        pyramid = [lateral(map_) for lateral, map_ in zip(self.lateral, maps, strict=True)]
        for level in range(len(pyramid) - 2, -1, -1):
            pyramid[level] = pyramid[level] + _enlarge(pyramid[level + 1], pyramid[level])
        merged = self.smooth[-1](pyramid[-1])
        for level in range(len(pyramid) - 2, -1, -1):
            smooth = self.smooth[level](pyramid[level])
            merged = smooth + _enlarge(merged, smooth)
        return self.classify(self.dropout(merged)), merged


def _groups(channels: int) -> int:
    """At most 32 groups of at least 4 channels: a group of one would lose the magnitude of its channel."""
    groups = math.gcd(32, channels)
    while groups > 1 and channels // groups < 4:
        groups //= 2
    return groups


def _enlarge(coarse: Tensor, fine: Tensor) -> Tensor:
    """Resize ``coarse`` to the height and width of ``fine``."""
    return F.interpolate(coarse, size=fine.shape[-2:], mode="bilinear", align_corners=False)
