"""Recognises the network of a published checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.mask2former.published import APACHE, CC_BY_NC, MIT
from vsscli.models.mask2former.relative_position import index_fits
from vsscli.models.official.head import older_name
from vsscli.models.official.pretraining import downsample_ends
from vsscli.models.official.sizes import (
    INDEX_NAMES,
    AdapterSizes,
    Assumptions,
    HeadSizes,
    Shapes,
    Span,
    SwinSizes,
    TrunkSizes,
    adapter_sizes,
    beit_sizes,
    head_sizes,
    one_peace_sizes,
    swin_sizes,
)
from vsscli.models.saved import is_checkpoint
from vsscli.models.weights import CONTAINERS
from vsscli.models.wrappers import unwrapped


class CheckpointKind(StrEnum):
    """The network that a published checkpoint is of."""

    SWIN_MASK2FORMER = "Mask2Former on Swin, of detectron2"
    VIT_ADAPTER = "ViT-Adapter on BEiT, of mmsegmentation"
    ONE_PEACE = "ONE-PEACE with its adapter, of mmsegmentation"
    SWIN = "a Swin trunk"
    BEIT = "a BEiT trunk"
    ONE_PEACE_TRUNK = "a ONE-PEACE vision trunk"

    @property
    def licence(self) -> str:
        """The licence that its publisher puts such files under."""
        return {
            CheckpointKind.SWIN_MASK2FORMER: CC_BY_NC,
            CheckpointKind.SWIN: MIT,
            CheckpointKind.BEIT: MIT,
        }.get(self, APACHE)


@dataclass(frozen=True)
class Official:
    """A published checkpoint, recognised.

    Parameters
    ----------
    kind
        Its network.
    source
        Its name in messages.
    state
        Tensors by official name, with the prefix ``backbone.`` even if a file of a trunk lacks it, the head's under
        ``sem_seg_head.`` (detectron2, current naming) or ``decode_head.`` (mmsegmentation 0.x naming).
    backbone, adapter, head
        Their sizes; ``adapter`` and ``head`` are None if it has none.
    classes, colours
        Names and colours of the classes, if the checkpoint has them.
    assumed
        What was assumed because no shape shows it, as text.
    """

    kind: CheckpointKind
    source: str
    state: dict[str, Tensor]
    backbone: SwinSizes | TrunkSizes
    adapter: AdapterSizes | None
    head: HeadSizes | None
    classes: tuple[str, ...] | None = None
    colours: tuple[tuple[int, int, int], ...] | None = None
    assumed: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """C; None without a head."""
        return self.head.num_classes if self.head else None


def recognise(content: Any, source: str, assumptions: Assumptions = Assumptions()) -> Official:
    """Recognise the network of a checkpoint and its sizes.

    Parameters
    ----------
    content
        The result of `vsscli.models.torchfile.read_torch`.
    source
        Its name in messages: ``checkpoint`` and its path.
    assumptions
        What shapes do not show.

    Raises
    ------
    VssError
        It is a vss checkpoint, of a network that can't be converted, or not a checkpoint; or a tensor that sizes are
        read from is missing or has an impossible shape.
    """
    if is_checkpoint(content):
        raise VssError(f"{source} is already a vss checkpoint: there is nothing to convert", "use it directly")
    tensors = tensors_of(content)
    if not tensors:
        raise VssError(f"{source} contains no state dict", "name a file with the weights of a network")
    state = _named(tensors, source)
    kind = _kind(state, source)
    shapes = Shapes(state, source)
    noted = _noted_interactions(content) if assumptions.interactions is None else None
    chosen = replace(assumptions, interactions=noted) if noted else assumptions
    if (crop := _noted_crop(content)) is not None:
        chosen = replace(chosen, crop=crop)
    backbone: SwinSizes | TrunkSizes
    if kind in (CheckpointKind.SWIN_MASK2FORMER, CheckpointKind.SWIN):
        backbone = swin_sizes(shapes)
    elif kind in (CheckpointKind.VIT_ADAPTER, CheckpointKind.BEIT):
        backbone = beit_sizes(shapes, chosen)
    else:
        backbone = one_peace_sizes(shapes, chosen)
    adapter = head = None
    if kind in (CheckpointKind.VIT_ADAPTER, CheckpointKind.ONE_PEACE) and not isinstance(backbone, SwinSizes):
        adapter = adapter_sizes(shapes, backbone.width, backbone.depth, chosen)
    prefixes = {name.partition(".")[0] for name in state}
    if "sem_seg_head" in prefixes or "decode_head" in prefixes:
        head = head_sizes(shapes, chosen, mmseg="sem_seg_head" not in prefixes)
    classes, colours = _noted_classes(content)
    if head is None or classes is None or len(classes) != head.num_classes:
        classes = colours = None
    return Official(
        kind=kind,
        source=source,
        state=state,
        backbone=backbone,
        adapter=adapter,
        head=head,
        classes=classes,
        colours=colours,
        assumed=(*_assumed(adapter, head, assumptions, noted is not None), *_assumed_crop(backbone, state)),
    )


def tensors_of(content: Any) -> dict[str, Tensor]:
    """The state dict inside whatever container, with arrays as tensors; empty if there is none."""
    content = content if isinstance(content, dict) else {}
    wrapped = next((content[name] for name in CONTAINERS if isinstance(content.get(name), dict)), content)
    tensors = {}
    for name, value in wrapped.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            # torch has no big-endian numbers, and needs writable arrays.
            value = torch.from_numpy(np.array(value, value.dtype.newbyteorder("=")))
        if isinstance(name, str) and isinstance(value, Tensor):
            tensors[name] = value
    return unwrapped(tensors)


def _named(tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """The tensors with one naming per network, whatever version wrote them."""
    heads = ("backbone.", "sem_seg_head.", "decode_head.")
    if any(name.startswith("encoder_wrapper.") for name in tensors):
        tensors = _vision_of(tensors)
    if not any(name.startswith(heads) for name in tensors):
        tensors = {f"backbone.{name}": value for name, value in tensors.items()}
    # timm 0.9 and later puts patch merging at the start of a stage, the official code at the end of the one before.
    if "backbone.layers.0.downsample.norm.weight" not in tensors:
        tensors = {downsample_ends(name): value for name, value in tensors.items()}
    named = {_renamed(name): value for name, value in tensors.items()}
    if len(named) < len(tensors):
        names = [_renamed(name) for name in tensors]
        twice = next(name for name in names if names.count(name) > 1)
        raise VssError(f"{source} contains tensor {twice} twice, under an old and a new name", "keep one of them")
    return named


def _vision_of(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """ONE-PEACE's vision trunk from its multimodal model (specs: one_peace.md, Loading)."""
    others = ("text", "audio", "decoder", "mask", "logit_scale", "version", "image_proj", "image_layer_norm.")
    kept = {name: value for name, value in tensors.items() if not any(part in name for part in others)}
    return {
        name.replace("encoder_wrapper.image_adapter.", "image_adapter.")
        .replace("encoder_wrapper.", "encoder.")
        .replace("fusion_model.", ""): value
        for name, value in kept.items()
    }


