"""From the names and tables of published checkpoints to those of our networks: tensors in, tensors out, no disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.mask2former.relative_position import Window
from vsscli.models.mask2former.trunks import BackboneConfig
from vsscli.models.official.head import mmseg_head_to_detectron
from vsscli.models.official.pretraining import PRETRAINING
from vsscli.models.official.recognise import Official
from vsscli.models.official.report import split_unneeded
from vsscli.models.official.sizes import TrunkSizes

BACKBONE, HEAD = "backbone.", "head."
DETECTRON2, MMSEG = "sem_seg_head.", "decode_head."


@dataclass(frozen=True)
class Mapped:
    """Tensors under the names of our networks, names of resized tables (ours), and names of tensors in the checkpoint
    that our networks do not have (official)."""

    tensors: dict[str, Tensor]
    resized: tuple[str, ...]
    unused: tuple[str, ...] = ()


def part_of(name: str) -> str:
    """The part of a network that a tensor belongs to: the first two components of its name, one for the head."""
    return HEAD if name.startswith(HEAD) else ".".join(name.split(".")[:2])


def map_official(official: Official, trunk: BackboneConfig) -> Mapped:
    """Map a recognised checkpoint to the names of `Mask2Former`, and resize position tables to the backbone's crop.
    Missing or misshapen tensors of the trunk, and tables that can't be resized, are errors."""
    state, unneeded = split_unneeded(official)
    sizes = official.backbone
    grid = sizes.grid if isinstance(sizes, TrunkSizes) else None
    mapped = map_backbone(state, trunk, official.source, grid)
    tensors = dict(mapped.tensors)
    theirs = [name.removeprefix(MMSEG) for name in state if name.startswith(MMSEG)]
    ours = mmseg_head_to_detectron(theirs)
    for name, tensor in state.items():
        if name.startswith(DETECTRON2):
            tensors[HEAD + name.removeprefix(DETECTRON2)] = tensor
        elif name.startswith(MMSEG):
            short = name.removeprefix(MMSEG)
            tensors[HEAD + ours[short] if short in ours else name] = tensor
        elif not name.startswith(BACKBONE):
            tensors[name] = tensor  # in none of our networks: `fitted_weights` reports it
    return Mapped(tensors, mapped.resized, unneeded)


def map_backbone(state: Mapping[str, Tensor], trunk: BackboneConfig, source: str, grid: Window | None = None) -> Mapped:
    """Map the tensors under ``backbone.`` of a published checkpoint or one of ours to a trunk of another crop; ``grid``
    is the number of patches down and across of its position tables, which their rows alone do not determine."""
    inside = {name.removeprefix(BACKBONE): tensor for name, tensor in state.items() if name.startswith(BACKBONE)}
    try:
        taken = PRETRAINING[trunk.pretraining](inside, trunk, grid)
    except VssError as error:
        raise VssError(f"{source}: {error.message}", error.hint) from error
    rest = {name: inside[name] for name in taken.unused}  # of an adapter or a pyramid around the trunk
    resized = tuple(
        BACKBONE + name for name, tensor in taken.state.items() if name not in inside or name in taken.resized
    )
    return Mapped({BACKBONE + name: tensor for name, tensor in (taken.state | rest).items()}, resized)
