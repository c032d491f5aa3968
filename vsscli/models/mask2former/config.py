"""The mask2former family: Mask2Former on Swin, BEiT, ViT-Adapter or ONE-PEACE; tiny ones and the published ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Field, ValidationError, create_model, model_validator

from vsscli.errors import VssError
from vsscli.models.config import NamedNetwork, NetworkConfig, config_error
from vsscli.models.mask2former.published import NETWORKS
from vsscli.models.mask2former.trunks import (
    SETTINGS,
    AdapterConfig,
    BackboneConfig,
    BeitConfig,
    SwinConfig,
    TrunkConfig,
    changed,
    require_backbone,
)
from vsscli.section import Fraction, Layers, Section, Size, Width
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.models.mask2former.network import Mask2Former

GROUPS = 32  # of every group norm in the head


class HeadConfig(Section):
    """What decides a head beside its backbone and classes; the defaults are detectron2's for Swin.

    Attributes
    ----------
    channels
        D, of everything inside.
    heads, points
        Attention heads, and places that each head of deformable attention looks at on each map.
    queries
        Q.
    encoder_layers, encoder_width, decoder_layers, decoder_width
        Layers of the pixel decoder and of the mask decoder, and the width of their feed-forward parts.
    """

    channels: Width = 256
    heads: Layers = 8
    points: Layers = 4
    queries: Width = 100
    encoder_layers: Layers = 6
    encoder_width: Width = 1024
    decoder_layers: Layers = 9
    decoder_width: Width = 2048
    decoder_heads: Layers | None = Field(None, description="of the mask decoder; none: as many as `heads`")

    @model_validator(mode="after")
    def _channels_are_groups_and_heads(self) -> HeadConfig:
        for heads in (self.heads, self.decoder_heads or self.heads):
            if self.channels % GROUPS or self.channels % heads:
                raise VssError(
                    f"channels: {self.channels} of a Mask2Former head do not fit {GROUPS} groups and {heads} heads",
                    f"choose a multiple of {GROUPS} and of the heads, 256 for example",
                )
        return self


LAYOUTS = {
    "base": HeadConfig(),
    "wide": HeadConfig(channels=1024, heads=32, queries=200, encoder_width=4096, decoder_width=4096),
    "small": HeadConfig(
        channels=128, queries=50, encoder_layers=3, encoder_width=512, decoder_layers=3, decoder_width=512
    ),
}


def _changes(
    name: str, about: str, *configs: type[Section], leaving: Collection[str] = (), **others: Any
) -> type[Section]:
    """A section of the fields of configurations, none of which need be said: what is other than a name says."""
    kinds: dict[str, list[Any]] = {}
    said: dict[str, str | None] = {}
    for config in configs:
        for field, info in config.model_fields.items():
            kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            kinds.setdefault(field, []).append(kind)
            said[field] = said.get(field) or info.description
    fields: dict[str, Any] = {
        field: (Union[(*kinds[field], None)], Field(None, description=said[field]))
        for field in kinds
        if field not in leaving
    }
    return create_model(name, __base__=Section, __doc__=about, **fields, **others)


if TYPE_CHECKING:
    Sizes = Section
    Head = Section
else:
    Adapter = _changes("Adapter", "Sizes of a ViT-Adapter; what is left out is the backbone's own.", AdapterConfig)
    Sizes = _changes(
        "Sizes",
        "Sizes of a backbone; what is left out is the named backbone's own.",
        BeitConfig,
        SwinConfig,
        leaving=SETTINGS,
        adapter=(Adapter | None, None),
    )
    Head = _changes(
        "Head",
        "Sizes of a Mask2Former head; what is left out is the layout's.",
        HeadConfig,
        layout=(
            Literal["base", "wide", "small"] | None,
            Field(
                None,
                description="detectron2's, ViT-Adapter's, one for small backbones; none: the one usual with the "
                "backbone",
            ),
        ),
    )


class Mask2FormerModel(NetworkConfig):
    """Mask2Former on a Swin, a BEiT, or a ViT-Adapter over BEiT or ONE-PEACE: `vss model ls`."""

    masks: ClassVar[bool] = True
    named_by: ClassVar[str] = "backbone"
    listed: ClassVar[tuple[NamedNetwork, ...]] = NETWORKS

    family: Literal["mask2former"]
    backbone: str = Field("vit_adapter_l", description="`vss model ls` lists them")
    sizes: Sizes | None = Field(None, description="where they are not those of the backbone's name")
    head: Head | None = None
    crop: Size | None = Field(
        None, description="images that a plain transformer is made for, multiples of 32; none: the backbone's own"
    )
    drop_path: Fraction | None = Field(None, description="stochastic depth of the last block; none: the backbone's own")
    readout: Literal["grid", "full"] = Field(
        "grid", description="add up masks at stride 4, or resize them to the image first as detectron2 does"
    )
    frozen: bool = Field(False, description="the pre-trained trunk does not learn")
    checkpointing: bool = Field(False, description="compute activations again on the way back: slower, far less memory")
    compile: bool = Field(False, description="torch.compile; the first steps take minutes")
    pretrained: str = Field(
        "none",
        description="`none`, or a file: BEiT's, ONE-PEACE's or Swin's pre-training, an official or a vss checkpoint",
    )

    @property
    def trunk(self) -> BackboneConfig:
        """The backbone's whole configuration."""
        preset = require_backbone(self.backbone)
        if self.crop is not None and not isinstance(preset, TrunkConfig):
            raise VssError(
                f"crop: {self.crop[0]}x{self.crop[1]} of a {self.backbone} has no meaning: it takes images of any size",
                "leave model.crop out; augment.crop and predict.window say what it is shown",
            )
        sizes = {} if self.sizes is None else self.sizes.model_dump(exclude_none=True)
        values = preset.model_dump()
        values = changed(values, sizes, [field for field in values if field not in SETTINGS], self.backbone)
        values |= {field: value for field in SETTINGS if (value := getattr(self, field)) is not None}
        try:
            return type(preset).model_validate(values)
        except ValidationError as error:
            raise config_error(error, f"backbone {self.backbone}") from error

    @property
    def decoder(self) -> HeadConfig:
        """The head's whole configuration: its layout, with the fields that are given put in their place."""
        given = {} if self.head is None else self.head.model_dump(exclude_none=True)
        usual = "small" if self.backbone.endswith("_tiny") else require_backbone(self.backbone).layout
        layout = LAYOUTS[given.pop("layout", usual)]
        return HeadConfig.model_validate({**layout.model_dump(), **given})

    @property
    def fixed_crop(self) -> Size | None:
        trunk = self.trunk
        return trunk.crop if isinstance(trunk, TrunkConfig) else None

    @property
    def recomputes(self) -> bool:
        return self.checkpointing

    @property
    def compiles(self) -> bool:
        return self.compile

    @property
    def random(self) -> bool:
        return self.pretrained == "none"

    @property
    def weights(self) -> tuple[str, str] | None:
        return None if self.random else ("pretrained", self.pretrained)

    @property
    def published(self) -> str:
        for listed in self.listed:
            if listed.name == self.backbone and listed.pretraining:
                return f"{listed.pretraining} is published at {listed.pretraining_publisher}"
        return ""

    def reading(self) -> dict[str, Any]:
        trunk, head = self.trunk.model_dump(), self.decoder
        adapter = trunk.pop("adapter", {})
        kept: dict[str, Any] = {name: trunk[name] for name in ("crop", "window", "heads", "taps") if name in trunk}
        kept |= {f"adapter.{name}": adapter[name] for name in ("interactions", "heads", "points") if name in adapter}
        return {
            **kept,
            "head.heads": head.heads,
            "head.points": head.points,
            "head.decoder_heads": head.decoder_heads or head.heads,
        }

    def require_known(self) -> None:
        require_backbone(self.backbone)

    def require_sound(self) -> None:
        _ = self.trunk, self.decoder

    def bare(self) -> Mask2FormerModel:
        return self.model_copy(update={"pretrained": "none", "compile": False})

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Mask2Former:
        from vsscli.models.mask2former.network import build_mask2former

        return build_mask2former(self, num_classes, load_pretrained, talk)
