"""ViT-Adapter over BEiT or BEiTv2."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vsscli.models.backbones.adapter import TINY_ADAPTER, AdapterBackbone, AdapterConfig
from vsscli.models.backbones.backbone import TrunkConfig, initialise
from vsscli.models.backbones.beit import PatchEmbedding, blocks_of, depth_in_trunk, first_tokens


@dataclass(frozen=True)
class VitAdapterConfig(TrunkConfig):
    """What decides a BEiT with an adapter."""

    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.adapter.check(self.depth)


PRESETS = {
    "vit_adapter_l": VitAdapterConfig(),
    "vit_adapter_l_v2": VitAdapterConfig(),  # the same network; its weights come from BEiTv2
    "vit_adapter_tiny": VitAdapterConfig(
        width=192,
        depth=8,
        heads=3,
        hidden=768,
        crop=(256, 256),
        drop_path=0.1,
        gamma=0.1,
        adapter=TINY_ADAPTER,
    ),
}


class VitAdapter(AdapterBackbone):
    """BEiT with an adapter; parameters have the names of the official checkpoints."""

    def __init__(self, config: VitAdapterConfig) -> None:
        super().__init__(config, config.adapter)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.patch_embed = PatchEmbedding(config.width)
        self.blocks = blocks_of(config)
        nn.init.normal_(self.cls_token, std=0.02)
        initialise(self.patch_embed)
        initialise(self.blocks)
        if config.frozen:
            self.freeze("cls_token", "patch_embed", "blocks")

    def first_tokens(self, images: Tensor) -> Tensor:
        return first_tokens(self.cls_token, self.patch_embed(images))

    def trunk_blocks(self) -> nn.ModuleList:
        return self.blocks

    def depth_of(self, name: str) -> int:
        return depth_in_trunk(name, len(self.blocks))