def _renamed(name: str) -> str:
    if name.startswith("decode_head."):
        return "decode_head." + older_name(name.removeprefix("decode_head."))
    # Mask2Former's first checkpoints have no prefix for the pixel decoder, and other names for queries.
    name = re.sub(r"^sem_seg_head\.(?!pixel_decoder\.|predictor\.)", "sem_seg_head.pixel_decoder.", name)
    return re.sub(r"^sem_seg_head\.predictor\.static_query\.", "sem_seg_head.predictor.query_feat.", name)


def _kind(state: Mapping[str, Tensor], source: str) -> CheckpointKind:
    """Distinguish networks by tensors that no other has."""
    swin = "backbone.layers.0.blocks.0.attn.relative_position_bias_table" in state
    beit = "backbone.blocks.0.attn.q_bias" in state
    one_peace = "backbone.image_adapter.cls_embedding" in state
    adapter = "backbone.spm.stem.0.weight" in state
    if any(name.startswith("sem_seg_head.") for name in state):
        if swin and "sem_seg_head.predictor.query_feat.weight" in state:
            return CheckpointKind.SWIN_MASK2FORMER
        raise _unknown(state, source, "of detectron2, but not of Mask2Former on Swin")
    if any(name.startswith("decode_head.") for name in state):
        if not adapter or "decode_head.query_feat.weight" not in state or not (beit or one_peace):
            raise VssError(
                f"{source} is of mmsegmentation, but neither ViT-Adapter nor ONE-PEACE with Mask2Former",
                "other networks of mmsegmentation are used without converting: "
                "model: {family: mmseg, config: …, checkpoint: …}",
            )
        return CheckpointKind.ONE_PEACE if one_peace else CheckpointKind.VIT_ADAPTER
    if one_peace:
        return CheckpointKind.ONE_PEACE if adapter else CheckpointKind.ONE_PEACE_TRUNK
    if beit:
        return CheckpointKind.VIT_ADAPTER if adapter else CheckpointKind.BEIT
    if swin:
        return CheckpointKind.SWIN
    raise _unknown(state, source, "of a network that vss does not know")


