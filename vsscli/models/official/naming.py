"""EoMT and VidEoMT as the transformers library saves them, under the names of their authors' programs.

The classes are `EomtForUniversalSegmentation`, `EomtDinov3ForUniversalSegmentation` and
`VideomtForUniversalSegmentation`; only the tensors are needed, not the library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

ENCODER = "encoder.backbone."
_NAMES = (
    (r"^query\.", "q."),
    (r"^class_predictor\.", "class_head."),
    (r"^mask_head\.fc1\.", "mask_head.0."),
    (r"^mask_head\.fc2\.", "mask_head.2."),
    (r"^mask_head\.fc3\.", "mask_head.4."),
    (r"^upscale_block\.block\.(\d+)\.layernorm2d\.", r"upscale.\1.norm."),
    (r"^upscale_block\.block\.", "upscale."),
    (r"^layernorm\.", f"{ENCODER}norm."),
    (r"^layers\.", f"{ENCODER}layer."),
    (r"^embeddings\.", f"{ENCODER}embeddings."),
)
# Of DINOv2, whose blocks these classes name in their own way; DINOv3's have the names of its own class.
_DINOV2 = (
    (r"\.embeddings\.(cls_token|mask_token)$", r".\1"),
    (r"\.embeddings\.register_tokens$", ".reg_token"),
    (r"\.embeddings\.patch_embeddings\.projection\.", ".patch_embed.proj."),
    (r"\.embeddings\.position_embeddings\.weight$", ".pos_embed"),
    (r"\.layer\.(\d+)\.", r".blocks.\1."),
    (r"\.attention\.out_proj\.", ".attn.proj."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.down_proj\.", ".mlp.fc2."),
)


def is_of_transformers(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of these classes."""
    return {"query.weight", "class_predictor.weight", "mask_head.fc1.weight"} <= names.keys()


def authors_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of one of these classes as the program of its authors names and joins them."""
    named = {renamed(name, _NAMES): tensor for name, tensor in tensors.items()}
    if "embeddings.position_embeddings.weight" not in tensors:
        return named
    whole: dict[str, Tensor] = {}
    parts: dict[tuple[str, str, str], Tensor] = {}
    for name, tensor in named.items():
        name = renamed(name, _DINOV2) if name.startswith(ENCODER) else name
        found = re.fullmatch(r"(.*\.)(attention\.[qkv]|mlp\.gate|mlp\.up)_proj\.(weight|bias)", name)
        if found:
            parts[found[1], found[2], found[3]] = tensor
        else:
            whole[name] = tensor[None] if name == f"{ENCODER}pos_embed" else tensor
    for block, _, kind in parts:
        for joined, of in (("attn.qkv", "attention.q attention.k attention.v"), ("mlp.fc1", "mlp.gate mlp.up")):
            own = [parts[block, part, kind] for part in of.split() if (block, part, kind) in parts]
            if len(own) == len(of.split()):
                whole[f"{block}{joined}.{kind}"] = torch.cat(own)
    return whole


def renamed(name: str, changes: tuple[tuple[str, str], ...]) -> str:
    """A name after replacing patterns, one after another."""
    for pattern, replacement in changes:
        name = re.sub(pattern, replacement, name)
    return name
