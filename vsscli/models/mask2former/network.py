"""Mask2Former on Swin, BEiT, ViT-Adapter or ONE-PEACE."""

from __future__ import annotations

import os
from pathlib import Path

from torch import Tensor, nn

from vsscli.models.config import RANDOM
from vsscli.models.mask2former.config import Mask2FormerModel
from vsscli.models.mask2former.head import Mask2FormerHead
from vsscli.models.mask2former.trunks import DIVISOR
from vsscli.models.network import Network, Normalisation
from vsscli.models.official.start import load_start
from vsscli.models.outputs import MaskOutputs
from vsscli.models.scores import Scores
from vsscli.talk import SILENCE, Talk

# Layer decay as published for ViT-Adapter counts these to the first layer, although they belong to the end of the
# network, so they learn slowest (specs: vit_adapter.md, Hyper-parameters).
SLOWEST = tuple(
    f"predictor.{part}." for part in ("mask_embed", "class_embed", "level_embed", "query_embed", "query_feat")
)


class Mask2Former(Network):
    """Backbone and Mask2Former head; mask scores at stride 4, or 1 with the read-out ``full``."""

    def __init__(self, config: Mask2FormerModel, num_classes: int) -> None:
        trunk = config.trunk
        backbone = trunk.build()
        full, again = config.readout == "full", config.checkpointing
        head = Mask2FormerHead(backbone.channels, num_classes, config.decoder, full=full, checkpointing=again)
        super().__init__(num_classes, head.stride, DIVISOR, Normalisation(*trunk.colours))
        self.crop = backbone.crop
        self.feature_channels = head.feature_channels
        self.backbone = backbone
        self.head = head
        self._slow_head = trunk.slow_head
        self._undecayed = frozenset(_norms_and_embeddings(head)) if trunk.decays_head_biases else None
        if config.compile:
            self.backbone.compile()
            self.head.compile()

    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W): mask scores (B, C, H / stride, W / stride)."""
        self.check_sides(images)
        return self.head(self.backbone(images), every_layer=False).scores

    def outputs(self, images: Tensor) -> MaskOutputs:
        """Predictions of all decoder layers for images (B, 3, H, W), and mask features (B, D, H / 4, W / 4)."""
        self.check_sides(images)
        return self.head([self.between(map_) for map_ in self.backbone(images)])

    def place_of(self, name: str) -> tuple[bool, int]:
        part, _, rest = name.partition(".")
        if part == "backbone":
            return True, self.backbone.depth_of(rest)
        if self._slow_head and rest.startswith(SLOWEST):
            return False, self._first_depth()
        return False, 0

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Whether weight decay applies, as each network was published.

        ViT-Adapter and ONE-PEACE: not to vectors and biases. Mask2Former on Swin: not to norms, embeddings and tables
        of relative positions, but to biases (specs: vit_adapter.md, mask2former.md).
        """
        part, _, rest = name.partition(".")
        if part == "backbone":
            return self.backbone.decays(rest, parameter)
        return super().decays(name, parameter) if self._undecayed is None else rest not in self._undecayed

    def _first_depth(self) -> int:
        """Depth of the backbone's first layer."""
        return max(self.backbone.depth_of(name) for name, _ in self.backbone.named_parameters())


def build_mask2former(
    config: Mask2FormerModel, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE
) -> Mask2Former:
    """Build a network; with ``load_pretrained``, load the weights that its configuration names."""
    network = Mask2Former(config, num_classes)
    if load_pretrained and not config.random:
        network.licence = load_start(network, config.trunk, Path(os.path.expanduser(config.pretrained)), talk)
    elif load_pretrained:
        network.note_loaded(())
        network.licence = RANDOM
    return network


def _norms_and_embeddings(head: nn.Module) -> list[str]:
    return [
        f"{prefix}.{name}"
        for prefix, module in head.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.Embedding)
        for name, _ in module.named_parameters(recurse=False)
    ]
