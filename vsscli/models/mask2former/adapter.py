"""ViT-Adapter (Chen et al. 2023, arXiv:2205.08534): a convolutional pyramid that interacts with a plain transformer.

Spatial prior, injector and extractor are those of the paper's section 3. Parameters have the names of the official
checkpoints, where the adapter's parts are beside the trunk's; so a backbone with an adapter is a subclass here.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from vsscli.models.mask2former.backbone import Backbone, initialise
from vsscli.models.mask2former.deformable import DeformableAttention, Shapes, cell_centres
from vsscli.models.mask2former.relative_position import lookup_index
from vsscli.models.mask2former.trunks import AdapterConfig, AdapterTrunkConfig
from vsscli.models.network import require_crop
from vsscli.models.norm import settled

EPS = 1e-6  # of its layer norms, whatever the trunk's


class AdapterBackbone(Backbone):
    """A plain transformer with an adapter; a subclass makes the trunk and embeds the images."""

    def __init__(self, trunk: AdapterTrunkConfig) -> None:
        super().__init__(trunk.checkpointing)
        adapter, width = trunk.adapter, trunk.width
        self.crop, self.grid = trunk.crop, trunk.grid
        self.channels = (width,) * 4
        self.spans = adapter.interactions
        self.level_embed = nn.Parameter(torch.empty(3, width))
        self.spm = SpatialPrior(adapter.stem, width)
        self.interactions = nn.ModuleList(
            Interaction(width, adapter, trunk.drop_path, last=span == adapter.interactions[-1])
            for span in adapter.interactions
        )
        self.up = nn.ConvTranspose2d(width, width, 2, 2)
        for level in range(1, 5):
            setattr(self, f"norm{level}", nn.BatchNorm2d(width))
        nn.init.normal_(self.level_embed)
        initialise(self)
        for module in self.modules():
            if isinstance(module, DeformableAttention):
                module.reset_parameters()

    @abstractmethod
    def first_tokens(self, images: Tensor) -> Tensor:
        """Embed images (B, 3, H, W) as tokens (B, 1 + N, D), the class token first."""

    @abstractmethod
    def trunk_blocks(self) -> nn.ModuleList:
        """The blocks of the trunk, each called with tokens (B, 1 + N, D) and the index of relative positions."""

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W) of the crop's size into maps (B, D, H / s, W / s) at strides s 4, 8, 16, 32."""
        require_crop(images, self.crop)
        finest, *coarser = self.spm(images)
        shapes = [(map_.shape[2], map_.shape[3]) for map_ in coarser]
        pyramid = torch.cat([_flat(map_) + embed for map_, embed in zip(coarser, self.level_embed, strict=True)], dim=1)
        tokens = self.first_tokens(images)
        blocks = self.trunk_blocks()
        index = lookup_index(self.grid, tokens.device)
        at_patches, at_cells = cell_centres([self.grid], images.device), cell_centres(shapes, images.device)
        results = []
        for (first, last), interaction in zip(self.spans, cast("list[Interaction]", self.interactions), strict=True):
            patches = self.run(interaction.injector, tokens[:, 1:], at_patches, pyramid, shapes)
            tokens = torch.cat([tokens[:, :1].to(patches.dtype), patches], dim=1)
            for number in range(first, last + 1):
                tokens = self.run(blocks[number], tokens, index)
            for extractor in interaction.all_extractors():
                pyramid = self.run(extractor, pyramid, at_cells, tokens[:, 1:], shapes, self.grid)
            results.append(tokens[:, 1:].transpose(1, 2).unflatten(2, self.grid))
        return self._joined(finest, pyramid, shapes, results)

    def _joined(self, finest: Tensor, pyramid: Tensor, shapes: Shapes, results: Sequence[Tensor]) -> list[Tensor]:
        """Add the resized results of the four spans (B, D, H / 16, W / 16) to the pyramid, and normalise the sums."""
        levels = pyramid.split([height * width for height, width in shapes], dim=1)
        maps = [level.transpose(1, 2).unflatten(2, shape) for level, shape in zip(levels, shapes, strict=True)]
        maps = [self.up(maps[0]) + finest, *maps]
        factors = (4.0, 2.0, 1.0, 0.5)
        return [
            getattr(self, f"norm{level + 1}")(settled(map_ + _scaled(result, factor)))
            for level, (map_, result, factor) in enumerate(zip(maps, results, factors, strict=True))
        ]


