"""From the renamed tensors of a published checkpoint to a network's weights: exactly those of the network."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vsscli.errors import VssError
from vsscli.models.misfits import first_of, misfits
from vsscli.models.official.recognise import CheckpointKind, Official
from vsscli.talk import Talk

# Official names of tensors that our networks do not have, by kind of checkpoint.
_INDEX = r".*\.(?:relative_position_index|rp_bucket|attn_mask)"  # recomputed from sizes
_TRAINING = r"criterion\..*|auxiliary_head\..*|ema_.*"
# Heads of trunks that were trained for other tasks: classes of ImageNet, visual tokens, a norm before them.
_ENDS = r"backbone\.(?:head|fc_norm|norm|lm_head|lm_norm|cls_pt_layers)\..*|backbone\.mask_token"
_UNNEEDED = {
    kind: re.compile(
        "|".join([_INDEX, _TRAINING] + ([_ENDS] if kind in (CheckpointKind.SWIN, CheckpointKind.BEIT) else []))
    )
    for kind in CheckpointKind
}
COUNTER = ".num_batches_tracked"


class Published(Protocol):
    """What there is to say of any official checkpoint: what to call it in messages, what it is of, how many classes it
    has and what they are called and coloured where it says so, and what was assumed of it."""

    @property
    def source(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def num_classes(self) -> int | None: ...

    @property
    def classes(self) -> tuple[str, ...] | None: ...

    @property
    def colours(self) -> tuple[tuple[int, int, int], ...] | None: ...

    @property
    def assumed(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Fitted:
    """A network's complete state dict from a published checkpoint, and the number of tensors from it; official names of
    unused tensors; our names of position tables resized to another crop, and of tensors that the checkpoint lacks and
    that start from scratch."""

    weights: dict[str, Tensor]
    loaded: int
    unused: tuple[str, ...]
    resized: tuple[str, ...]
    fresh: tuple[str, ...]

    def report(self, official: Published, talk: Talk) -> None:
        """Report how the checkpoint's tensors were used, and what was assumed about it."""
        talk.say(f"{official.source} is {official.kind}: {self.loaded} tensors loaded")
        if self.resized:
            talk.say(f"{len(self.resized)} position tables resized ({first_of(self.resized, 1)})")
        if self.unused:
            talk.say(f"{len(self.unused)} tensors not used ({first_of(self.unused)})")
        if self.fresh:
            talk.warn(f"{len(self.fresh)} tensors are not in the checkpoint and start from scratch")
        if official.assumed:
            talk.say(f"assumed, because shapes do not show it: {'; '.join(official.assumed)}")


def split_unneeded(official: Official) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Split a published checkpoint into the tensors that a network needs and the names of known others."""
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
    """Make the state dict of a network from tensors with its names, with tables at the network's size.

    ``target`` is the network's initial state dict; ``unused`` and ``resized`` are for the report; ``fresh`` are
    prefixes of our names that the checkpoint may lack, such as ``head.`` for one of a trunk. Missing, surplus and
    misshapen tensors are an error that names the first of each.
    """
    # Files of torch before 1.0 lack batch norm's counter of batches, which nothing here uses.
    optional = [
        name
        for name in target
        if name not in mapped and (name.endswith(COUNTER) or any(name.startswith(prefix) for prefix in fresh))
    ]
    expected = {name: tensor for name, tensor in target.items() if name not in set(optional)}
    faults = misfits(mapped, expected)
    if faults:
        raise VssError(
            f"{source} does not fit the network that it was recognised as: {faults}",
            "it is of another network, truncated, or was changed; convert the file that its authors publish",
        )
    weights = {name: mapped[name].to(tensor.dtype) if name in mapped else tensor for name, tensor in target.items()}
    counted = [name for name in optional if not name.endswith(COUNTER)]
    return Fitted(weights, len(mapped), tuple(unused), tuple(resized), tuple(counted))


def check_classes(official: Published, num_classes: int, what: str) -> None:
    """Refuse a checkpoint with another number of classes than ``what`` (a recipe, a class table)."""
    if official.num_classes is not None and official.num_classes != num_classes:
        raise VssError(
            f"{official.source} has {official.num_classes} classes, {what} has {num_classes}",
            "name the class table that it was trained with, or start from its trunk alone",
        )
