"""Names of mmsegmentation's Mask2Former head as detectron2 names the same tensors (specs: mask2former.md, Keys)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# mmsegmentation 1.x names the parts of its layers; 0.x counted them.
_NEWER = (
    (r"^(pixel_decoder\.encoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.0."),
    (r"^(transformer_decoder\.layers\.\d+)\.cross_attn\.", r"\1.attentions.0."),
    (r"^(transformer_decoder\.layers\.\d+)\.self_attn\.", r"\1.attentions.1."),
    (r"^((?:pixel_decoder\.encoder|transformer_decoder)\.layers\.\d+)\.ffn\.", r"\1.ffns.0."),
)

# What begins a name of mmsegmentation's 0.x, and what detectron2 has in its place; # is a number.
_OLD, _NEW = "pixel_decoder.encoder.layers.#.", "pixel_decoder.transformer.encoder.layers.#."
_LAYER, _PREDICTOR = "transformer_decoder.layers.#.", "predictor.transformer_"
_BEGINNINGS = (
    ("pixel_decoder.input_convs.#.conv.", "pixel_decoder.input_proj.#.0."),
    ("pixel_decoder.input_convs.#.gn.", "pixel_decoder.input_proj.#.1."),
    (f"{_OLD}attentions.0.", f"{_NEW}self_attn."),
    (f"{_OLD}ffns.0.layers.0.0.", f"{_NEW}linear1."),
    (f"{_OLD}ffns.0.layers.1.", f"{_NEW}linear2."),
    (f"{_OLD}norms.0.", f"{_NEW}norm1."),
    (f"{_OLD}norms.1.", f"{_NEW}norm2."),
    ("pixel_decoder.level_encoding.weight", "pixel_decoder.transformer.level_embed"),
    ("pixel_decoder.lateral_convs.0.conv.", "pixel_decoder.adapter_1."),
    ("pixel_decoder.lateral_convs.0.gn.", "pixel_decoder.adapter_1.norm."),
    ("pixel_decoder.output_convs.0.conv.", "pixel_decoder.layer_1."),
    ("pixel_decoder.output_convs.0.gn.", "pixel_decoder.layer_1.norm."),
    ("pixel_decoder.mask_feature.", "pixel_decoder.mask_features."),
    (f"{_LAYER}attentions.0.attn.", f"{_PREDICTOR}cross_attention_layers.#.multihead_attn."),
    (f"{_LAYER}attentions.1.attn.", f"{_PREDICTOR}self_attention_layers.#.self_attn."),
    (f"{_LAYER}ffns.0.layers.0.0.", f"{_PREDICTOR}ffn_layers.#.linear1."),
    (f"{_LAYER}ffns.0.layers.1.", f"{_PREDICTOR}ffn_layers.#.linear2."),
    (f"{_LAYER}norms.0.", f"{_PREDICTOR}cross_attention_layers.#.norm."),
    (f"{_LAYER}norms.1.", f"{_PREDICTOR}self_attention_layers.#.norm."),
    (f"{_LAYER}norms.2.", f"{_PREDICTOR}ffn_layers.#.norm."),
    ("transformer_decoder.post_norm.", "predictor.decoder_norm."),
    ("cls_embed.", "predictor.class_embed."),
    ("mask_embed.0.", "predictor.mask_embed.layers.0."),
    ("mask_embed.2.", "predictor.mask_embed.layers.1."),
    ("mask_embed.4.", "predictor.mask_embed.layers.2."),
    ("query_embed.", "predictor.query_embed."),
    ("query_feat.", "predictor.query_feat."),
    ("level_embed.", "predictor.level_embed."),
)
_PATTERNS = tuple(
    (re.compile("^" + re.escape(theirs).replace(r"\#", r"(\d+)")), ours.replace("#", r"\1"))
    for theirs, ours in _BEGINNINGS
)


def older_name(name: str) -> str:
    """What mmsegmentation 0.x calls a tensor of the head, whichever version named it; below ``decode_head.``."""
    for pattern, older in _NEWER:
        name = re.sub(pattern, older, name)
    return name


def mmseg_head_to_detectron(names: Iterable[str]) -> dict[str, str]:
    """Map tensor names of mmsegmentation's head, 0.x or 1.x, below ``decode_head.``, to those of detectron2 below
    ``sem_seg_head.``, which are those of `Mask2FormerHead`. A name that is no part of such a head, ``conv_seg.weight``
    for example, is left out.

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
    """The other way for one name of detectron2's, in which # may stand for a number."""
    return next(theirs + pattern[len(ours) :] for theirs, ours in _BEGINNINGS if pattern.startswith(ours))