def _unknown(state: Mapping[str, Tensor], source: str, what: str) -> VssError:
    names = [name.removeprefix("backbone.") for name in state]
    return VssError(
        f"{source} is {what}: looked for {'; '.join(kind.value for kind in CheckpointKind)}; "
        f"found {len(names)} tensors ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})",
        "encoders of the light family need no conversion: name the file as model.pretrained",
    )


def _meta(content: Any) -> dict[str, Any]:
    """The metadata that mmsegmentation writes beside the weights."""
    meta = content.get("meta") if isinstance(content, dict) else None
    return meta if isinstance(meta, dict) else {}


def _configured(content: Any, pattern: str) -> re.Match[str] | None:
    """The first match of a pattern in the configuration, which is text in the metadata."""
    texts = (_meta(content).get(name) for name in ("config", "cfg"))
    return next((found for text in texts if type(text) is str and (found := re.search(pattern, text))), None)


def _noted_interactions(content: Any) -> tuple[Span, ...] | None:
    """The adapter's interactions, from the configuration."""
    found = _configured(content, r"interaction_indexes\s*=\s*(\[[\d\s,\[\]]{1,2000}\])")
    try:
        spans = json.loads(re.sub(r",\s*\]", "]", found[1])) if found else None
        return None if spans is None else tuple((int(first), int(last)) for first, last in spans)
    except (TypeError, ValueError, RecursionError):
        return None


def _noted_crop(content: Any) -> tuple[int, int] | None:
    """Height and width of the images, from the configuration, if it has both."""
    found = _configured(content, r"(?:img_size|crop_size)\s*=\s*[(\[]\s*(\d{1,5})\s*,\s*(\d{1,5})\s*[)\]]")
    return (int(found[1]), int(found[2])) if found else None


def _noted_classes(content: Any) -> tuple[tuple[str, ...] | None, tuple[tuple[int, int, int], ...] | None]:
    """Names and colours of the classes, from mmsegmentation's metadata; 0.x has upper-case keys."""
    meta = _meta(content)
    newer = meta.get("dataset_meta")
    about = newer if isinstance(newer, dict) else meta
    names = about.get("classes", about.get("CLASSES"))
    if not isinstance(names, list | tuple) or not all(type(name) is str for name in names):
        return None, None
    try:
        table = np.asarray(about.get("palette", about.get("PALETTE")), dtype=np.float64)
    except (TypeError, ValueError):
        return tuple(names), None
    if table.shape != (len(names), 3) or not ((table >= 0) & (table <= 255)).all():
        return tuple(names), None
    return tuple(names), tuple((int(red), int(green), int(blue)) for red, green, blue in table)


def _assumed_crop(backbone: SwinSizes | TrunkSizes, state: Mapping[str, Tensor]) -> list[str]:
    if isinstance(backbone, SwinSizes) or backbone.grid[0] == backbone.grid[1]:
        return []
    if any(name.endswith(INDEX_NAMES) and index_fits(tensor, backbone.grid) for name, tensor in state.items()):
        return []
    return [f"images of {backbone.crop[0]}x{backbone.crop[1]}, not of {backbone.crop[1]}x{backbone.crop[0]}"]


def _assumed(adapter: AdapterSizes | None, head: HeadSizes | None, given: Assumptions, noted: bool) -> list[str]:
    """What was taken from the public configurations because no shape shows it."""
    assumed = []
    if (adapter or head) and given.points == Assumptions.points:
        assumed.append(f"{given.points} points of deformable attention")
    if head and given.decoder_heads is None:
        assumed.append(f"{head.decoder_heads} attention heads in the mask decoder")
    if adapter and given.interactions is None and not noted:
        spans = ", ".join(f"{first}-{last}" for first, last in adapter.interactions)
        assumed.append(f"adapter interactions over blocks {spans}")
    return assumed
