"""The plain_vit family: a plain ViT of timm that classifies masks, with queries inside it or in a decoder behind it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from vsscli.errors import VssError
from vsscli.models.config import RANDOM, LargeModel, NamedNetwork
from vsscli.models.encoders import licence_of, require_encoder
from vsscli.models.plain_vit.published import NETWORKS
from vsscli.section import Factor, Fraction, Layers, Section, Size, Width
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.models.plain_vit.network import PlainVit

Window = tuple[Fraction, Fraction]


DECODER_BLOCKS, TAPS = 6, 4


def usual_blocks(depth: int) -> int:
    """How many of the last blocks see queries, as published: of 12 blocks 3, of 24 4, of 40 5."""
    return min(depth, 3 if depth <= 12 else 4 if depth <= 32 else 5)


def usual_taps(depth: int, count: int = TAPS) -> tuple[int, ...]:
    """Blocks whose tokens a decoder reads: evenly spaced, and the last."""
    return tuple((tap + 1) * depth // count - 1 for tap in range(count))


def doublings(patch: int) -> int:
    """How often the map of patches is doubled: to stride 4 from patches of 16, to 7 from patches of 14."""
    return max(1, int(math.log2(patch)) - 2)


class TrunkSizes(Section):
    """Sizes of a ViT; what is left out is the named backbone's own."""

    width: Width | None = Field(None, description="D, of every token")
    depth: Layers | None = Field(None, description="blocks")
    heads: Layers | None = None
    hidden: Width | None = Field(None, description="width inside the feed-forward networks")


