"""The published checkpoints of EoMT, VidEoMT and PMT: which network they are of, and its weights (specs: eomt.md,
videomt.md, pmt.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.build import read_config
from vsscli.models.encoders import licence_of
from vsscli.models.official.convert import Converted
from vsscli.models.official.naming import ENCODER, authors_names, is_of_transformers, renamed
from vsscli.models.official.recognise import tensors_of
from vsscli.models.official.report import COUNTER, fitted_weights
from vsscli.models.plain_vit.config import DECODER_BLOCKS, PlainVitModel, usual_blocks, usual_taps
from vsscli.models.plain_vit.network import PlainVit
from vsscli.models.plain_vit.tensors import fitted_trunk, timm_names
from vsscli.models.plain_vit.weights import TRUNK, trunk_digest

USUAL_CROP = (512, 512)
PATCH = 16  # of every published network
HEAD_WIDTH = 64  # of every published network
RESCALE = 2.0  # of PMT's own rotary positions over DINOv2, and of those of video networks over DINOv3
CLIP = 5  # frames that every published video network learned from
DETECTRON = "backbone."  # before all names of the programs for video
# Their order of VSPW's classes, by id: things, then stuff (specs: videomt.md, VSPW inference).
VSPW_THINGS = (2, 4, 8, 10, 41, *range(43, 45), *range(46, 53), *range(54, 57), *range(60, 66), 72, 74, *range(76, 80))
VSPW_THINGS += (*range(82, 93), *range(95, 98), *range(99, 103), *range(106, 110), *range(114, 119), 122, 123)
# Width, depth, heads and hidden width of timm's networks.
BACKBONES = {
    "vit_small_patch14_reg4_dinov2": (384, 12, 6, 1536),
    "vit_base_patch14_reg4_dinov2": (768, 12, 12, 3072),
    "vit_large_patch14_reg4_dinov2": (1024, 24, 16, 4096),
    "vit_giant_patch14_reg4_dinov2": (1536, 40, 24, 4096),
    "vit_small_patch16_dinov3_qkvb": (384, 12, 6, 1536),
    "vit_base_patch16_dinov3_qkvb": (768, 12, 12, 3072),
    "vit_large_patch16_dinov3_qkvb": (1024, 24, 16, 4096),
    "vit_huge_plus_patch16_dinov3_qkvb": (1280, 32, 20, 5120),
}
# What a network of ours makes anew, or training alone needs.
_UNNEEDED = re.compile(r"criterion\..*|.*attn_mask_probs|(?:.*\.)?pixel_(?:mean|std)|.*\brope\w*\..*")
_NAMES = (
    (r"^(?:decoder\.)?(class_head|mask_head|upscale)\.", r"head.\1."),
    (r"^(?:decoder\.)?q\.", "queries."),
    (r"^(?:decoder\.)?query_updater\.", "updater."),
    (r"^bn\.", "laterals.bn."),
    (r"^decoder\.(lateral_projections|scalers)\.", r"laterals.\1."),
    (r"^decoder\.decoder_norm\.", "decoder.norm."),
)


@dataclass(frozen=True)
class PlainOfficial:
    """An official checkpoint of a plain ViT with queries, recognised.

    Parameters
    ----------
    source, kind
        What to call it in messages, and what it is of.
    config
        The network's configuration, but for the weights it begins from.
    trunk
        Tensors of the trunk under timm's names; empty where the file has none.
    rest
        The other tensors under our names.
    num_classes
        C.
    assumed
        What no shape says, in words.
    unused
        Official names of what no network needs.
    borrowed
        Whether the trunk is the base's, because the file has none.
    video
        Whether it is of the programs for video, with their order of classes.
    """

    source: str
    kind: str
    config: dict[str, Any]
    trunk: dict[str, Tensor]
    rest: dict[str, Tensor]
    num_classes: int
    assumed: tuple[str, ...]
    unused: tuple[str, ...]
    borrowed: bool
    video: bool = False
    classes: tuple[str, ...] | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None


def is_plain_vit(content: Any) -> bool:
    """Whether what a file holds is of a plain ViT with queries."""
    tensors = tensors_of(content)
    if is_of_transformers(tensors):
        return True
    names = _plain_names(tensors)
    return any(name.endswith("class_head.weight") for name in names) and any(
        name.endswith("upscale.0.conv1.weight") for name in names
    )


def recognise_plain_vit(
    content: Any,
    source: str,
    *,
    base: Mapping[str, Tensor] | None = None,
    backbone: str | None = None,
    crop: tuple[int, int] | None = None,
    heads: int | None = None,
    blocks: int | None = None,
) -> PlainOfficial:
    """Say which network a checkpoint is of, and how large it is.

    Parameters
    ----------
    content
        What `vsscli.models.torchfile.read_torch` read; `is_plain_vit` is true of it.
    source
        What to call it in messages.
    base
        The trunk's own weights, for a file that lacks them or holds differences to them.
    backbone, crop, heads, blocks
        What no shape says; None: as published.

    Raises
    ------
    VssError
        Tensors are missing that sizes are read from; or the base is, or is of another trunk.
    """
    tensors = tensors_of(content)
    state = authors_names(tensors) if is_of_transformers(tensors) else _plain_names(tensors)
    clips = any(name.endswith("query_updater.weight") for name in state)
    video = any(name in tensors for name in (f"{DETECTRON}q.weight", f"{DETECTRON}decoder.q.weight"))
    video |= clips and is_of_transformers(tensors)
    unused = tuple(name for name in state if _UNNEEDED.fullmatch(name))
    needed = {name: tensor for name, tensor in state.items() if name not in unused}
    trunk = timm_names({name.removeprefix(ENCODER): t for name, t in needed.items() if name.startswith(ENCODER)})
    others = {name: tensor for name, tensor in needed.items() if not name.startswith(ENCODER)}
    decoder = any(name.startswith("decoder.") for name in others)
    delta = bool(trunk) and "gamma_1" in " ".join(trunk) and _is_delta(state, trunk)
    if base is None and (delta or not trunk):
        what = "holds differences to its trunk's own weights" if delta else "holds no trunk"
        raise VssError(
            f"{source} {what}",
            "give these too: --base model.safetensors, the file of the DINOv2 or DINOv3 that it was trained from",
        )
    borrowed = not trunk
    if base is not None:
        if not (delta or borrowed):
            raise VssError(f"{source} holds its whole trunk and needs no base", "leave out --base")
        own = timm_names(base)
        trunk = own if borrowed else _summed(trunk, own, source)
    rest = _joined({renamed(name, _NAMES): tensor for name, tensor in others.items()})
    width, depth, hidden, gated = _sizes(trunk, source)
    dinov3 = "pos_embed" not in trunk
    assumed = []
    # A base may have other patches and positions than the network had, into which it was resized.
    patch = PATCH if borrowed else int(trunk["patch_embed.proj.weight"].shape[-1])
    config: dict[str, Any] = {"family": "plain_vit", "patch": patch}
    if config["patch"] not in (8, 14, 16):
        raise VssError(f"{source} has patches of {config['patch']} pixels", "vss has 8, 14 and 16")
    if heads is None:
        heads = width // HEAD_WIDTH
        assumed.append(f"{heads} attention heads of {HEAD_WIDTH} channels")
    if heads < 1 or width % heads:
        raise VssError(f"{source}: {heads} heads do not divide a width of {width}", "say how many it has: --heads N")
    named = backbone or _nearest(width, depth, dinov3)
    config["backbone"] = named
    if not gated and BACKBONES.get(named) != (width, depth, heads, hidden):
        config["sizes"] = {"width": width, "depth": depth, "heads": heads, "hidden": hidden}
    if crop is None:
        crop = None if borrowed else _crop(trunk, patch, source)
        if crop is None:
            crop = USUAL_CROP
            assumed.append(f"images of {crop[0]}x{crop[1]}")
    config |= {"crop": crop, "num_queries": _shape(rest, "queries.weight", source)[0]}
    if decoder:
        count = len({name for name in rest if re.fullmatch(r"laterals\.bn\.\d+\.weight", name)})
        taps = usual_taps(depth, count)
        assumed.append(f"taps after blocks {', '.join(map(str, taps))}")
        number = len({name for name in rest if re.fullmatch(r"decoder\.blocks\.\d+\.norm1\.weight", name)})
        inner = _shape(rest, "decoder.blocks.0.mlp.fc1.weight", source)[0]
        config |= {"queries": "decoder", "taps": taps, "blocks": number or DECODER_BLOCKS, "hidden": inner}
        config["rescale"] = 1.0 if dinov3 else RESCALE
    else:
        config["blocks"] = blocks or _masked_blocks(state)
        if config["blocks"] is None:
            config["blocks"] = usual_blocks(depth)
            assumed.append(f"queries in the last {config['blocks']} blocks")
    classes = _shape(rest, "head.class_head.weight", source)[0] - 1
    if clips:
        config |= {"clip": CLIP, "any_size": True, "rescale": RESCALE if dinov3 or decoder else 1.0}
        config["handed"] = "normed" if dinov3 and not decoder else "raw"
    name = "PMT for video" if decoder and clips else "PMT" if decoder else "VidEoMT" if clips else "EoMT"
    kind = f"{name} on a {'DINOv3' if dinov3 else 'DINOv2'}"
    return PlainOfficial(source, kind, config, trunk, rest, classes, tuple(assumed), unused, borrowed, video)


def convert_plain_vit(
    official: PlainOfficial, num_classes: int, *, base: str = "", readout: Literal["grid", "full"] | None = None
) -> Converted:
    """Make a network of an official checkpoint.

    Parameters
    ----------
    official
        From `recognise_plain_vit`.
    num_classes
        C, which must be the checkpoint's own.
    base
        File of the trunk, if the checkpoint has none; the result names it and lacks it too.
    readout
        `None`: as published, ``full``.

    Raises
    ------
    VssError
        Tensors are missing, surplus or of another shape, or the configuration is one that no network can have.
    """
    described = read_config({**official.config, "readout": readout or "full"})
    assert isinstance(described, PlainVitModel)
    with torch.device("meta"):
        network = PlainVit(described, num_classes)
    grid = (described.crop[0] // described.patch, described.crop[1] // described.patch)
    table, own = official.trunk.get("pos_embed"), None
    if table is not None and table.shape[1] == grid[0] * grid[1]:
        own = grid
    try:
        fitted = fitted_trunk(official.trunk, network.trunk, own)
    except VssError as error:
        raise VssError(f"{official.source}: {error.message}", error.hint) from error
    target = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) if name.endswith(COUNTER) else tensor
        for name, tensor in network.state_dict().items()
    }
    resized = [
        f"{TRUNK}{name}" for name, t in official.trunk.items() if name in fitted and fitted[name].shape != t.shape
    ]
    mapped = {f"{TRUNK}{name}": tensor.float() for name, tensor in fitted.items()} | official.rest
    whole = fitted_weights(mapped, target, official.source, unused=official.unused, resized=resized)
    licence = licence_of(described.backbone)
    if not official.borrowed:
        return Converted(described, whole, network.normalisation, network.crop, licence=licence, step=network.crop)
    weights = {name: tensor for name, tensor in whole.weights.items() if not name.startswith(TRUNK)}
    digest = trunk_digest({name.removeprefix(TRUNK): t for name, t in whole.weights.items() if name.startswith(TRUNK)})
    named = described.model_copy(update={"pretrained": base})
    return Converted(
        named, replace(whole, weights=weights), network.normalisation, network.crop, digest, licence, network.crop
    )


def in_order_of_ids(official: PlainOfficial) -> PlainOfficial:
    """A video network of VSPW's 124 classes with its classes in the order of their ids, as vss has them."""
    order = [*VSPW_THINGS, *(number for number in range(official.num_classes) if number not in VSPW_THINGS)]
    places = torch.tensor([*order, official.num_classes]).argsort()  # the last row is "no object"
    heads = {name: official.rest[name][places] for name in official.rest if name.startswith("head.class_head.")}
    assumed = (*official.assumed, "classes in the order of these programs, things of VSPW first")
    return replace(official, rest={**official.rest, **heads}, assumed=assumed)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names without the prefixes of Lightning and of detectron2."""
    plain = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    return {name.removeprefix(DETECTRON): tensor for name, tensor in plain.items()}


def _joined(rest: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors around a trunk, the decoder's blocks as timm names them."""
    blocks = {name.removeprefix("decoder."): t for name, t in rest.items() if name.startswith("decoder.blocks.")}
    others = {name: tensor.float() for name, tensor in rest.items() if not name.startswith("decoder.blocks.")}
    return others | {f"decoder.{name}": tensor.float() for name, tensor in timm_names(blocks).items()}


