"""The head of Mask2Former (Cheng et al. 2022, arXiv:2112.01527), in the layouts of detectron2 and mmsegmentation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from vsscli.models.mask2former.config import HeadConfig
from vsscli.models.mask2former.mask_decoder import MaskDecoder
from vsscli.models.mask2former.pixel_decoder import PixelDecoder
from vsscli.models.outputs import MaskOutputs


class Mask2FormerHead(nn.Module):
    """Pixel decoder and mask decoder; parameters have the names of detectron2 below ``sem_seg_head``.

    Parameters
    ----------
    in_channels
        Channels of the backbone's maps at strides 4, 8, 16, 32.
    num_classes
        C.
    config
        Its sizes.
    full
        Resize masks to the image before they are summed, as detectron2 does, which takes the memory of Q maps of the
        image's size; otherwise they are summed at stride 4.
    checkpointing
        Recompute layers in the backward pass instead of keeping their activations.

    Attributes
    ----------
    stride
        Of the scores: 4, or 1 if ``full``.
    feature_channels
        D, of the features in its outputs.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        num_classes: int,
        config: HeadConfig,
        *,
        full: bool = False,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.stride = 1 if full else 4
        self.feature_channels = config.channels
        self.pixel_decoder = PixelDecoder(in_channels, config, checkpointing)
        self.predictor = MaskDecoder(num_classes, config, checkpointing)

    def forward(self, maps: Sequence[Tensor], every_layer: bool = True) -> MaskOutputs:
        """Decode a backbone's maps (B, in_channels[i], H / s, W / s) at strides s 4, 8, 16, 32, finest first; without
        ``every_layer`` only the last layer's predictions are kept, which are enough for scores.
        """
        features = self.pixel_decoder(maps)
        layers = self.predictor(features, every_layer)
        height, width = maps[0].shape[-2:]
        size = (4 * height, 4 * width) if self.stride == 1 else None
        return MaskOutputs(layers, features.mask, size)
