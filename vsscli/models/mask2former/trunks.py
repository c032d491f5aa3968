"""Configurations of Mask2Former's backbones: by name, or with sizes other than the named ones. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from vsscli.errors import VssError
from vsscli.section import Layers, Section, Size, Width

if TYPE_CHECKING:
    from vsscli.models.mask2former.backbone import Backbone

DIVISOR = 32  # of the sides of an image: the coarsest map has stride 32
PATCH = 16  # side of the patches of plain transformers, pixels
STRIDES = (4, 8, 16, 32)  # of a backbone's maps
SETTINGS = ("crop", "drop_path", "checkpointing", "frozen")
"""Fields that are not sizes of a backbone: in a recipe they stand beside its name."""

Pretraining = Literal["swin", "beit", "one_peace"]
Colours = tuple[tuple[float, float, float], tuple[float, float, float]]
IMAGENET: Colours = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


class BackboneConfig(Section, ABC):
    """The configuration of a backbone.

    Attributes
    ----------
    pretraining
        In whose format files of its pretrained part are (`vsscli.models.official.pretraining`).
    layout
        Layout of the head that is usual with it.
    colours
        Mean and standard deviation of red, green and blue that its published weights expect (specs: mask2former.md,
        vit_adapter.md).
    slow_head
        Whether the published code counts the head's queries, class and mask layers to the slowest layer when the
        learning rate decays by layers.
    decays_head_biases
        Whether weight decay in the head spares norms and embeddings instead of vectors and biases.
    drop_path
        Rate of stochastic depth of the last block; it grows linearly from 0.
    checkpointing
        Discard the activations inside blocks and compute them again for the gradient.
    frozen
        The pretrained part does not learn.
    """

    pretraining: ClassVar[Pretraining]
    layout: ClassVar[Literal["base", "wide"]] = "base"
    colours: ClassVar[Colours] = IMAGENET
    slow_head: ClassVar[bool] = False
    decays_head_biases: ClassVar[bool] = False

    drop_path: float = Field(0.3, ge=0, lt=1)
    checkpointing: bool = False
    frozen: bool = False

    @abstractmethod
    def build(self) -> Backbone:
        """Build the backbone, with fresh weights."""


def _require_divisor(heads: int, width: int) -> None:
    if width % heads:
        raise VssError(f"{heads} heads do not divide a width of {width}", "choose heads that do")


def _require_channel(name: str, ratio: float, width: int, usual: str) -> None:
    if int(width * ratio) < 1:
        raise VssError(f"{name}: {ratio:g} of a width of {width} is not even one channel", f"{usual} is usual")


class SwinConfig(BackboneConfig):
    """The configuration of a Swin transformer.

    Attributes
    ----------
    width
        Channels of the first stage; each further stage has twice as many.
    """

    pretraining: ClassVar[Pretraining] = "swin"
    decays_head_biases: ClassVar[bool] = True

    width: Width = 192
    depths: tuple[Layers, ...] = Field((2, 2, 18, 2), description="blocks of the four stages of a Swin")
    heads: tuple[Layers, ...] = Field((6, 12, 24, 48), description="one number, or one a stage of a Swin")
    mlp_ratio: float = Field(4.0, gt=0, description="the same of a Swin, in widths of the stage")
    window: Width = Field(12, description="side of a Swin's windows, in cells")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the stages."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))

    @model_validator(mode="after")
    def _has_four_stages(self) -> SwinConfig:
        if not len(self.depths) == len(self.heads) == len(STRIDES):
            raise VssError(
                f"{len(self.depths)} depths and {len(self.heads)} numbers of heads do not make four stages",
                "give four of each",
            )
        for width, heads in zip(self.widths, self.heads, strict=True):
            _require_divisor(heads, width)
        _require_channel("mlp_ratio", self.mlp_ratio, self.width, "4")
        return self

    def build(self) -> Backbone:
        from vsscli.models.mask2former.swin import Swin

        return Swin(self)


class TrunkConfig(BackboneConfig):
    """The configuration of a plain transformer over patches of 16 pixels.

    Attributes
    ----------
    width
        D.
    crop
        Height and width of the images in pixels, multiples of 32. Its tables of relative positions are made for that
        size, so it takes no other.
    """

    pretraining: ClassVar[Pretraining] = "beit"

    width: Width = 1024
    depth: Layers = Field(24, description="blocks of a plain transformer")
    heads: Layers = 16
    hidden: Width = Field(4096, description="width inside a plain transformer's feed-forward networks")
    gamma: float = Field(1e-6, description="layer scale at the start of training")
    crop: Size = (896, 896)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.crop[0] // PATCH, self.crop[1] // PATCH

    @model_validator(mode="after")
    def _is_made_of_patches_and_heads(self) -> TrunkConfig:
        for side in self.crop:
            if side % DIVISOR:
                near = max(1, round(side / DIVISOR)) * DIVISOR
                raise VssError(
                    f"crop: {self.crop[0]}x{self.crop[1]} is not made of multiples of {DIVISOR}",
                    f"the next side to {side} that is one: {near}",
                )
        _require_divisor(self.heads, self.width)
        return self


class BeitConfig(TrunkConfig):
    """The configuration of a BEiT with a pyramid: the four taps become the maps at strides 4, 8, 16, 32."""

    crop: Size = (640, 640)
    taps: tuple[int, int, int, int] = Field(
        (7, 11, 15, 23), description="blocks, from 0, that a BEiT's pyramid is over"
    )

    @model_validator(mode="after")
    def _taps_are_blocks(self) -> BeitConfig:
        if list(self.taps) != sorted(set(self.taps)) or self.taps[0] < 0 or self.taps[-1] != self.depth - 1:
            raise VssError(
                f"taps: {list(self.taps)} are not four blocks in order that end with block {self.depth - 1}",
                "[7, 11, 15, 23] are usual for 24 blocks",
            )
        return self

    def build(self) -> Backbone:
        from vsscli.models.mask2former.beit import Beit

        return Beit(self)


class AdapterConfig(Section):
    """The configuration of a ViT-Adapter without its trunk.

    Attributes
    ----------
    heads, points
        Of the deformable attention.
    deform_ratio
        Width of its values, as a share of D.
    ffn_ratio
        Width inside the extractors' feed-forward networks, as a share of D.
    extra_extractors
        Further extractors after the last interaction.
    gamma
        Scale of what injectors add at the start of training.
    """

    stem: Width = Field(64, description="channels of its first convolutions")
    interactions: tuple[tuple[int, int], ...] = Field(
        ((0, 5), (6, 11), (12, 17), (18, 23)),
        description="first and last block, from 0, of each of the four interactions",
    )
    heads: Layers = 16
    points: Layers = 4
    deform_ratio: float = Field(0.5, gt=0)
    ffn_ratio: float = Field(0.25, gt=0)
    extra_extractors: Annotated[int, Field(ge=0, le=1000)] = 2
    gamma: float = 1e-6


class AdapterTrunkConfig(TrunkConfig):
    """The configuration of a plain transformer with an adapter."""

    layout: ClassVar[Literal["base", "wide"]] = "wide"
    slow_head: ClassVar[bool] = True

    adapter: AdapterConfig = AdapterConfig()

    @model_validator(mode="after")
    def _spans_divide_the_blocks(self) -> AdapterTrunkConfig:
        interactions = self.adapter.interactions
        starts = [0, *(last + 1 for _, last in interactions)]
        follows = all(first == start <= last for (first, last), start in zip(interactions, starts, strict=False))
        if len(interactions) != len(STRIDES) or not follows or starts[-1] != self.depth:
            spans = ", ".join(f"{first}-{last}" for first, last in interactions)
            raise VssError(
                f"interactions: {spans} do not divide blocks 0-{self.depth - 1} into four spans",
                "let each span begin right after the one before it, from the first block to the last",
            )
        _require_channel("ffn_ratio", self.adapter.ffn_ratio, self.width, "0.25")
        return self


class VitAdapterConfig(AdapterTrunkConfig):
    """The configuration of a BEiT with an adapter."""

    def build(self) -> Backbone:
        from vsscli.models.mask2former.vit_adapter import VitAdapter

        return VitAdapter(self)


class OnePeaceConfig(AdapterTrunkConfig):
    """The configuration of a ONE-PEACE with an adapter; the published one is the giant, of 1.5 billion parameters."""

    pretraining: ClassVar[Pretraining] = "one_peace"
    # Its own, close to CLIP's (specs: one_peace.md).
    colours: ClassVar[Colours] = (122.771, 116.746, 104.094), (68.5, 66.632, 70.323)

    width: Width = 1536
    depth: Layers = 40
    heads: Layers = 24
    hidden: Width = 6144
    drop_path: float = Field(0.5, ge=0, lt=1)
    gamma: float = 1e-2
    adapter: AdapterConfig = AdapterConfig(interactions=((0, 9), (10, 19), (20, 29), (30, 39)), heads=24)

    def build(self) -> Backbone:
        from vsscli.models.mask2former.one_peace import OnePeace

        return OnePeace(self)


_TINY: dict[str, Any] = {
    "width": 192,
    "depth": 8,
    "heads": 3,
    "hidden": 768,
    "crop": (256, 256),
    "drop_path": 0.1,
    "gamma": 0.1,
}
_TINY_ADAPTER = AdapterConfig(stem=32, interactions=((0, 1), (2, 3), (4, 5), (6, 7)), heads=6)

PRESETS: dict[str, BackboneConfig] = {
    "swin_l": SwinConfig(),
    "swin_t": SwinConfig(width=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), window=7),
    "swin_tiny": SwinConfig(width=24, depths=(1, 1, 2, 1), heads=(1, 2, 2, 4), window=4, drop_path=0.1),
    "beit_l": BeitConfig(),
    "beit_tiny": BeitConfig(**_TINY, taps=(1, 3, 5, 7)),
    "vit_adapter_l": VitAdapterConfig(),
    "vit_adapter_l_v2": VitAdapterConfig(),  # the same network; its weights come from BEiTv2
    "vit_adapter_tiny": VitAdapterConfig(**_TINY, adapter=_TINY_ADAPTER),
    "one_peace_g": OnePeaceConfig(),
    "one_peace_tiny": OnePeaceConfig(**_TINY | {"hidden": 512}, adapter=_TINY_ADAPTER),
}


def require_backbone(name: str) -> BackboneConfig:
    """The configuration of a named backbone.

    Raises
    ------
    VssError
        No backbone has this name.
    """
    if name not in PRESETS:
        raise VssError(f"unknown backbone {name!r}", f"backbones: {', '.join(PRESETS)}")
    return PRESETS[name]


def changed(values: dict[str, Any], sizes: Mapping[str, Any], known: list[str], name: str) -> dict[str, Any]:
    """Values of a configuration, with the given sizes in place of its own; those inside ``adapter`` one by one.

    Raises
    ------
    VssError
        A size is not one of those ``known``, which the hint lists.
    """
    given = {key: value for key, value in sizes.items() if value is not None}
    unknown = [key for key in given if key not in known]
    if unknown:
        raise VssError(f"a {name} has no {', '.join(unknown)}", f"its sizes are {', '.join(known)}")
    for key, value in given.items():
        inner = values[key]
        if isinstance(inner, dict) and isinstance(value, Mapping):
            value = changed(inner, value, list(inner), f"{key} of a {name}")
        values = values | {key: value}
    return values
