"""The head of Mask2Former (Cheng et al. 2022, arXiv:2112.01527), in the layouts of detectron2 and mmsegmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.heads.mask_decoder import MaskDecoder
from vsscli.models.heads.pixel_decoder import GROUPS, PixelDecoder
from vsscli.models.outputs import MaskOutputs


@dataclass(frozen=True)
class Mask2FormerConfig:
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
    decoder_heads
        Attention heads of the mask decoder; None for as many as ``heads``.
    readout
        ``grid`` adds up the masks at stride 4, ``full`` resizes them to the image first, as detectron2 does, which
        takes the memory of Q maps of the image's size.
    checkpointing
        Compute layers again on the way back instead of keeping what they made.
    """

    channels: int = 256
    heads: int = 8
    points: int = 4
    queries: int = 100
    encoder_layers: int = 6
    encoder_width: int = 1024
    decoder_layers: int = 9
    decoder_width: int = 2048
    decoder_heads: int | None = None
    readout: Literal["grid", "full"] = "grid"
    checkpointing: bool = False

    def __post_init__(self) -> None:
        for field in ("heads", "points", "queries", "encoder_layers", "encoder_width", "decoder_layers"):
            if getattr(self, field) < 1:
                raise VssError(f"{field}: {getattr(self, field)} of a Mask2Former head is less than 1", "mend `model`")
        for heads in (self.heads, self.decoder_heads or self.heads):
            if self.channels < 1 or heads < 1 or self.channels % GROUPS or self.channels % heads:
                raise VssError(
                    f"channels: {self.channels} of a Mask2Former head do not fit {GROUPS} groups and {heads} heads",
                    f"choose a multiple of {GROUPS} and of the heads, 256 for example",
                )


# The head of ViT-Adapter and ONE-PEACE.
WIDE = Mask2FormerConfig(channels=1024, heads=32, queries=200, encoder_width=4096, decoder_width=4096)


class Mask2FormerHead(nn.Module):
    """Pixel decoder and mask decoder; parameters have the names of detectron2 below ``sem_seg_head``.

    Parameters
    ----------
    in_channels
        Channels of the backbone's maps at strides 4, 8, 16, 32.
    num_classes
        C.
    config
        The layout.

    Attributes
    ----------
    stride
        Of the scores: 4, or 1 with the read-out ``full``.
    feature_channels
        D, of the features in its outputs.
    """

    def __init__(self, in_channels: Sequence[int], num_classes: int, config: Mask2FormerConfig) -> None:
        super().__init__()
        self.config = config
        self.stride = 1 if config.readout == "full" else 4
        self.feature_channels = config.channels
        self.pixel_decoder = PixelDecoder(
            in_channels,
            config.channels,
            config.heads,
            config.points,
            config.encoder_layers,
            config.encoder_width,
            config.checkpointing,
        )
        self.predictor = MaskDecoder(
            config.channels,
            num_classes,
            config.queries,
            config.decoder_heads or config.heads,
            config.decoder_layers,
            config.decoder_width,
            config.checkpointing,
        )

    def forward(self, maps: Sequence[Tensor], every_layer: bool = True) -> MaskOutputs:
        """Decode a backbone's maps (B, in_channels[i], H / s, W / s) at strides s 4, 8, 16, 32.

        Parameters
        ----------
        maps
            Finest first.
        every_layer
            Keep the predictions of all layers, as training needs; False where only scores are wanted.
        """
        features = self.pixel_decoder(maps)
        layers = self.predictor(features, every_layer)
        height, width = maps[0].shape[-2:]
        size = (4 * height, 4 * width) if self.config.readout == "full" else None
        return MaskOutputs(layers, features.mask, size)
