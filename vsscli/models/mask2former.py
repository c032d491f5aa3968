"""The mask2former family: Mask2Former on Swin, BEiT, ViT-Adapter or ONE-PEACE; tiny ones and the published ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.backbones.backbone import DIVISOR
from vsscli.models.backbones.one_peace import OnePeaceConfig
from vsscli.models.backbones.presets import BackboneConfig, backbone_config, build_backbone
from vsscli.models.backbones.swin import SwinConfig
from vsscli.models.backbones.vit_adapter import VitAdapterConfig
from vsscli.models.heads.mask2former import WIDE, Mask2FormerConfig, Mask2FormerHead
from vsscli.models.network import Network, Normalisation
from vsscli.models.official.recognise import IMAGENET, ONE_PEACE_NORMALISATION
from vsscli.models.official.start import load_start
from vsscli.models.outputs import MaskOutputs
from vsscli.models.scores import Scores
from vsscli.talk import SILENCE, Talk

LAYOUTS = {
    "base": Mask2FormerConfig(),
    "wide": WIDE,
    "small": Mask2FormerConfig(
        channels=128, queries=50, encoder_layers=3, encoder_width=512, decoder_layers=3, decoder_width=512
    ),
}
# What the authors of ViT-Adapter count to the first layer when the learning rate decays by layers, although it belongs
# to the end of the network: they learn slowest (specs: vit_adapter.md, Hyper-parameters).
SLOWEST = tuple(
    f"predictor.{part}." for part in ("mask_embed", "class_embed", "level_embed", "query_embed", "query_feat")
)


@dataclass(frozen=True)
class Mask2FormerNetworkConfig:
    """What decides a network of the family beside its classes; the same fields as a recipe's ``model``.

    Parameters
    ----------
    backbone
        Name of a backbone (`vsscli.models.backbones.presets`).
    sizes
        Fields of its configuration that are other than the name says.
    head
        ``layout``, one of `LAYOUTS`, and fields of `Mask2FormerConfig` that are other than the layout says.
    crop
        Height and width of the only images that a plain transformer takes; none: as the name says.
    drop_path, frozen, checkpointing
        As in the backbone's configuration.
    readout
        As in `Mask2FormerConfig`.
    compile
        Compile backbone and head when they run first.
    pretrained
        Where the first weights come from: ``none``, or a file (`vsscli.models.official.start`).
    """

    backbone: str = "vit_adapter_l"
    sizes: dict[str, Any] | None = None
    head: dict[str, Any] | None = None
    crop: tuple[int, int] | None = None
    drop_path: float | None = None
    readout: Literal["grid", "full"] = "grid"
    frozen: bool = False
    checkpointing: bool = False
    compile: bool = False
    pretrained: str = "none"

    def __post_init__(self) -> None:
        _ = self.trunk, self.decoder  # wrong values are refused here, not when a network is built

    @property
    def trunk(self) -> BackboneConfig:
        """The backbone's whole configuration."""
        return backbone_config(
            self.backbone,
            self.sizes or {},
            crop=self.crop,
            drop_path=self.drop_path,
            checkpointing=self.checkpointing,
            frozen=self.frozen,
        )

    @property
    def decoder(self) -> Mask2FormerConfig:
        """The head's whole configuration."""
        config = head_config(self.backbone, self.trunk, self.head or {})
        return replace(config, readout=self.readout, checkpointing=self.checkpointing)


def head_config(backbone: str, trunk: BackboneConfig, given: Mapping[str, Any]) -> Mask2FormerConfig:
    """Say how the head over a backbone is made: its layout, with the fields that are given put in their place."""
    chosen = {name: value for name, value in given.items() if value is not None}
    usual = "wide" if isinstance(trunk, VitAdapterConfig | OnePeaceConfig) else "base"
    layout = chosen.pop("layout", "small" if backbone.endswith("_tiny") else usual)
    known = [part.name for part in fields(Mask2FormerConfig) if part.name not in ("readout", "checkpointing")]
    unknown = [name for name in chosen if name not in known]
    if layout not in LAYOUTS or unknown:
        what = f"has no {', '.join(unknown)}" if unknown else f"has no layout {layout!r}"
        raise VssError(f"a Mask2Former head {what}", f"layouts: {', '.join(LAYOUTS)}; sizes: {', '.join(known)}")
    return replace(LAYOUTS[layout], **chosen)


class Mask2Former(Network):
    """Backbone and Mask2Former head; mask scores at stride 4, or 1 with the read-out ``full``."""

    def __init__(self, config: Mask2FormerNetworkConfig, num_classes: int) -> None:
        backbone = build_backbone(config.trunk)
        head = Mask2FormerHead(backbone.channels, num_classes, config.decoder)
        super().__init__(num_classes, head.stride, DIVISOR, normalisation_of(config.trunk))
        self.crop = backbone.crop
        self.feature_channels = head.feature_channels
        self.backbone = backbone
        self.head = head
        self._slow_head = isinstance(config.trunk, VitAdapterConfig | OnePeaceConfig)
        self._kept: frozenset[str] = frozenset()
        if isinstance(config.trunk, SwinConfig):
            self._kept = frozenset(_norms_and_embeddings(head))
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
        return self.head(self.backbone(images))

    def place_of(self, name: str) -> tuple[bool, int]:
        part, _, rest = name.partition(".")
        if part == "backbone":
            return True, self.backbone.depth_of(rest)
        if self._slow_head and rest.startswith(SLOWEST):
            return False, self._first_depth()
        return False, 0

    def decays(self, name: str, parameter: nn.Parameter) -> bool:
        """Say whether weight decay applies, as where each network was published.

        ViT-Adapter and ONE-PEACE: not to vectors and biases. Mask2Former on Swin: not to norms, embeddings and tables
        of relative positions, but to biases (specs: vit_adapter.md, mask2former.md).
        """
        part, _, rest = name.partition(".")
        if part == "backbone":
            return self.backbone.decays(rest, parameter)
        return rest not in self._kept if self._kept else super().decays(name, parameter)

    def _first_depth(self) -> int:
        """How deep the first layer of the backbone lies."""
        return max(self.backbone.depth_of(name) for name, _ in self.backbone.named_parameters())


def normalisation_of(trunk: BackboneConfig) -> Normalisation:
    """What the images must be normalised with for a backbone's published weights."""
    return ONE_PEACE_NORMALISATION if isinstance(trunk, OnePeaceConfig) else IMAGENET


def build_mask2former(
    config: Mask2FormerNetworkConfig, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE
) -> Mask2Former:
    """Build a network, with the weights that its configuration names if ``load_pretrained``."""
    network = Mask2Former(config, num_classes)
    if load_pretrained and config.pretrained != "none":
        load_start(network, config.trunk, Path(config.pretrained).expanduser(), talk)
    elif load_pretrained:
        network.note_loaded(())
    return network


def _norms_and_embeddings(head: nn.Module) -> list[str]:
    return [
        f"{prefix}.{name}"
        for prefix, module in head.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.Embedding)
        for name, _ in module.named_parameters(recurse=False)
    ]