class SpatialPrior(nn.Module):
    """Convolutions for the detail that patches of 16 pixels lose: maps of D channels at strides 4, 8, 16, 32."""

    def __init__(self, stem: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            *_convolved(3, stem, stride=2),
            *_convolved(stem, stem, stride=1),
            *_convolved(stem, stem, stride=1),
            nn.MaxPool2d(3, 2, padding=1),
        )
        self.conv2 = nn.Sequential(*_convolved(stem, 2 * stem, stride=2))
        self.conv3 = nn.Sequential(*_convolved(2 * stem, 4 * stem, stride=2))
        self.conv4 = nn.Sequential(*_convolved(4 * stem, 4 * stem, stride=2))
        self.fc1 = nn.Conv2d(stem, width, 1)
        self.fc2 = nn.Conv2d(2 * stem, width, 1)
        self.fc3 = nn.Conv2d(4 * stem, width, 1)
        self.fc4 = nn.Conv2d(4 * stem, width, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to four maps (B, D, H / s, W / s)."""
        map1 = self.stem(images)
        map2 = self.conv2(map1)
        map3 = self.conv3(map2)
        return [self.fc1(map1), self.fc2(map2), self.fc3(map3), self.fc4(self.conv4(map3))]


class Interaction(nn.Module):
    """The parts around a span of blocks: an injector before it, one or more extractors after it."""

    def __init__(self, width: int, config: AdapterConfig, drop_path: float, *, last: bool) -> None:
        super().__init__()
        self.injector = Injector(width, config)
        self.extractor = Extractor(width, config, drop_path)
        if last:
            self.extra_extractors = nn.ModuleList(
                Extractor(width, config, drop_path) for _ in range(config.extra_extractors)
            )
        else:
            self.extra_extractors = nn.ModuleList()

    def all_extractors(self) -> list[nn.Module]:
        """The extractors in the order in which they run."""
        return [self.extractor, *self.extra_extractors]


class Injector(nn.Module):
    """Adds information from the pyramid to the patches; almost none at the start of training."""

    def __init__(self, width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, EPS)
        self.feat_norm = nn.LayerNorm(width, EPS)
        self.attn = DeformableAttention(width, config.heads, 3, config.points, config.deform_ratio)
        self.gamma = nn.Parameter(torch.full((width,), config.gamma))

    def forward(self, patches: Tensor, centres: Tensor, pyramid: Tensor, shapes: Shapes) -> Tensor:
        """Let patches (B, N, D) at ``centres`` attend to the pyramid (B, S, D)."""
        found = self.attn(self.query_norm(patches), centres, self.feat_norm(pyramid), shapes)
        return patches + self.gamma * found


class Extractor(nn.Module):
    """Adds information from the patches to the pyramid, followed by a convolutional feed-forward network."""

    def __init__(self, width: int, config: AdapterConfig, drop_path: float) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(width, EPS)
        self.feat_norm = nn.LayerNorm(width, EPS)
        self.attn = DeformableAttention(width, config.heads, 1, config.points, config.deform_ratio)
        self.ffn = ConvFFN(width, int(width * config.ffn_ratio))
        self.ffn_norm = nn.LayerNorm(width, EPS)
        self.drop_path = DropPath(drop_path)  # all with the last block's rate, and not on the attention

    def forward(
        self, pyramid: Tensor, centres: Tensor, patches: Tensor, shapes: Shapes, grid: tuple[int, int]
    ) -> Tensor:
        """Let the pyramid (B, S, D), with cells at ``centres``, attend to patches (B, N, D)."""
        pyramid = pyramid + self.attn(self.query_norm(pyramid), centres, self.feat_norm(patches), [grid])
        return pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), shapes))


class ConvFFN(nn.Module):
    """A feed-forward network with a depthwise convolution inside, shared by all levels."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.dwconv = LevelConvolution(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, pyramid: Tensor, shapes: Shapes) -> Tensor:
        """Transform the pyramid (B, S, D)."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(pyramid), shapes)))


class LevelConvolution(nn.Module):
    """A depthwise 3x3 convolution of each level."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, pyramid: Tensor, shapes: Shapes) -> Tensor:
        """Convolve the levels of a pyramid (B, S, D)."""
        levels = pyramid.split([height * width for height, width in shapes], dim=1)
        maps = [level.transpose(1, 2).unflatten(2, shape) for level, shape in zip(levels, shapes, strict=True)]
        return torch.cat([_flat(self.dwconv(map_)) for map_ in maps], dim=1)


def _convolved(channels: int, width: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]


def _flat(map_: Tensor) -> Tensor:
    """(B, D, h, w) to (B, h * w, D)."""
    return map_.flatten(2).transpose(1, 2)


def _scaled(map_: Tensor, factor: float) -> Tensor:
    if factor == 1.0:
        return map_
    return F.interpolate(map_, scale_factor=factor, mode="bilinear", align_corners=False)
