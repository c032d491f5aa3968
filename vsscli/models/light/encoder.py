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
        self.channels_last_axis = self._has_channels_last(name)
        modules = [info.module_name()[level] for level in self.levels]
        self._stages = _stages(self.features, modules)

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

        A stage is everything between one feature map and the next; the stem belongs to the first.
        """
        return len(STRIDES) - self._stages[name.removeprefix("features.")]

    def _has_channels_last(self, name: str) -> bool:
        """Find the axis of the channels by running a small image, which every map must cover: unpadded convolutions
        leave out a border, and everything would be predicted beside its place."""
        device = next(self.features.parameters()).device
        self.features.eval()
        try:
            with torch.no_grad():
                maps = self.features(torch.zeros(1, 3, PROBE, PROBE, device=device))
        except Exception as error:  # timm models refuse sizes with arbitrary exceptions
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise VssError(
                f"encoder {name} does not take images of any size: {reason}",
                "choose an encoder without a fixed input size, for example a convolutional one",
            ) from error
        self.train(self.training)
        shapes = [maps[level].shape for level in self.levels]
        first = [shape[1] for shape in shapes] == list(self.channels)
        last = not first and [shape[-1] for shape in shapes] == list(self.channels)
        for shape, stride in zip(shapes, STRIDES, strict=True):
            height, width = shape[1:3] if last else shape[2:4]
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


def _stages(features: nn.Module, makers: list[str]) -> dict[str, int]:
    """The stage of each parameter; ``makers`` are the modules whose outputs are the feature maps.

    Modules are listed in the order in which they run, so a stage ends after its maker.
    """
    stages: dict[str, int] = {}
    stage, reached = 0, False
    for name, module in features.named_modules():
        inside = _is_part(name, makers[stage])
        if reached and not inside and stage < len(makers) - 1:
            stage += 1
            inside, reached = _is_part(name, makers[stage]), False
        reached = reached or inside
        for parameter, _ in module.named_parameters(recurse=False):
            stages[f"{name}.{parameter}".lstrip(".")] = stage
    return stages


def _is_part(name: str, module: str) -> bool:
    # timm flattens names of modules, and prefixes those of networks that it wraps.
    flattened = module.replace(".", "_")
    starts = (f"{before}{start}." for before in ("", "model.", "body.") for start in (module, flattened))
    return f"{name}.".startswith(tuple(starts))