class PlainVitModel(LargeModel):
    """A plain ViT with queries: EoMT (inside its last blocks) or PMT (in a decoder over a frozen one)."""

    masks: ClassVar[bool] = True
    named_by: ClassVar[str] = "backbone"
    fetched: ClassVar[dict[str, str]] = {"timm": "from the hub or its cache"}
    listed: ClassVar[tuple[NamedNetwork, ...]] = NETWORKS

    family: Literal["plain_vit"]
    backbone: str = Field("vit_small_patch14_reg4_dinov2", description="any plain ViT of timm")
    sizes: TrunkSizes | None = Field(None, description="where they differ from those of the backbone's name")
    patch: Width = Field(16, description="side of a patch in pixels; loaded weights of another are resized")
    crop: Size = Field((512, 512), description="images that the network is made for, in multiples of the patch")
    any_size: bool = Field(
        False, description="take images of other sizes too; a table of positions is resized in each forward pass"
    )
    queries: Literal["inside", "decoder"] = Field(
        "inside",
        description="where the queries are: in the last blocks of the trunk (EoMT), or in a decoder over a frozen "
        "trunk (PMT)",
    )
    num_queries: Width = 100
    blocks: Layers | None = Field(
        None,
        description="blocks that the queries pass through; none: of a trunk of up to 12 blocks 3, of up to 32 4, of "
        "more 5; of a decoder 6",
    )
    taps: tuple[int, ...] | None = Field(
        None, description="decoder: blocks of the trunk, from 0, whose tokens it reads; none: four, evenly spaced"
    )
    hidden: Width | None = Field(
        None, description="decoder: width inside its feed-forward networks; none: the trunk's width"
    )
    clip: Layers = Field(
        1,
        description="frames of a video that the network learns from together; above 1: queries are handed from each "
        "frame to the next, in prediction too (VidEoMT, and PMT for video; 5 as published)",
    )
    variant: Literal["corrected", "published"] = Field(
        "corrected",
        description="clips: whether classes are matched in the frame where they first appear and every prediction is "
        "learned from, or faults of the published training are kept",
    )
    handed: Literal["raw", "normed"] = Field(
        "raw",
        description="clips: whether queries pass the last norm before they are handed on and before all but the last "
        "prediction (normed as published for VidEoMT over DINOv3)",
    )
    rescale: Factor = Field(
        1.0,
        ge=1,
        description="in training rotary positions are scaled by a random factor of up to this and down to its inverse; "
        "2 as published for clips over DINOv3 and for decoders over DINOv2, which have rotary positions of their own",
    )
    annealing: tuple[Window, ...] | None = Field(
        None,
        description="for each of `blocks`, between which shares of the training its queries come to see more than "
        "their own masks; none: windows of a sixth, starting evenly from 1/6 to 4/6",
    )
    full_rate_blocks: bool = Field(
        False, description="inside: blocks with queries learn at the full rate whatever train.layer_decay"
    )
    readout: Literal["grid", "full"] = Field(
        "full", description="resize masks to the image and add them up, as published, or add them up at stride 4"
    )
    pretrained: str = Field(
        "none",
        description="`none`, `timm` (from the hub or its cache), or a file of the trunk's weights or of a vss "
        "checkpoint",
    )

    @property
    def frozen(self) -> bool:
        """Whether the trunk never learns."""
        return self.queries == "decoder"

    @property
    def frames(self) -> int:
        return self.clip

    @property
    def fixed_crop(self) -> Size | None:
        return None if self.any_size else self.crop

    @property
    def sees(self) -> dict[str, Any] | None:
        if not self.frozen or self.clip > 1:
            return None
        return self.model_dump(include={"backbone", "sizes", "patch", "crop", "any_size", "taps", "readout"})

    @property
    def weights_licence(self) -> str:
        """As timm records it for the backbone, whichever file its weights are in."""
        return RANDOM if self.random else licence_of(self.backbone)

    def shared_blocks(self, depth: int) -> int:
        """How many blocks the queries pass through, over a trunk of a depth."""
        return self.blocks or (DECODER_BLOCKS if self.frozen else usual_blocks(depth))

    def reading(self) -> dict[str, Any]:
        from vsscli.models.plain_vit.trunk import depth_and_heads

        depth, heads = depth_and_heads(self)
        return {
            "backbone": self.backbone.partition(".")[0],
            "sizes.heads": heads,
            "crop": self.crop,
            "blocks": self.shared_blocks(depth),
            "taps": (self.taps or usual_taps(depth)) if self.frozen else None,
            "handed": self.handed,
        }

    def require_known(self) -> None:
        require_encoder(self.backbone)
        super().require_known()

    def require_sound(self) -> None:
        if self.patch < 8:
            raise VssError(f"patch: {self.patch} is too small for masks at a quarter of the image", "16 is usual")
        if self.readout == "grid" and self.patch % (cells := 2 ** doublings(self.patch)):
            raise VssError(
                f"readout: grid: patches of {self.patch} pixels are not {cells} cells of masks side by side",
                "set readout to full, or patch to 16",
            )
        for side in self.crop:
            if side % self.patch:
                near = max(1, round(side / self.patch)) * self.patch
                raise VssError(
                    f"crop: {self.crop[0]}x{self.crop[1]} is not made of patches of {self.patch}",
                    f"the nearest side to {side} that is: {near}",
                )
        for start, end in self.annealing or ():
            if start >= end:
                raise VssError(f"annealing: {start:g} to {end:g} is not a span of time", "name the start first")
        if self.clip == 1:
            kept = [
                name for name in ("variant", "handed") if getattr(self, name) != type(self).model_fields[name].default
            ]
            if kept:
                raise VssError(f"{kept[0]} is of clips, and clip is 1", "set clip to 5, or leave it out")
        if self.queries == "inside":
            surplus = [name for name in ("taps", "hidden") if getattr(self, name) is not None]
            if surplus:
                raise VssError(f"{surplus[0]} is of a decoder, and the queries are inside", "set queries to decoder")

    def bare(self) -> PlainVitModel:
        return self.model_copy(update={"pretrained": "none", "compile": False})

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> PlainVit:
        from vsscli.models.plain_vit.network import build_plain_vit

        return build_plain_vit(self, num_classes, load_pretrained, talk)