def _is_delta(state: Mapping[str, Tensor], trunk: Mapping[str, Tensor]) -> bool:
    """Whether a file holds differences to a trunk: its buffers are differences too, and norms next to nothing."""
    mean = next((tensor for name, tensor in state.items() if name.endswith("pixel_mean")), None)
    if mean is not None:
        return float(mean.abs().max()) < 0.1  # of the images it is 0.4 to 0.5
    norms = [tensor.float().abs().mean() for name, tensor in trunk.items() if re.search(r"norm\d?\.weight$", name)]
    return bool(norms) and float(torch.stack(norms).mean()) < 0.05


def _summed(delta: Mapping[str, Tensor], base: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    summed = {}
    for name, tensor in delta.items():
        own = base.get(name)
        if own is None and not name.endswith(("q_bias", "v_bias")):
            raise VssError(f"{source}: its base has no {name}", "give the DINOv3 of its size as --base")
        if own is not None and own.shape != tensor.shape:
            raise VssError(
                f"{source}: {name} is {tuple(tensor.shape)}, and {tuple(own.shape)} in its base",
                "give the DINOv3 of its size as --base",
            )
        summed[name] = tensor.float() if own is None else tensor.float() + own.float()
    return summed


def _sizes(trunk: Mapping[str, Tensor], source: str) -> tuple[int, int, int, bool]:
    """Width, depth, hidden width, and whether feed-forward networks are gated."""
    width = _shape(trunk, "patch_embed.proj.weight", source)[0]
    depth = len({name for name in trunk if re.fullmatch(r"blocks\.\d+\.norm1\.weight", name)})
    gated = "blocks.0.mlp.fc1_g.weight" in trunk
    hidden = _shape(trunk, f"blocks.0.mlp.fc1{'_g' if gated else ''}.weight", source)[0]
    packed = _shape(trunk, "blocks.0.mlp.fc2.weight", source)[1]
    return width, depth, packed, gated or packed != hidden


def _shape(tensors: Mapping[str, Tensor], name: str, source: str) -> tuple[int, ...]:
    if name not in tensors or tensors[name].ndim < 2:
        raise VssError(
            f"{source} has no {name}", "it is cut short or was changed; convert the file as it was published"
        )
    return tuple(tensors[name].shape)


def _nearest(width: int, depth: int, dinov3: bool) -> str:
    """timm's network of these sizes, or the smallest of its kind, whose sizes are then given."""
    names = [name for name in BACKBONES if ("dinov3" in name) == dinov3]
    return next((name for name in names if BACKBONES[name][:2] == (width, depth)), names[0])


def _crop(trunk: Mapping[str, Tensor], patch: int, source: str) -> tuple[int, int] | None:
    """Height and width that a table of positions is made for; None without one."""
    if "pos_embed" not in trunk:
        return None
    count = trunk["pos_embed"].shape[1]
    side = round(count**0.5)
    if side * side != count:
        raise VssError(
            f"{source} was trained on images of {count} patches that are not square",
            "say which: vss convert FILE --to OURS.pt --crop H W",
        )
    return side * patch, side * patch


def _masked_blocks(state: Mapping[str, Tensor]) -> int | None:
    return next((len(tensor) for name, tensor in state.items() if name.endswith("attn_mask_probs")), None)
