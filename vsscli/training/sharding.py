"""``--strategy sharded``: weights, gradients and the optimiser's state shared out over processes, block by block.

This is torch's ``fully_shard`` (FSDP2) under Lightning Fabric's ``ModelParallelStrategy``: a block's weights are whole
only while it computes. Masters stay float32, whatever the precision: autocast converts them, as in one process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from vsscli.errors import VssError
from vsscli.models.frozen import frozen_parts


def is_sharding(fabric: Fabric) -> bool:
    """Whether the processes of a fabric share out what they train."""
    return isinstance(fabric.strategy, ModelParallelStrategy)


def shard(module: nn.Module, fabric: Fabric) -> None:
    """Share out a module's parameters in place, each block and then the rest; nothing happens if the fabric's processes
    keep all.

    To be called before anything refers to the parameters (an optimiser, averages, copies), and after all else that
    changes modules: recomputed activations, compilation. A frozen trunk stays whole, because copies refer to it.

    Raises
    ------
    VssError
        The module has no blocks, so it would be whole whenever it computes.
    """
    strategy = fabric.strategy
    if not isinstance(strategy, ModelParallelStrategy):
        return
    if not hasattr(FSDPModule, "reset_iter_state"):
        raise VssError(
            f"--strategy sharded needs a newer torch than {torch.__version__}", "upgrade: pip install --upgrade torch"
        )
    mesh = strategy.device_mesh["data_parallel"]
    frozen = {parameter for _, part in frozen_parts(module) for parameter in part.parameters()}
    found = [block for _, block in blocks(module) if any(p not in frozen for p in block.parameters())]
    if not found:
        raise VssError(
            "--strategy sharded shares out a network by its blocks, repeated parts in lists, and this one has none: "
            f"its largest parts are {_largest(module)}",
            "train it with --strategy ddp, which keeps the whole network in every process",
        )
    module.to(memory_format=torch.contiguous_format)  # weights of other formats can't be shared out
    for block in found:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, ignored_params=frozen)
    fully_shard(module, mesh=mesh, reshard_after_forward=False, ignored_params=frozen)


def blocks(module: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The repeated parts of a network that are called as a whole, with their names: blocks of transformers, of residual
    networks, layers of decoders.

    They are the entries of lists of one class that consist of several layers. In place of an entry that is never called
    itself (one without ``forward``, which only holds others), those that it holds.
    """
    for key, child in module.named_children():
        place = f"{name}.{key}" if name else key
        if isinstance(child, nn.ModuleList | nn.Sequential) and _repeats(child):
            for number, entry in child.named_children():
                yield from _called(entry, f"{place}.{number}")
        else:
            yield from blocks(child, place)


def _repeats(entries: nn.Module) -> bool:
    parts = list(entries.children())
    one_class = len({type(part) for part in parts}) == 1
    return one_class and any(_has(part.children()) for part in parts) and _has(entries.parameters())


def _called(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if type(module).forward is not nn.Module.forward:
        if _has(module.parameters()):
            yield name, module
        return
    for key, child in module.named_children():
        yield from _called(child, f"{name}.{key}")


def _has(things: Iterator[object]) -> bool:
    return any(True for _ in things)


@contextmanager
def whole_weights(module: nn.Module) -> Iterator[None]:
    """Keep all weights of a sharded module in every process, so that each may compute as much or as little with its
    parts as it likes; otherwise all must make the same calls.

    All processes must enter and leave it together. Meanwhile weights must not be changed, and neither moved nor asked
    for by ``state_dict``: both share them out again.
    """
    sharded = [part for part in module.modules() if isinstance(part, FSDPModule)]
    if isinstance(module, FSDPModule):
        # The first module that is called counts as the outermost; here that may be one within.
        module._get_fsdp_state()._lazy_init()
    for part in sharded:
        part.unshard()
        part.set_reshard_after_forward(False, recurse=False)
    try:
        yield
    finally:
        for part in sharded:
            part.reshard()
            part.set_reshard_after_forward(part is not module, recurse=False)
        forget_calls(module)


def forget_calls(module: nn.Module) -> None:
    """Forget the calls since the last backward pass: fetching ahead follows their order in the next one, and where some
    processes had others, each would wait for another part."""
    if isinstance(module, FSDPModule):
        module.reset_iter_state()


def _largest(module: nn.Module) -> str:
    sizes = {name: sum(p.numel() for p in part.parameters()) for name, part in module.named_modules() if name}
    largest = sorted(sizes, key=lambda name: -sizes[name])[:4]
    return ", ".join(f"{name} ({sizes[name]:,} weights)" for name in largest)
