"""Any timm network with feature maps at strides 4, 8, 16 and 32 as an encoder."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vsscli.errors import VssError
from vsscli.models.encoders import require_encoder

STRIDES = (4, 8, 16, 32)
PROBE = 96  # side of the image that an encoder is tried on


class TimmEncoder(nn.Module):
    """A timm network, with or without a tag (``resnet50``, ``resnet50.a1_in1k``), up to its last feature map.

    With ``frozen_norm`` batch norms stay in evaluation mode, with the statistics that were loaded.

    Attributes
    ----------
    channels
        Channels of the maps at strides 4, 8, 16, 32.
    divisor
        32, though padded convolutions accept any side. At stride 32, 360 rows become 12 cells, which cover 384:
        stretched over 360 again, deeper maps would be off by pixels. And TensorFlow's "same" padding shifts odd sides
        differently from the even ones that were trained on.
    """

    def __init__(self, name: str, drop_path: float = 0.0, frozen_norm: bool = False) -> None:
        super().__init__()
        self.frozen_norm = frozen_norm
        self.features = _create(name, drop_path)
        info: Any = self.features.feature_info
        strides = list(info.reduction())
        missing = [stride for stride in STRIDES if stride not in strides]
        if missing:
            raise VssError(
                f"encoder {name} has feature maps at strides {strides}, none at {missing}",
                "a feature pyramid needs strides 4, 8, 16 and 32: choose a convolutional or hierarchical encoder",
            )
        self.levels = tuple(max(i for i, value in enumerate(strides) if value == stride) for stride in STRIDES)
        self.channels = tuple(info.channels()[level] for level in self.levels)
        self.divisor = STRIDES[-1]
        maps = self._probed(name)
        self.channels_last_axis = self._has_channels_last(name, maps)
        self._stages = _stages(self.features, maps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode images (B, 3, H, W) into maps (B, channels[i], H / s, W / s) at strides s 4, 8, 16, 32."""
        maps = self.features(images)
        chosen = [maps[level] for level in self.levels]
        return [map_.permute(0, 3, 1, 2) for map_ in chosen] if self.channels_last_axis else chosen

    def train(self, mode: bool = True) -> TimmEncoder:
        """Switch to training or evaluation mode, except for frozen norms."""
        super().train(mode)
        if self.frozen_norm:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def depth_of(self, name: str) -> int:
        """Depth of the parameter ``name`` (relative to the encoder): 1 for the last stage, 4 for the first.

        A stage is everything that one feature map needs and those before do not; the stem belongs to the first.
        """
        return len(STRIDES) - self._stages[name.removeprefix("features.")]

    def _probed(self, name: str) -> list[Tensor]:
        """The maps of a small image, with what they were computed from."""
        device = next(self.features.parameters()).device
        self.features.eval()
        try:
            with torch.enable_grad():
                maps = self.features(torch.zeros(1, 3, PROBE, PROBE, device=device))
        except Exception as error:  # timm models refuse sizes with arbitrary exceptions
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise VssError(
                f"encoder {name} does not take images of any size: {reason}",
                "choose an encoder without a fixed input size, for example a convolutional one",
            ) from error
        self.train(self.training)
        return [maps[level] for level in self.levels]

    def _has_channels_last(self, name: str, maps: list[Tensor]) -> bool:
        """Find the axis of the channels in maps of a small image, which each must cover: unpadded convolutions leave
        out a border, and everything would be predicted beside its place."""
        first = [map_.shape[1] for map_ in maps] == list(self.channels)
        last = not first and [map_.shape[-1] for map_ in maps] == list(self.channels)
        for map_, stride in zip(maps, STRIDES, strict=True):
            height, width = map_.shape[1:3] if last else map_.shape[2:4]
            if height != PROBE // stride or width != PROBE // stride:
                raise VssError(
                    f"encoder {name} turns an image of {PROBE}x{PROBE} into a map of {height}x{width} at stride "
                    f"{stride}: its cells do not cover the image",
                    "choose an encoder whose convolutions are all padded",
                )
        return last


def _create(name: str, drop_path: float) -> nn.Module:
    require_encoder(name)
    rate: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path > 0 else {}
    try:
        return timm.create_model(name, pretrained=False, features_only=True, **rate)
    except TypeError as error:
        if "drop_path_rate" not in str(error):
            raise
        raise VssError(f"encoder {name} has no stochastic depth; drop_path is {drop_path}", "set it to 0") from error
    except RuntimeError as error:
        raise VssError(f"encoder {name} has no feature maps: {error}", "choose another encoder") from error


def _stages(features: nn.Module, maps: list[Tensor]) -> dict[str, int]:
    """The stage of each parameter: the first of the maps that was computed with it; the last for what none needs."""
    names = {parameter: name for name, parameter in features.named_parameters()}
    stages = dict.fromkeys(names.values(), len(maps) - 1)
    seen: set[Any] = set()
    for stage, map_ in enumerate(maps):
        pending = [map_.grad_fn]
        while pending:
            node = pending.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            pending += [before for before, _ in node.next_functions]
            parameter = getattr(node, "variable", None)
            if parameter is not None and parameter in names:
                stages[names[parameter]] = stage
    return stages
