"""The first weights of a trunk: from timm, from a file of it, or from a checkpoint of a whole network of vss."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.models.misfits import first_of, misfits
from vsscli.models.plain_vit.config import PlainVitModel
from vsscli.models.plain_vit.tensors import Grid, fitted_trunk, timm_names
from vsscli.models.plain_vit.trunk import Trunk
from vsscli.models.saved import add_tensor, is_checkpoint
from vsscli.models.torchfile import read_safetensors, read_torch
from vsscli.models.weights import hub_weights, state_dict_of
from vsscli.models.wrappers import unwrapped
from vsscli.talk import SILENCE, Talk

TRUNK, CLASSES = "trunk.", "head.class_head."


def load_start(network: nn.Module, trunk: Trunk, config: PlainVitModel, talk: Talk = SILENCE) -> tuple[set[str], str]:
    """Fill a network with the weights that its configuration names, and return the names of what was loaded, and its
    licence.

    Raises
    ------
    VssError
        They can't be had, or are of another network.
    """
    if config.pretrained == "timm":
        path, reason = hub_weights(config.backbone)
        if path is None:
            raise VssError(
                f"there are no weights for {config.backbone} ({reason})",
                "name a file as model.pretrained, or fetch them once where the hub can be reached: "
                f"timm.create_model({config.backbone!r}, pretrained=True)",
            )
        tensors, source = timm_names(read_safetensors(path, "weights")), f"timm, {path}"
        return _fill(network, trunk, tensors, {}, None, source, talk), config.weights_licence
    path = Path(os.path.expanduser(config.pretrained))
    source, content = f"weights {path}", read_torch(path, "weights")
    if not is_checkpoint(content):
        tensors = timm_names(state_dict_of(content, path))
        return _fill(network, trunk, tensors, {}, None, source, talk), config.weights_licence
    checkpoint = load_checkpoint(path)
    theirs, own = checkpoint.config, unwrapped(checkpoint.weights)
    if not isinstance(theirs, PlainVitModel):
        raise VssError(f"{source} are of another family of networks", "name weights of a ViT")
    tensors = {name.removeprefix(TRUNK): tensor for name, tensor in own.items() if name.startswith(TRUNK)}
    rest = {name: tensor for name, tensor in own.items() if not name.startswith(TRUNK)}
    if not tensors:
        raise VssError(f"{source} hold no trunk of their own", "name the file that they name, or vss train --init")
    grid = (theirs.crop[0] // theirs.patch, theirs.crop[1] // theirs.patch)
    return _fill(network, trunk, tensors, rest, grid, source, talk), checkpoint.licence


def trunk_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a trunk's tensors, 64 hexadecimal digits: names, types, shapes and bytes in the order of names."""
    digest = hashlib.sha256()
    for name in sorted(state):
        add_tensor(digest, name, state[name])
    return digest.hexdigest()


def _fill(
    network: nn.Module,
    trunk: Trunk,
    tensors: dict[str, Tensor],
    rest: dict[str, Tensor],
    grid: Grid | None,
    source: str,
    talk: Talk,
) -> set[str]:
    """Load all of the trunk, and of the rest what has the network's names and shapes."""
    expected = trunk.state_dict()
    try:
        fitted = fitted_trunk(tensors, trunk, grid)
    except VssError as error:
        raise VssError(f"{source}: {error.message}", error.hint) from error
    unused = [name for name in fitted if name not in expected]
    found = {name: tensor for name, tensor in fitted.items() if name in expected}
    faults = misfits(found, expected)
    if faults:
        raise VssError(
            f"{source} are not of the trunk that the recipe describes: {faults}",
            "check model.backbone, model.sizes and model.pretrained in the recipe",
        )
    target = network.state_dict()
    fits = {name: tensor for name, tensor in rest.items() if name in target and tensor.shape == target[name].shape}
    others = [name for name in rest if name not in fits and not name.startswith(CLASSES)]
    if others:
        raise VssError(
            f"{source} are of a network with other queries than the recipe's ({first_of(others)})",
            "check model.queries, model.num_queries and model.blocks in the recipe",
        )
    loaded = {f"{TRUNK}{name}": tensor for name, tensor in found.items()} | fits
    network.load_state_dict(loaded, strict=False)
    talk.say(
        f"{source}: {len(loaded)} tensors loaded" + (f", {len(unused)} not used ({first_of(unused)})" if unused else "")
    )
    return set(loaded)
