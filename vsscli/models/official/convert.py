"""An official checkpoint as one of ours: the network's configuration by its sizes, and its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.build import read_config
from vsscli.models.mask2former.config import LAYOUTS, HeadConfig, Mask2FormerModel
from vsscli.models.mask2former.network import Mask2Former
from vsscli.models.mask2former.trunks import (
    DIVISOR,
    PATCH,
    PRESETS,
    STRIDES,
    AdapterTrunkConfig,
    BackboneConfig,
    BeitConfig,
    OnePeaceConfig,
    SwinConfig,
    VitAdapterConfig,
)
from vsscli.models.network import Normalisation
from vsscli.models.official.mapping import map_official
from vsscli.models.official.recognise import CheckpointKind, Official
from vsscli.models.official.report import Fitted, fitted_weights
from vsscli.models.official.sizes import AdapterSizes, HeadSizes, SwinSizes, TrunkSizes, equal_spans

# The published backbone of each kind, and what may be built with its tensors.
BACKBONES: dict[CheckpointKind, tuple[str, tuple[type, ...]]] = {
    CheckpointKind.SWIN_MASK2FORMER: ("swin_l", (SwinConfig,)),
    CheckpointKind.SWIN: ("swin_l", (SwinConfig,)),
    CheckpointKind.BEIT: ("beit_l", (BeitConfig, VitAdapterConfig)),
    CheckpointKind.VIT_ADAPTER: ("vit_adapter_l", (VitAdapterConfig,)),
    CheckpointKind.ONE_PEACE: ("one_peace_g", (OnePeaceConfig,)),
    CheckpointKind.ONE_PEACE_TRUNK: ("one_peace_g", (OnePeaceConfig,)),
}
SWIN_PATCH = 4


@dataclass(frozen=True)
class Converted:
    """A network of ours out of an official checkpoint.

    Parameters
    ----------
    config
        Its configuration, as it goes into a checkpoint.
    fitted
        Its weights, and what became of the checkpoint's tensors.
    normalisation
        What its input must be normalised with.
    crop
        Height and width of the only images it takes; None where it takes any.
    """

    config: Mask2FormerModel
    fitted: Fitted
    normalisation: Normalisation
    crop: tuple[int, int] | None


def convert_official(
    official: Official,
    num_classes: int,
    *,
    backbone: str | None = None,
    crop: tuple[int, int] | None = None,
    readout: Literal["grid", "full"] | None = None,
) -> Converted:
    """Make a network of an official checkpoint.

    Parameters
    ----------
    official
        From `vsscli.models.official.recognise.recognise`.
    num_classes
        C; where the checkpoint has a head, it must be its number (`report.check_classes` refuses others).
    backbone
        What to call the backbone; none: the published network of this kind. Where a checkpoint holds a trunk alone, the
        adapter and the head around it are fresh ones, and those that are usual with this name.
    crop
        Height and width of the images that the network will take, in pixels; none: those of the checkpoint. Position
        tables are resized.
    readout
        None: as where the checkpoint was published, ``full`` for detectron2's and ``grid`` for the others.

    Raises
    ------
    VssError
        The crop is no multiple of 32 or means nothing to the network; tensors are missing, surplus or of another shape.
    """
    config = _config(official, _backbone(official, backbone), crop)
    config["readout"] = readout or ("full" if official.kind is CheckpointKind.SWIN_MASK2FORMER else "grid")
    described = read_config({"family": "mask2former", **config})
    assert isinstance(described, Mask2FormerModel)
    mapped = map_official(official, described.trunk)
    whole = official.head is not None
    # Fresh weights are drawn only where some are needed, and the same ones each time.
    with torch.device("meta" if whole else "cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Mask2Former(described, num_classes)
    target = {name: _real(tensor) for name, tensor in network.state_dict().items()}
    parts = {_part(name) for name in mapped.tensors}
    fresh = sorted({_part(name) for name in target} - parts) if not whole else []
    fitted = fitted_weights(
        mapped.tensors, target, official.source, unused=mapped.unused, resized=mapped.resized, fresh=fresh
    )
    return Converted(described, fitted, network.normalisation, network.crop)


def _backbone(official: Official, named: str | None) -> str:
    """Name of the backbone to build, which must be able to hold the tensors."""
    usual, kinds = BACKBONES[official.kind]
    fitting = [name for name, preset in PRESETS.items() if isinstance(preset, kinds)]
    if named is not None and named not in fitting:
        raise VssError(
            f"{official.source} is {official.kind}: it makes no {named}", f"it makes one of {', '.join(fitting)}"
        )
    return named or usual


def _config(official: Official, backbone: str, crop: tuple[int, int] | None) -> dict[str, Any]:
    """The configuration of a network that the checkpoint fits."""
    sizes = official.backbone
    preset = PRESETS[backbone]
    if isinstance(sizes, SwinSizes):
        given = _swin(sizes, official.source)
    else:
        given = _plain(sizes, official.adapter, official.source)
        given |= _around(sizes, preset) if official.adapter is None else {}
    usual = preset.model_dump()
    # Stochastic depth is a matter of the recipe that trains on; what was converted drops nothing.
    config: dict[str, Any] = {"backbone": backbone, "sizes": _others(given, usual) or None, "drop_path": 0.0}
    if isinstance(sizes, TrunkSizes):
        height, width = (-(-side // DIVISOR) * DIVISOR for side in sizes.crop)
        config["crop"] = crop if crop is not None else (height, width)
    elif crop is not None:
        config["crop"] = crop  # refused where the configuration is read
    if official.head is not None:
        config["head"] = _head(official.head, official.source)
    return config


def _swin(sizes: SwinSizes, source: str) -> dict[str, Any]:
    if sizes.patch != SWIN_PATCH:
        raise _patch(source, sizes.patch, SWIN_PATCH)
    return {name: value for name, value in asdict(sizes).items() if name != "patch"}


def _plain(sizes: TrunkSizes, adapter: AdapterSizes | None, source: str) -> dict[str, Any]:
    if sizes.patch != PATCH:
        raise _patch(source, sizes.patch, PATCH)
    given = {name: getattr(sizes, name) for name in ("width", "depth", "heads", "hidden")}
    return given if adapter is None else given | {"adapter": asdict(adapter)}


def _around(sizes: TrunkSizes, preset: BackboneConfig) -> dict[str, Any]:
    """What is built around a trunk alone, where that has other sizes than the preset's."""
    spans = equal_spans(sizes.depth, len(STRIDES))
    if isinstance(preset, BeitConfig) and preset.depth != sizes.depth:
        return {"taps": tuple(last for _, last in spans)}
    if isinstance(preset, AdapterTrunkConfig):
        heads = {"heads": sizes.heads} if preset.width != sizes.width else {}
        return {"adapter": heads | ({"interactions": spans} if preset.depth != sizes.depth else {})}
    return {}


