"""Checkpoints: a network's weights, and everything needed to use them, in one file that runs no code.

The file is a zip of ``torch.save`` that loads with ``weights_only=True``: a dict of

========= ======================================================================================================
vss       one JSON text: format, network configuration, class table, normalisation, recipe, figures, step, digests
weights   the network's state dict, names to tensors
training  optimiser state and more, in plain containers; absent if training can't continue from the file
========= ======================================================================================================

Equal content gives equal bytes. While a run shares out its weights over processes, its checkpoint names the files that
these wrote, ``shares``, in place of weights and training (`vsscli.models.sharefiles`).
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import vsscli
from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.build import build_network, read_config, recorded_licence
from vsscli.models.config import UNRECORDED, NetworkConfig
from vsscli.models.frozen import load_learning
from vsscli.models.misfits import misfits
from vsscli.models.network import Network, Normalisation
from vsscli.models.saved import add_tensor, digest_values, is_checkpoint, own_memory, plain_values, write_torch
from vsscli.models.sharefiles import Shares, joined, named_shares, remove_shares
from vsscli.models.torchfile import read_torch
from vsscli.models.wrappers import unwrapped
from vsscli.structured import canonical_json, parse_json

WHOLE, TRUNKLESS, SHARED = 1, 2, 3
"""Formats: with all of the network's weights, without those of a frozen trunk, in shares. Each file has the lowest that
says what it is, so that older versions can read what they understand."""

FORMAT = SHARED
WHAT = "checkpoint"
DAMAGED = "copy it again, or go back to another checkpoint of the run"


@dataclass
class Checkpoint:
    """A network and its origin.

    Parameters
    ----------
    network
        Its configuration: ``family`` and the fields of that family.
    weights
        Its state dict.
    table
        Its class table.
    normalisation
        Normalisation of its input.
    recipe, figures, step
        The recipe it was trained with, its figures, and the number of steps: plain JSON values.
    inputs
        Fingerprints of the training's other inputs: the checkpoint it started from, pseudo-labels, data.
    fresh
        Parameters without loaded weights when training began, or begins: for a converted trunk, everything around it.
        They learn at the full rate (`vsscli.models.network.Network.fresh`).
    training
        State to continue training from: dicts, lists, tuples, strings, numbers, tensors. None if it can't continue.
    trunk
        Digest of a frozen trunk that the weights lack because the configuration says where it is; empty if the weights
        are complete.
    licence
        Of the weights that the training began from, through all checkpoints that it was continued from, as
        `vsscli.models.network.Network.licence`.
    fingerprint
        SHA-256 over weights, configuration, normalisation and trunk, 64 hexadecimal digits; set when saved and loaded.
        Two checkpoints with the same fingerprint predict alike.
    path
        The file it was loaded from, for messages.
    """

    network: dict[str, Any]
    weights: dict[str, Tensor]
    table: ClassTable
    normalisation: Normalisation
    recipe: dict[str, Any]
    figures: dict[str, Any]
    step: int
    inputs: dict[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    training: dict[str, Any] | None = None
    trunk: str = ""
    licence: str = UNRECORDED
    fingerprint: str = ""
    path: Path | None = field(default=None, compare=False)

    @property
    def config(self) -> NetworkConfig:
        """Its configuration, checked; raises as `vsscli.models.build.read_config`."""
        return read_config(self.network)


def save_checkpoint(path: Path, checkpoint: Checkpoint, shares: Sequence[tuple[str, str]] = ()) -> None:
    """Write a checkpoint atomically, and set its fingerprint; shares of the file that it replaces are removed.

    ``shares`` are names and digests of the files of all processes (`vsscli.models.sharefiles.write_share`), which then
    hold weights and training state in place of those of ``checkpoint``.

    Raises
    ------
    VssError
        The file can't be written.
    TypeError
        ``training`` contains a value that could not be loaded again.
    """
    content: dict[str, Any] = {}
    weights: Mapping[str, Tensor]
    digest = None
    if shares:
        content["shares"] = list(shares)
        # One tensor after another is read for the fingerprint, which has to be that of the whole file.
        weights = Shares(path, shares, check=False)
    else:
        weights = {name: own_memory(tensor).contiguous() for name, tensor in checkpoint.weights.items()}
        content["weights"] = weights
        if checkpoint.training is not None:
            content["training"] = plain_values(checkpoint.training, "training")
            digest = digest_values(content["training"])
    checkpoint.fingerprint = fingerprint_of(weights, checkpoint.network, checkpoint.normalisation, checkpoint.trunk)
    content["vss"] = _describe(checkpoint, digest, SHARED if shares else TRUNKLESS if checkpoint.trunk else WHOLE)
    write_torch(path, content, WHAT)
    remove_shares(path, keep=[name for name, _ in shares])


def load_checkpoint(path: Path, *, weights: bool = True) -> Checkpoint:
    """Read a checkpoint and check that it is unchanged.

    Parameters
    ----------
    path
        The file.
    weights
        Load weights and training state, mapped from the disk, and check their digests. False leaves ``weights`` empty
        and ``training`` None, and reads only a few kilobytes, whatever the size of the file.

    Raises
    ------
    VssError
        The file is missing or damaged, is from another program or a newer vss, or would run code.
    """
    path = Path(path)
    content = read_torch(path, WHAT)
    if not is_checkpoint(content):
        raise VssError(
            f"{path} is not a vss checkpoint: it holds {_contents(content)}",
            "only checkpoints that vss wrote can be read here; name encoder weights in a recipe as model.pretrained",
        )
    # Figures may be NaN: a class that does not occur has no IoU.
    about = parse_json(content["vss"], f"checkpoint {path} is damaged: its description", DAMAGED, finite=False)
    try:
        canonical_json({name: value for name, value in about.items() if name != "figures"})
        version = _whole(about["format"])
        if version > FORMAT:
            raise VssError(
                f"checkpoint {path} has format {version}, of vss {about.get('vsscli')}; this vss reads up to {FORMAT}",
                "upgrade: pip install --upgrade vsscli",
            )
        if weights:
            try:
                content = joined(path, content)
            except VssError:
                if named_shares(path, read_torch(path, WHAT)) == named_shares(path, content):
                    raise
                return load_checkpoint(path)  # the run went on meanwhile, and removed what its last file named
        checkpoint = Checkpoint(
            network=dict(about["network"]),
            weights=dict(content["weights"]) if weights else {},
            table=ClassTable.from_dict(about["classes"]),
            normalisation=_normalisation(about["normalisation"]),
            recipe=dict(about["recipe"]),
            figures=dict(about["figures"]),
            step=_whole(about["step"]),
            inputs=dict(about["inputs"]),
            fresh=tuple(map(str, about.get("fresh", ()))),
            training=content.get("training") if weights else None,
            trunk=str(about.get("trunk", "")),
            licence=recorded_licence(about),
            fingerprint=str(about["fingerprint"]),
            path=path,
        )
        training_digest = about["training"]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VssError(f"checkpoint {path} is damaged: {type(error).__name__} {error}", DAMAGED) from error
    if weights:
        _check_weights(checkpoint)
        if not content.get("shares"):  # they have digests of their own
            _check_training(checkpoint, training_digest)
    return checkpoint


def make_whole(path: Path) -> None:
    """Replace a checkpoint in shares by one file; change no other."""
    if named_shares(path, read_torch(path, WHAT)):
        save_checkpoint(path, load_checkpoint(path))


def restore_network(checkpoint: Checkpoint) -> Network:
    """Build the network of a checkpoint, in evaluation mode.

    Raises
    ------
    VssError
        Tensors are missing, surplus or of another shape; the first are named.
    """
    # Initial weights are drawn and then overwritten, without changing the state of the random generator.
    with torch.random.fork_rng(devices=[]):
        network = build_network(_with_trunk(checkpoint), checkpoint.table.num_classes, load_pretrained=False)
    load_weights(network, checkpoint)
    network.normalisation, network.licence = checkpoint.normalisation, checkpoint.licence
    return network.eval()


def _with_trunk(checkpoint: Checkpoint) -> dict[str, Any]:
    """Its configuration, where the file of a trunk that it lacks may have moved to the checkpoint's own folder."""
    named = checkpoint.network.get("pretrained")
    if not checkpoint.trunk or checkpoint.path is None or not isinstance(named, str):
        return checkpoint.network
    beside = checkpoint.path.parent / Path(named).name
    moved = not os.path.exists(os.path.expanduser(named)) and beside.is_file()
    return {**checkpoint.network, "pretrained": str(beside)} if moved else checkpoint.network


