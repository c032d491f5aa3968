"""Tensor names of mmsegmentation's Mask2Former head and their detectron2 counterparts (specs: mask2former.md, Keys)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vsscli.models.official.naming import renamed

# mmsegmentation 1.x names the parts of its layers; 0.x numbered them.
_NEWER = (
    (r"^(pixel_decoder\.encoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.0."),
    (r"^(transformer_decoder\.layers\.\d+)\.cross_attn\.", r"\1.attentions.0."),
    (r"^(transformer_decoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.1."),
    (r"^((?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffn\.", r"\1.ffns.0."),
)

_LINEAR = {"ffns.0.layers.0.0.": "linear1.", "ffns.0.layers.1.": "linear2."}
_CONV = {"conv.": "", "gn.": "norm."}

# Prefixes of a module in mmsegmentation 0.x and in detectron2, and the names of its parts in both; # is a number.
_MODULES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("pixel_decoder.input_convs.#.", "pixel_decoder.input_proj.#.", {"conv.": "0.", "gn.": "1."}),
    (
        "pixel_decoder.encoder.layers.#.",
        "pixel_decoder.transformer.encoder.layers.#.",
        {"attentions.0.": "self_attn.", **_LINEAR, "norms.0.": "norm1.", "norms.1.": "norm2."},
    ),
    ("pixel_decoder.lateral_convs.0.", "pixel_decoder.adapter_1.", _CONV),
    ("pixel_decoder.output_convs.0.", "pixel_decoder.layer_1.", _CONV),
    ("pixel_decoder.level_encoding.weight", "pixel_decoder.transformer.level_embed", {"": ""}),
    ("pixel_decoder.mask_feature.", "pixel_decoder.mask_features.", {"": ""}),
    (
        "transformer_decoder.layers.#.",
        "predictor.transformer_",
        {
            "attentions.0.attn.": "cross_attention_layers.#.multihead_attn.",
            "attentions.1.attn.": "self_attention_layers.#.self_attn.",
            **{theirs: f"ffn_layers.#.{ours}" for theirs, ours in _LINEAR.items()},
            "norms.0.": "cross_attention_layers.#.norm.",
            "norms.1.": "self_attention_layers.#.norm.",
            "norms.2.": "ffn_layers.#.norm.",
        },
    ),
    ("transformer_decoder.post_norm.", "predictor.decoder_norm.", {"": ""}),
    ("mask_embed.", "predictor.mask_embed.layers.", {"0.": "0.", "2.": "1.", "4.": "2."}),
    ("cls_embed.", "predictor.class_embed.", {"": ""}),
    ("", "predictor.", {name: name for name in ("query_embed.", "query_feat.", "level_embed.")}),
)
_BEGINNINGS = tuple(
    (theirs + part, ours + our_part) for theirs, ours, parts in _MODULES for part, our_part in parts.items()
)
_PATTERNS = tuple(
    (re.compile("^" + re.escape(theirs).replace(r"\#", r"(\d+)")), ours.replace("#", r"\1"))
    for theirs, ours in _BEGINNINGS
)


def older_name(name: str) -> str:
    """The name in mmsegmentation 0.x of a tensor of the head of any version, below ``decode_head.``."""
    return renamed(name, _NEWER)


def mmseg_head_to_detectron(names: Iterable[str]) -> dict[str, str]:
    """Map tensor names of mmsegmentation's head, 0.x or 1.x, below ``decode_head.``, to those of detectron2 below
    ``sem_seg_head.``, which are those of `Mask2FormerHead`. Names that are not part of such a head, such as
    ``conv_seg.weight``, are left out.

    >>> mmseg_head_to_detectron(["cls_embed.weight"])
    {'cls_embed.weight': 'predictor.class_embed.weight'}
    """
    mapped = {}
    for name in names:
        older = older_name(name)
        found = next(((pattern, ours) for pattern, ours in _PATTERNS if pattern.match(older)), None)
        if found is not None:
            mapped[name] = found[0].sub(found[1], older)
    return mapped


def detectron_head_to_mmseg(pattern: str) -> str:
    """The mmsegmentation 0.x name of a detectron2 name, in which # may stand for a number."""
    return next(theirs + pattern[len(ours) :] for theirs, ours in _BEGINNINGS if pattern.startswith(ours))
