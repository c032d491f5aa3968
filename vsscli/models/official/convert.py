"""From a published checkpoint to a network: its configuration, from the sizes of its tensors, and its weights."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.build import read_config
from vsscli.models.config import UNRECORDED, NetworkConfig
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
from vsscli.models.official.mapping import map_official, part_of
from vsscli.models.official.recognise import CheckpointKind, Official
from vsscli.models.official.report import Fitted, fitted_weights
from vsscli.models.official.sizes import AdapterSizes, HeadSizes, SwinSizes, TrunkSizes, equal_spans

# The published backbone of each kind, and the configurations that its tensors may fit.
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
    """A network from a published checkpoint.

    Parameters
    ----------
    config
        Its configuration, as a checkpoint keeps it.
    fitted
        Its weights, and how the checkpoint's tensors were used.
    normalisation
        Normalisation of its input.
    crop
        Height and width of the only images it takes; None if it takes any.
    trunk
        Digest of a frozen trunk that the weights lack; empty if they are complete.
    licence
        That of the published file; of a plain ViT, that of the trunk's weights in it.
    step
        Published step of the sliding window; None for four sevenths of the crop.
    """

    config: NetworkConfig
    fitted: Fitted
    normalisation: Normalisation
    crop: tuple[int, int] | None
    trunk: str = ""
    licence: str = UNRECORDED
    step: tuple[int, int] | None = None


def convert_official(
    official: Official,
    num_classes: int,
    *,
    backbone: str | None = None,
    crop: tuple[int, int] | None = None,
    readout: Literal["grid", "full"] | None = None,
) -> Converted:
    """Convert a published checkpoint.

    Parameters
    ----------
    official
        From `vsscli.models.official.recognise.recognise`.
    num_classes
        C; if the checkpoint has a head, its number of classes (`report.check_classes` refuses others).
    backbone
        Name of the backbone; None for the published one of this kind. A trunk alone gets a fresh adapter and head, the
        usual ones for this name.
    crop
        Height and width of the network's images, in pixels; None for those of the checkpoint. Position tables are
        resized.
    readout
        None for the one that it was published with: ``full`` for detectron2's, ``grid`` for the others.

    Raises
    ------
    VssError
        The crop is not a multiple of 32, or the network has none; tensors are missing, surplus or of another shape.
    """
    config = _config(official, _backbone(official, backbone), crop)
    config["readout"] = readout or ("full" if official.kind is CheckpointKind.SWIN_MASK2FORMER else "grid")
    described = read_config({"family": "mask2former", **config})
    assert isinstance(described, Mask2FormerModel)
    mapped = map_official(official, described.trunk)
    whole = official.head is not None
    # Fresh weights are drawn only if needed, always with the same seed.
    with torch.device("meta" if whole else "cpu"), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Mask2Former(described, num_classes)
    target = {name: _real(tensor) for name, tensor in network.state_dict().items()}
    parts = {part_of(name) for name in mapped.tensors}
    fresh = sorted({part_of(name) for name in target} - parts) if not whole else []
    fitted = fitted_weights(
        mapped.tensors, target, official.source, unused=mapped.unused, resized=mapped.resized, fresh=fresh
    )
    return Converted(described, fitted, network.normalisation, network.crop, licence=official.kind.licence)


def _backbone(official: Official, named: str | None) -> str:
    """Name of the backbone to build, which must fit the tensors."""
    published, kinds = BACKBONES[official.kind]
    possible = [name for name, preset in PRESETS.items() if isinstance(preset, kinds)]
    if named is not None and named not in possible:
        raise VssError(
            f"{official.source} is {official.kind}: it can't become a {named}", f"choose one of {', '.join(possible)}"
        )
    return named or published


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
    # Stochastic depth is for the recipe of a later training; a converted network drops nothing.
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
    """Sizes of what is built around a trunk, if its sizes differ from the preset's."""
    spans = equal_spans(sizes.depth, len(STRIDES))
    if isinstance(preset, BeitConfig) and preset.depth != sizes.depth:
        return {"taps": tuple(last for _, last in spans)}
    if isinstance(preset, AdapterTrunkConfig):
        heads = {"heads": sizes.heads} if preset.width != sizes.width else {}
        return {"adapter": heads | ({"interactions": spans} if preset.depth != sizes.depth else {})}
    return {}


def _patch(source: str, side: int, ours: int) -> VssError:
    return VssError(
        f"{source} has patches of {side}x{side} pixels; vss supports only {ours}x{ours} for this network",
        "convert a checkpoint with the usual patches",
    )


def _others(given: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    """The sizes that differ from the usual ones."""
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
    """A head's layout: the name of the nearest, and the sizes that differ from it."""
    if sizes.mask_width != sizes.width:
        raise VssError(
            f"{source} has mask features of {sizes.mask_width} channels over a head of {sizes.width}",
            "vss supports only heads of one width",
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


def _real(tensor: Tensor) -> Tensor:
    """Zeros in place of a scalar on the meta device: the counters that old files lack."""
    return torch.zeros_like(tensor, device="cpu") if tensor.is_meta and tensor.ndim == 0 else tensor
