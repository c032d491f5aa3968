"""What of a network never learns, and so is neither copied nor run twice: a frozen trunk."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from vsscli.models.shares import shared_like

NEVER_LEARNS = "never_learns"
"""The attribute that such a part has, and that is true."""


class Seen(NamedTuple):
    """What a frozen trunk makes of images, for every network over it to read: tokens (B, N, D) of several depths, and
    the rotary positions of the patches, None where the trunk has none."""

    taps: tuple[Tensor, ...]
    positions: Tensor | None = None

    def part(self, images: slice) -> Seen:
        """That of some of the images."""
        return self._replace(taps=tuple(tokens[images] for tokens in self.taps))


Module = TypeVar("Module", bound=nn.Module)


def frozen_parts(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The parts that never learn, by name."""
    return [(name, part) for name, part in module.named_modules() if getattr(part, NEVER_LEARNS, False)]


def share_frozen(module: nn.Module, like: nn.Module) -> None:
    """Put what never learns of a module that is built alike in place of its own."""
    for name, part in frozen_parts(like):
        module.set_submodule(name, part)


def learning_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict without what never learns."""
    frozen = tuple(f"{name}." for name, _ in frozen_parts(module))
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(frozen)}


def load_learning(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict that may lack what never learns; of a module that is shared out over processes, too."""
    own = module.state_dict()
    shares = {name: shared_like(tensor, own[name]) if name in own else tensor for name, tensor in weights.items()}
    module.load_state_dict({**own, **shares})


def copied(module: Module) -> Module:
    """A copy that shares what never learns."""
    shared = [tensor for _, part in frozen_parts(module) for tensor in (*part.parameters(), *part.buffers())]
    return deepcopy(module, {id(tensor): tensor for tensor in shared})
