"""The mask2former family: Mask2Former on Swin, BEiT, ViT-Adapter or ONE-PEACE, published and tiny ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Field, ValidationError, create_model, model_validator

from vsscli.errors import VssError
from vsscli.models.config import RANDOM, UNRECORDED, LargeModel, NamedNetwork, config_error
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

GROUPS = 32  # in every group norm of the head


class HeadConfig(Section):
    """The configuration of a head without its backbone and classes; the defaults are detectron2's for Swin.

    Attributes
    ----------
    channels
        D, inside the head.
    heads, points
        Attention heads, and points that each head of deformable attention samples from each map.
    queries
        Q.
    encoder_layers, encoder_width, decoder_layers, decoder_width
        Layers of the pixel decoder and of the mask decoder, and the widths of their feed-forward networks.
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
    """A section with the fields of configurations, all optional: those that override a named configuration."""
    kinds: dict[str, list[Any]] = {}
    described: dict[str, str | None] = {}
    for config in configs:
        for field, info in config.model_fields.items():
            kind = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
            kinds.setdefault(field, []).append(kind)
            described[field] = described.get(field) or info.description
    fields: dict[str, Any] = {
        field: (Union[(*kinds[field], None)], Field(None, description=described[field]))
        for field in kinds
        if field not in leaving
    }
    return create_model(name, __base__=Section, __doc__=about, **fields, **others)


if TYPE_CHECKING:
    Sizes = Section
    Head = Section
else:
    Adapter = _changes("Adapter", "Sizes of a ViT-Adapter; missing ones are the backbone's own.", AdapterConfig)
    Sizes = _changes(
        "Sizes",
        "Sizes of a backbone; missing ones are the named backbone's own.",
        BeitConfig,
        SwinConfig,
        leaving=SETTINGS,
        adapter=(Adapter | None, None),
    )
    Head = _changes(
        "Head",
        "Sizes of a Mask2Former head; missing ones are the layout's.",
        HeadConfig,
        layout=(
            Literal["base", "wide", "small"] | None,
            Field(
                None,
                description="detectron2's, ViT-Adapter's, or one for small backbones; none: the usual one of the "
                "backbone",
            ),
        ),
    )


class Mask2FormerModel(LargeModel):
    """Mask2Former on a Swin, a BEiT, or a ViT-Adapter over BEiT or ONE-PEACE: `vss model ls`."""

    masks: ClassVar[bool] = True
    named_by: ClassVar[str] = "backbone"
    listed: ClassVar[tuple[NamedNetwork, ...]] = NETWORKS

    family: Literal["mask2former"]
    backbone: str = Field("vit_adapter_l", description="name of a backbone: `vss model ls`")
    sizes: Sizes | None = Field(None, description="sizes that differ from the named backbone's")
    head: Head | None = None
    crop: Size | None = Field(
        None, description="size of the images of a plain transformer, multiples of 32; none: the backbone's own"
    )
    drop_path: Fraction | None = Field(None, description="stochastic depth of the last block; none: the backbone's own")
    readout: Literal["grid", "full"] = Field(
        "grid", description="sum masks at stride 4, or resize them to the image first, as detectron2 does"
    )
    frozen: bool = Field(False, description="do not train the pretrained trunk")
    pretrained: str = Field(
        "none",
        description="`none`, or a file: BEiT's, ONE-PEACE's or Swin's pretraining, a published or a vss checkpoint",
    )

    @property
    def trunk(self) -> BackboneConfig:
        """The complete configuration of the backbone."""
        preset = require_backbone(self.backbone)
        if self.crop is not None and not isinstance(preset, TrunkConfig):
            raise VssError(
                f"crop: {self.crop[0]}x{self.crop[1]} is given, but {self.backbone} takes images of any size",
                "leave model.crop out; augment.crop and predict.window set what it sees",
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
        """The complete configuration of the head: its layout, with the given fields in place of its own."""
        given = {} if self.head is None else self.head.model_dump(exclude_none=True)
        default = "small" if self.backbone.endswith("_tiny") else require_backbone(self.backbone).layout
        layout = LAYOUTS[given.pop("layout", default)]
        return HeadConfig.model_validate({**layout.model_dump(), **given})

    @property
    def fixed_crop(self) -> Size | None:
        trunk = self.trunk
        return trunk.crop if isinstance(trunk, TrunkConfig) else None

    @property
    def published(self) -> str:
        for listed in self.listed:
            if listed.name == self.backbone and listed.pretraining:
                return f"{listed.pretraining} is published at {listed.pretraining_publisher}"
        return ""

    @property
    def weights_licence(self) -> str:
        """That of the trunk's published weights; of another file it is known once the file is read."""
        listed = {one.name: one.licence for one in self.listed}
        return RANDOM if self.random else listed.get(self.backbone) or UNRECORDED

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
        super().require_known()

    def require_sound(self) -> None:
        _ = self.trunk, self.decoder

    def bare(self) -> Mask2FormerModel:
        return self.model_copy(update={"pretrained": "none", "compile": False})

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Mask2Former:
        from vsscli.models.mask2former.network import build_mask2former

        return build_mask2former(self, num_classes, load_pretrained, talk)
