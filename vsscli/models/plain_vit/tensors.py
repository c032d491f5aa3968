"""Tensors of ViTs under timm's names, whoever published them, and resized to other patches and images. No disk."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.official.naming import renamed
from vsscli.models.plain_vit.trunk import Trunk

Grid = tuple[int, int]

# Of transformers' DINOv3, as it is and as EoMT names it, and of Meta's DINOv2 and DINOv3 (specs: eomt.md).
_NAMES = (
    (r"^model\.(?=layer\.|embeddings\.|norm\.)", ""),
    (r"^layer\.", "blocks."),
    (r"^embeddings\.", "patch_embed."),
    (r"^(?:patch_embed\.)?(?:register|storage)_tokens$", "reg_token"),
    (r"^patch_embed\.cls_token$", "cls_token"),
    (r"^patch_embed\.patch_embeddings\.", "patch_embed.proj."),
    (r"\.attention\.o_proj\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".gamma_\1"),
    (r"\.mlp\.gate_proj\.", ".mlp.fc1_g."),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)
_SWIGLU = (
    (r"\.mlp\.w12\.", ".mlp.fc1."),
    (r"\.mlp\.w1\.", ".mlp.fc1_g."),
    (r"\.mlp\.w2\.", ".mlp.fc1_x."),
    (r"\.mlp\.w3\.", ".mlp.fc2."),
)
_UNNEEDED = re.compile(r"(?:^|\.)(?:mask_token|bias_mask|periods)$|^local_cls_norm\.")


def timm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a ViT as timm names and joins them; names that are not known stay."""
    tensors = _of_meta({name: tensor for name, tensor in tensors.items() if not _UNNEEDED.search(name)})
    gated = any(".mlp.gate_proj." in name for name in tensors)
    names = (*_NAMES, (r"\.mlp\.up_proj\.", ".mlp.fc1_x." if gated else ".mlp.fc1."))
    named, split = {}, {}
    for name, tensor in tensors.items():
        name = renamed(name, names)
        found = re.fullmatch(r"(.*\.)attention\.([qkv])_proj\.(weight|bias)", name)
        if found:
            split[found[1], found[2], found[3]] = tensor
        else:
            named[name] = tensor
    return named | _joined(split)


def fitted_trunk(tensors: Mapping[str, Tensor], trunk: Trunk, grid: Grid | None = None) -> dict[str, Tensor]:
    """Tensors of timm's names with patches, positions and biases as a trunk has them.

    Parameters
    ----------
    tensors
        Under timm's names.
    trunk
        The ViT that will hold them.
    grid
        Patches down and across that the table of positions was made for; None: of square images.

    Raises
    ------
    VssError
        The table is not of square images; or there are biases that the trunk has no place for.
    """
    target, fitted = trunk.state_dict(), dict(tensors)
    kernel = "patch_embed.proj.weight"
    if kernel in fitted and kernel in target and fitted[kernel].shape[2:] != target[kernel].shape[2:]:
        fitted[kernel] = resample_patch_embed(fitted[kernel].float(), list(target[kernel].shape[2:]))
    if "pos_embed" in fitted and "pos_embed" in target:
        fitted["pos_embed"] = _resized(fitted["pos_embed"], target["pos_embed"], _grid_of(trunk), grid)
    for name in [name for name in fitted if name.endswith((".q_bias", ".v_bias")) and name not in target]:
        if fitted[name].any():
            raise VssError(
                "queries and values have biases", "set model.backbone to the network whose name ends in _qkvb"
            )
        del fitted[name]
    for name, tensor in target.items():
        if name.endswith((".q_bias", ".v_bias")) and name not in fitted:
            fitted[name] = torch.zeros(tensor.shape)  # distilled DINOv3s have none
    return fitted


def _grid_of(trunk: Trunk) -> Grid:
    height, width = trunk.patch_embed.grid_size
    return int(height), int(width)


def _of_meta(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """DINOv2 and DINOv3 as Meta publishes them, under names that are timm's or transformers'; others as they are."""
    names: tuple[tuple[str, str], ...] = _SWIGLU
    if "storage_tokens" in tensors:
        names = (*_SWIGLU, (r"\.ls(\d)\.gamma$", r".gamma_\1"))
        for name in [name for name in tensors if name.endswith(".attn.qkv.bias")]:
            query, _, value = tensors.pop(name).chunk(3)
            tensors[name.replace("qkv.bias", "q_bias")], tensors[name.replace("qkv.bias", "v_bias")] = query, value
    elif "register_tokens" in tensors and "pos_embed" in tensors:
        positions = tensors["pos_embed"]
        tensors = tensors | {"cls_token": tensors["cls_token"] + positions[:, :1], "pos_embed": positions[:, 1:]}
    else:
        return tensors
    return {renamed(name, names): tensor for name, tensor in tensors.items()}


def _joined(split: Mapping[tuple[str, str, str], Tensor]) -> dict[str, Tensor]:
    """Queries, keys and values of each block in one; keys have no bias."""
    joined = {}
    for block in dict.fromkeys(block for block, _, _ in split):
        parts = [split.get((block, part, "weight")) for part in "qkv"]
        if all(part is not None for part in parts):
            joined[f"{block}attn.qkv.weight"] = torch.cat([part for part in parts if part is not None])
        for part in "qv":
            if (block, part, "bias") in split:
                joined[f"{block}attn.{part}_bias"] = split[block, part, "bias"]
    return joined


def _resized(table: Tensor, target: Tensor, size: Grid, grid: Grid | None) -> Tensor:
    """A table of positions (1, prefix + N, D) for another grid of patches, bicubic."""
    prefix = target.shape[1] - size[0] * size[1]
    count = table.shape[1] - prefix
    if grid is None:
        side = math.isqrt(max(count, 0))
        grid = size if count == size[0] * size[1] else (side, side)
    if grid[0] * grid[1] != count:
        raise VssError(
            f"a table of {count} positions is of no square image, nor of {size[0]}x{size[1]} patches",
            "say which image it was made for: --crop HEIGHT WIDTH",
        )
    return resample_abs_pos_embed(table.float(), list(size), list(grid), num_prefix_tokens=prefix)