def load_weights(network: Network, checkpoint: Checkpoint) -> None:
    """Copy a checkpoint's weights into a network that must have exactly these tensors, and the trunk that they lack.

    Raises
    ------
    VssError
        Tensors are missing, surplus or of another shape; the first are named. Or the trunk is another.
    """
    if checkpoint.trunk != network.trunk_digest:
        there, here = (digest[:12] or "none" for digest in (checkpoint.trunk, network.trunk_digest))
        raise VssError(
            f"checkpoint {checkpoint.path or ''} was trained over a frozen trunk with digest {there}, not {here}",
            f"set model.pretrained to the weights of that trunk, {checkpoint.network.get('pretrained')} at the time",
        )
    weights = unwrapped(checkpoint.weights)  # a compiled network may have been saved
    faults = misfits(weights, network.kept_state())
    if faults:
        raise VssError(
            f"the weights of checkpoint {checkpoint.path or ''} do not fit the network: {faults}",
            "use the network configuration and the number of classes that it was trained with",
        )
    load_learning(network, weights)


def fingerprint_of(
    weights: Mapping[str, Tensor], network: Mapping[str, Any], normalisation: Normalisation, trunk: str = ""
) -> str:
    """SHA-256 of everything that decides what a network predicts: name, type, shape and bytes of every tensor in the
    order of names, network configuration, normalisation, digest of a trunk that the weights lack.

    The origin of the initial weights (``pretrained``, which may be a path on one machine) does not count.
    """
    config = {name: value for name, value in network.items() if name != "pretrained"}
    about = {"network": config, "normalisation": asdict(normalisation), **({"trunk": trunk} if trunk else {})}
    digest = hashlib.sha256(canonical_json(about, finite=False).encode())
    for name in sorted(weights):
        add_tensor(digest, name, weights[name])
    return digest.hexdigest()


