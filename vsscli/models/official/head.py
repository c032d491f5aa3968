"""Names of mmsegmentation's Mask2Former head as detectron2 names the same tensors (specs: mask2former.md, Keys)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# What begins a name of mmsegmentation's, and what detectron2 has in its place. The second of two alternatives is the
# layout of mmsegmentation 1.x.
_PREDICTOR = "predictor.transformer_{}_layers"
_BEGINNINGS = [
    (r"pixel_decoder\.input_convs\.(\d+)\.conv\.", r"pixel_decoder.input_proj.\1.0."),
    (r"pixel_decoder\.input_convs\.(\d+)\.gn\.", r"pixel_decoder.input_proj.\1.1."),
    (
        r"pixel_decoder\.encoder\.layers\.(\d+)\.(?:attentions\.0|self_attn)\.",
        r"pixel_decoder.transformer.encoder.layers.\1.self_attn.",
    ),
    (
        r"pixel_decoder\.encoder\.layers\.(\d+)\.(?:ffns\.0|ffn)\.layers\.0\.0\.",
        r"pixel_decoder.transformer.encoder.layers.\1.linear1.",
    ),
    (
        r"pixel_decoder\.encoder\.layers\.(\d+)\.(?:ffns\.0|ffn)\.layers\.1\.",
        r"pixel_decoder.transformer.encoder.layers.\1.linear2.",
    ),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.norms\.0\.", r"pixel_decoder.transformer.encoder.layers.\1.norm1."),
    (r"pixel_decoder\.encoder\.layers\.(\d+)\.norms\.1\.", r"pixel_decoder.transformer.encoder.layers.\1.norm2."),
    (r"pixel_decoder\.level_encoding\.weight$", r"pixel_decoder.transformer.level_embed"),
    (r"pixel_decoder\.lateral_convs\.0\.conv\.", r"pixel_decoder.adapter_1."),
    (r"pixel_decoder\.lateral_convs\.0\.gn\.", r"pixel_decoder.adapter_1.norm."),
    (r"pixel_decoder\.output_convs\.0\.conv\.", r"pixel_decoder.layer_1."),
    (r"pixel_decoder\.output_convs\.0\.gn\.", r"pixel_decoder.layer_1.norm."),
    (r"pixel_decoder\.mask_feature\.", r"pixel_decoder.mask_features."),
    (
        r"transformer_decoder\.layers\.(\d+)\.(?:attentions\.0|cross_attn)\.attn\.",
        rf"{_PREDICTOR.format('cross_attention')}.\1.multihead_attn.",
    ),
    (
        r"transformer_decoder\.layers\.(\d+)\.(?:attentions\.1|self_attn)\.attn\.",
        rf"{_PREDICTOR.format('self_attention')}.\1.self_attn.",
    ),
    (
        r"transformer_decoder\.layers\.(\d+)\.(?:ffns\.0|ffn)\.layers\.0\.0\.",
        rf"{_PREDICTOR.format('ffn')}.\1.linear1.",
    ),
    (r"transformer_decoder\.layers\.(\d+)\.(?:ffns\.0|ffn)\.layers\.1\.", rf"{_PREDICTOR.format('ffn')}.\1.linear2."),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.0\.", rf"{_PREDICTOR.format('cross_attention')}.\1.norm."),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.1\.", rf"{_PREDICTOR.format('self_attention')}.\1.norm."),
    (r"transformer_decoder\.layers\.(\d+)\.norms\.2\.", rf"{_PREDICTOR.format('ffn')}.\1.norm."),
    (r"transformer_decoder\.post_norm\.", r"predictor.decoder_norm."),
    (r"cls_embed\.", r"predictor.class_embed."),
    (r"mask_embed\.0\.", r"predictor.mask_embed.layers.0."),
    (r"mask_embed\.2\.", r"predictor.mask_embed.layers.1."),
    (r"mask_embed\.4\.", r"predictor.mask_embed.layers.2."),
    (r"(query_embed|query_feat|level_embed)\.", r"predictor.\1."),
]


def mmseg_head_to_detectron(names: Iterable[str]) -> dict[str, str]:
    """Map tensor names of mmsegmentation's head, 0.x or 1.x, below ``decode_head.``, to those of detectron2 below
    ``sem_seg_head.``, which are those of `Mask2FormerHead`. A name that is no part of such a head, ``conv_seg.weight``
    for example, is left out.

    >>> mmseg_head_to_detectron(["cls_embed.weight"])
    {'cls_embed.weight': 'predictor.class_embed.weight'}
    """
    mapped = {}
    for name in names:
        for pattern, replacement in _BEGINNINGS:
            found, count = re.subn(f"^{pattern}", replacement, name)
            if count:
                mapped[name] = found
                break
    return mapped
