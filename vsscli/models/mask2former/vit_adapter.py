"""ViT-Adapter over BEiT or BEiTv2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vsscli.models.mask2former.adapter import AdapterBackbone
from vsscli.models.mask2former.backbone import initialise
from vsscli.models.mask2former.beit import BeitPatches, blocks_of, depth_in_trunk, first_tokens
from vsscli.models.mask2former.trunks import VitAdapterConfig


class VitAdapter(AdapterBackbone):
    """BEiT with an adapter; parameters have the names of the official checkpoints."""

    def __init__(self, config: VitAdapterConfig) -> None:
        super().__init__(config)
        self.cls_token = nn.Parameter(torch.empty(1, 1, config.width))
        self.patch_embed = BeitPatches(config.width)
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