def _describe(checkpoint: Checkpoint, training: str | None, version: int) -> str:
    rare: dict[str, Any] = {"fresh": list(checkpoint.fresh)} if checkpoint.fresh else {}
    rare |= {"trunk": checkpoint.trunk} if checkpoint.trunk else {}
    return canonical_json(
        rare
        | {
            "format": version,
            "vsscli": vsscli.__version__,
            "network": checkpoint.network,
            "classes": checkpoint.table.to_dict(),
            "normalisation": asdict(checkpoint.normalisation),
            "recipe": checkpoint.recipe,
            "figures": checkpoint.figures,
            "step": checkpoint.step,
            "inputs": checkpoint.inputs,
            "fingerprint": checkpoint.fingerprint,
            "training": training,
            "licence": checkpoint.licence,
        },
        finite=False,
    )


def _check_weights(checkpoint: Checkpoint) -> None:
    """Compare what was read with its digest: a mapped zip checks nothing itself."""
    path = checkpoint.path
    if not all(type(name) is str and isinstance(tensor, Tensor) for name, tensor in checkpoint.weights.items()):
        raise VssError(f"checkpoint {path} is damaged: its weights are not tensors", DAMAGED)
    found = fingerprint_of(checkpoint.weights, checkpoint.network, checkpoint.normalisation, checkpoint.trunk)
    if found != checkpoint.fingerprint:
        raise VssError(
            f"checkpoint {path} has changed since it was written: its weights have fingerprint {found[:12]}, "
            f"but {checkpoint.fingerprint[:12]} is recorded",
            DAMAGED,
        )


def _check_training(checkpoint: Checkpoint, recorded: str | None) -> None:
    found = None if checkpoint.training is None else digest_values(checkpoint.training)
    if found != recorded:
        raise VssError(
            f"checkpoint {checkpoint.path} has changed since it was written: its training state differs", DAMAGED
        )


def _normalisation(values: Any) -> Normalisation:
    mean, std = ([float(value) for value in values[name]] for name in ("mean", "std"))
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0 or not all(map(math.isfinite, (*mean, *std))):
        raise ValueError(f"normalisation {values}")
    return Normalisation((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value


def _contents(content: Any) -> str:
    if isinstance(content, dict):
        names = [str(key) for key in content]
        return f"{len(names)} entries ({', '.join(names[:5])}{', …' if len(names) > 5 else ''})"
    return f"a {type(content).__name__}"
