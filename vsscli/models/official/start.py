"""Initial weights of a Mask2Former: of its backbone, or of everything except its classes."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.models.mask2former.trunks import PATCH, BackboneConfig
from vsscli.models.misfits import first_of, misfits
from vsscli.models.network import Network
from vsscli.models.official.mapping import BACKBONE, Mapped, map_backbone, map_official, part_of
from vsscli.models.official.recognise import recognise
from vsscli.models.official.report import COUNTER
from vsscli.models.saved import is_checkpoint
from vsscli.models.torchfile import read_torch
from vsscli.models.wrappers import unwrapped
from vsscli.talk import SILENCE, Talk

CLASSES = "head.predictor.class_embed."


def load_start(network: Network, trunk: BackboneConfig, path: Path, talk: Talk = SILENCE) -> str:
    """Load a file into a fresh network of the family mask2former, as far as the file's tensors go; return its licence.

    The file is the pretraining of BEiT, ONE-PEACE or a Swin; or a published or a vss checkpoint of a whole network of
    the same sizes, whose head is loaded too, except for its class layer if it has another number of classes. Position
    tables are resized to the crop of ``trunk``. Files of other networks, and missing tensors, are errors.
    """
    source = f"weights {path}"
    mapped, unlearned, licence = _read(path, source, trunk)
    target = network.state_dict()
    found = {name: tensor for name, tensor in mapped.tensors.items() if not _other_classes(name, tensor, target)}
    # A file of a trunk has no adapter, pyramid or head; a part that is present must be complete.
    parts = {part_of(name) for name in found}
    wanted = {name: tensor for name, tensor in target.items() if name in found or _needed(name, parts)}
    faults = misfits(found, wanted)
    if faults:
        raise VssError(
            f"{source} are not of the network that the recipe describes: {faults}",
            "check model.backbone, model.sizes and model.head in the recipe",
        )
    network.load_state_dict(found, strict=False)
    network.note_loaded(found.keys() - unlearned)
    fresh = [name for name in target if name not in found and not name.endswith(COUNTER)]
    talk.say(f"{source}: {len(found)} tensors loaded, {len(mapped.resized)} of them resized to the crop")
    if mapped.unused:
        talk.say(f"{len(mapped.unused)} tensors not used ({first_of(mapped.unused)})")
    if fresh:
        talk.say(f"{len(fresh)} tensors start from scratch ({first_of(fresh)})")
    return licence


def _read(path: Path, source: str, trunk: BackboneConfig) -> tuple[Mapped, frozenset[str], str]:
    """The tensors of a file under our names, the names of those that were never trained, and the file's licence."""
    content = read_torch(path, "weights")
    if not is_checkpoint(content):
        official = recognise(content, source)
        return map_official(official, trunk), frozenset(), official.kind.licence
    checkpoint = load_checkpoint(path)
    own, crop = unwrapped(checkpoint.weights), checkpoint.config.fixed_crop
    grid = None if crop is None else (crop[0] // PATCH, crop[1] // PATCH)
    backbone = map_backbone(own, trunk, source, grid)
    rest = {name: tensor for name, tensor in own.items() if not name.startswith(BACKBONE)}
    unlearned = frozenset(checkpoint.fresh if checkpoint.step == 0 else ())
    return Mapped(backbone.tensors | rest, backbone.resized), unlearned, checkpoint.licence


def _needed(name: str, parts: set[str]) -> bool:
    return part_of(name) in parts and not name.startswith(CLASSES) and not name.endswith(COUNTER)


def _other_classes(name: str, tensor: Tensor, target: dict[str, Tensor]) -> bool:
    return name.startswith(CLASSES) and name in target and tensor.shape != target[name].shape
