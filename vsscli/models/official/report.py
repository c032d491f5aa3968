"""From the tensors of an official checkpoint, under our names, to a network's weights: all of them, and no others."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.misfits import first_of, misfits
from vsscli.models.official.recognise import CheckpointKind, Official
from vsscli.talk import Talk

# What checkpoints hold that no network of ours has, by kind of network; names are official ones.
_INDEX = r".*\.(?:relative_position_index|rp_bucket|attn_mask)"  # counted anew from sizes
_TRAINING = r"criterion\..*|auxiliary_head\..*|ema_.*"
# Ends of trunks that were trained for other tasks: classes of ImageNet, visual words, a norm before them.
_ENDS = r"backbone\.(?:head|fc_norm|norm|lm_head|lm_norm|cls_pt_layers)\..*|backbone\.mask_token"
_UNNEEDED = {
    kind: re.compile(
        "|".join([_INDEX, _TRAINING] + ([_ENDS] if kind in (CheckpointKind.SWIN, CheckpointKind.BEIT) else []))
    )
    for kind in CheckpointKind
}
COUNTER = ".num_batches_tracked"


@dataclass(frozen=True)
class Fitted:
    """A network's whole state dict out of an official checkpoint, and how many of its tensors came from there; official
    names of what is in the checkpoint and in no network of ours; our names of tables that were resized to another crop,
    and of what the checkpoint has not and training begins with."""

    weights: dict[str, Tensor]
    loaded: int
    unused: tuple[str, ...]
    resized: tuple[str, ...]
    fresh: tuple[str, ...]

    def tell(self, official: Official, talk: Talk) -> None:
        """Say what became of the checkpoint's tensors, and what was assumed of it."""
        talk.say(f"{official.source} is {official.kind}: {self.loaded} tensors loaded")
        if self.resized:
            talk.say(f"{len(self.resized)} position tables resized ({first_of(self.resized, 1)})")
        if self.unused:
            talk.say(f"{len(self.unused)} tensors not used ({first_of(self.unused)})")
        if self.fresh:
            talk.warn(f"{len(self.fresh)} tensors are not in the checkpoint and start from scratch")
        if official.assumed:
            talk.say(f"assumed, as its shapes can't tell: {'; '.join(official.assumed)}")


def split_unneeded(official: Official) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Part an official checkpoint into what a network needs and the names of what is known not to be needed."""
    pattern = _UNNEEDED[official.kind]
    unneeded = tuple(name for name in official.state if pattern.fullmatch(name))
    dropped = set(unneeded)
    return {name: tensor for name, tensor in official.state.items() if name not in dropped}, unneeded


def fitted_weights(
    mapped: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    source: str,
    *,
    unused: Sequence[str] = (),
    resized: Sequence[str] = (),
    fresh: Sequence[str] = (),
) -> Fitted:
    """Make the state dict of a network out of tensors that have its names already, tables at the network's size.

    ``target`` is the network's state dict as it is before; ``unused`` and ``resized`` are for the report; ``fresh`` are
    prefixes of our names that the checkpoint need not have, ``head.`` where it is of a trunk. Tensors that are missing,
    surplus or of another shape are an error that names the first of each.
    """
    # Batch norms count their batches; files of torch before 1.0 lack the count, and nothing here uses it.
    optional = [
        name
        for name in target
        if name not in mapped and (name.endswith(COUNTER) or any(name.startswith(prefix) for prefix in fresh))
    ]
    expected = {name: tensor for name, tensor in target.items() if name not in set(optional)}
    faults = misfits(mapped, expected)
    if faults:
        raise VssError(
            f"{source} does not fit the network it was taken for: {faults}",
            "it is of another network, cut short, or was changed; convert the file that its owners publish",
        )
    weights = {name: mapped[name].to(tensor.dtype) if name in mapped else tensor for name, tensor in target.items()}
    counted = [name for name in optional if not name.endswith(COUNTER)]
    return Fitted(weights, len(mapped), tuple(unused), tuple(resized), tuple(counted))


def check_classes(official: Official, num_classes: int, what: str) -> None:
    """Refuse a checkpoint that tells apart other classes than ``what`` (a recipe, a class table) has."""
    if official.num_classes is not None and official.num_classes != num_classes:
        raise VssError(
            f"{official.source} tells {official.num_classes} classes apart, {what} has {num_classes}",
            "name the class table that it was trained with, or start from its trunk alone",
        )