def _patch(source: str, side: int, ours: int) -> VssError:
    return VssError(
        f"{source} has patches of {side}x{side} pixels; vss has that network with {ours}x{ours} alone",
        "convert a checkpoint of the usual patches",
    )


def _others(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The sizes that are other than the usual ones."""
    others = {}
    for name, value in given.items():
        if isinstance(value, dict) and isinstance(usual.get(name), dict):
            value = _others(value, usual[name])
            if value:
                others[name] = value
        elif name not in usual or value != usual[name]:
            others[name] = value
    return others


def _head(sizes: HeadSizes, source: str) -> dict[str, Any]:
    """A head's layout: the nearest of ours by name, and its own sizes where they are others."""
    if sizes.mask_width != sizes.width:
        raise VssError(
            f"{source} has mask features of {sizes.mask_width} channels over a head of {sizes.width}",
            "vss has heads of one width alone",
        )
    given = {
        "channels": sizes.width,
        "heads": sizes.encoder_heads,
        "points": sizes.points,
        "queries": sizes.queries,
        "encoder_layers": sizes.encoder_layers,
        "encoder_width": sizes.encoder_ffn,
        "decoder_layers": sizes.decoder_layers,
        "decoder_width": sizes.decoder_ffn,
    }
    if sizes.decoder_heads != sizes.encoder_heads:
        given["decoder_heads"] = sizes.decoder_heads
    assert given.keys() <= HeadConfig.model_fields.keys()
    nearest = min(LAYOUTS, key=lambda layout: len(_others(given, LAYOUTS[layout].model_dump())))
    return {"layout": nearest, **_others(given, LAYOUTS[nearest].model_dump())}


def _part(name: str) -> str:
    """Prefix of the part of a network that a tensor belongs to."""
    if name.startswith("head."):
        return "head."
    return ".".join(name.split(".")[:2])


def _real(tensor: Tensor) -> Tensor:
    """A tensor with numbers in place of one without; what stays of them are the counters that old files lack."""
    return torch.zeros_like(tensor, device="cpu") if tensor.is_meta and tensor.ndim == 0 else tensor
