"""The cost of a network: parameters, operations and memory, counted on tensors without content.

Networks run normally, on tensors that have shapes and no memory, so that the largest is counted in seconds on any
machine. Operations are those of matrix products and convolutions, two for each multiply-add, as torch counts them, on
the meta device. Memory is the peak of the storages alive at one time, among fake tensors: these allocate what a real
device does, where kernels of the meta device sometimes make more, but take twice as long. Not included are the
allocator's fragmentation, the workspaces of kernels, and the context of a GPU.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from vsscli.errors import VssError
from vsscli.models.build import build_network, read_config
from vsscli.models.config import NamedNetwork, NetworkConfig
from vsscli.models.frozen import frozen_parts
from vsscli.models.network import Network
from vsscli.models.outputs import MaskOutputs, Outputs

ADAM = 2  # moments that the optimiser keeps for each weight


@dataclass(frozen=True)
class Cost:
    """The cost of a network: parameters, and trainable ones; operations of a forward pass over one image; bytes of
    parameters and buffers, to predict a batch, and to train on one, of clips if it learns from these, with AdamW."""

    parameters: int
    learning: int
    flops: int
    weights: int
    predict: int
    train: int


def count_cost(
    config: Mapping[str, Any] | NetworkConfig, num_classes: int, size: tuple[int, int], batch: int = 1
) -> Cost:
    """Count the cost of a network in float32 on a batch of images of a height and width.

    Training is counted without the loss itself, which is small compared with the network.

    Raises
    ------
    VssError
        The configuration is wrong, or the network can't take such images.
    """
    network = _outline(config, num_classes)
    learning = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    flops, _ = _flops(network, 1, size)
    with FakeTensorMode(allow_non_fake_inputs=True):
        network.to_empty(device="cpu")
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        for name, parameter in network.named_parameters():
            parameter.requires_grad_(name in learning)
        states = ADAM * sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
        images, clips = torch.empty(batch, 3, *size), torch.empty(batch * network.frames, 3, *size)
        return Cost(
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            learning=sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
            flops=flops,
            weights=weights,
            predict=weights + _peak(network, images, training=False),
            train=weights + states + _peak(network, clips, training=True),
        )


@dataclass(frozen=True)
class Outline:
    """A network without its weights: parameters, the attributes of `vsscli.models.network.Network`, the operations of a
    forward pass over one image of a height and width, all of them and those of a frozen trunk, and the same in training
    for an image or a clip; and whether networks over that trunk share what it sees."""

    parameters: int
    crop: tuple[int, int] | None
    divisor: int
    stride: int
    predicting: Callable[[tuple[int, int]], tuple[int, int]]
    training: Callable[[tuple[int, int]], tuple[int, int]]
    shares: bool

    def flops(self, size: tuple[int, int], *, seen: bool = False) -> int:
        """Operations of a forward pass over one image; without those of a frozen trunk that has ``seen`` it."""
        whole, frozen = self.predicting(size)
        return whole - frozen if seen else whole


def outline(config: Mapping[str, Any] | NetworkConfig, num_classes: int) -> Outline:
    """Build a network on the meta device; arguments and errors as for `count_cost`."""
    network = _outline(config, num_classes)
    parameters = sum(parameter.numel() for parameter in network.parameters())

    predicting = cache(partial(_flops, network, 1))
    training = cache(partial(_flops, network, network.frames, training=True))
    return Outline(parameters, network.crop, network.divisor, network.stride, predicting, training, network.shares)


def _outline(config: Mapping[str, Any] | NetworkConfig, num_classes: int) -> Network:
    with torch.device("meta"):
        return build_network(read_config(config).bare(), num_classes, load_pretrained=False)


@dataclass(frozen=True)
class ListedCost:
    """The cost of a named network on images of a size; ``checkpointed`` is that with recomputed activations, None if
    the network has no such option."""

    size: tuple[int, int]
    plain: Cost
    checkpointed: Cost | None


def listed_cost(
    listed: NamedNetwork,
    crop: tuple[int, int] | None = None,
    batch: int = 1,
    num_classes: int = 124,
    readout: str | None = None,
) -> ListedCost:
    """Count the cost of a named network; by default on images of the size, and with the read-out, that it was published
    with.

    Raises
    ------
    VssError
        The network can't take such images, or has only one read-out.
    """
    size = crop or listed.size
    config = read_config(listed.config())
    changes: dict[str, Any] = {"crop": size} if config.fixed_crop is not None else {}
    if readout is not None and not listed.readout:
        raise VssError(f"{listed.name} has only one read-out", "leave out --readout")
    changes |= {"readout": readout} if readout is not None else {}
    plain = count_cost(listed.config(**changes), num_classes, size, batch)
    if "checkpointing" not in type(config).model_fields:
        return ListedCost(size, plain, None)
    again = count_cost(listed.config(**changes, checkpointing=True), num_classes, size, batch)
    return ListedCost(size, plain, again)


def _flops(network: Network, count: int, size: tuple[int, int], *, training: bool = False) -> tuple[int, int]:
    """Operations of a forward pass over some images, and those of a frozen trunk in it, with attention as matrix
    products, which are counted; of a network on the meta device."""
    network.train(training).requires_grad_(False)
    images = torch.empty(count, 3, *size, device="meta")
    parts = [part for _, part in frozen_parts(network)]
    with (
        torch.no_grad(),
        FlopCounterMode(display=False) as counter,
        sdpa_kernel(SDPBackend.MATH),
        _Within(parts, counter.get_total_flops) as frozen,
    ):
        if training:
            network.outputs(images)  # more predictions than at test
        else:
            network(images)
    return counter.get_total_flops(), frozen.total


class _Within:
    """By how much a count grows inside parts of a network, whichever of their modules are called."""

    def __init__(self, parts: list[nn.Module], count: Callable[[], int]) -> None:
        self.total = self._depth = self._before = 0
        self._count = count
        self._modules = [module for part in parts for module in part.modules()]

    def __enter__(self) -> _Within:
        self._hooks = [module.register_forward_pre_hook(self._enter) for module in self._modules]
        self._hooks += [module.register_forward_hook(self._leave) for module in self._modules]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _enter(self, *call: Any) -> None:
        if self._depth == 0:
            self._before = self._count()
        self._depth += 1

    def _leave(self, *call: Any) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.total += self._count() - self._before


def _peak(network: Network, images: Tensor, *, training: bool) -> int:
    """Peak bytes besides the weights: activations, outputs, and in training the gradients."""
    network.train(training)
    known = [*network.parameters(), *network.buffers()]
    with torch.set_grad_enabled(training), _Alive(known) as alive, _fused_attention():
        if training:
            _sum(network.outputs(images)).backward()
            network.zero_grad(set_to_none=True)
        else:
            network(images)
    return alive.peak


def _sum(outputs: Outputs) -> Tensor:
    """A scalar that every output contributes to."""
    if isinstance(outputs, MaskOutputs):
        return torch.stack([layer.class_logits.sum() + layer.mask_logits.sum() for layer in outputs.layers]).sum()
    return outputs.scores.values.sum()


class _Alive(TorchDispatchMode):
    """Tracks the storages that operations allocate until they are freed."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = WeakIdKeyDictionary()
        for tensor in known:
            self._seen[tensor.untyped_storage()] = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_iter(made):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage())
        return made

    def _follow(self, storage: torch.UntypedStorage) -> None:
        if storage in self._seen:
            return
        size = storage.nbytes()
        self._seen[storage] = True
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Attention that keeps what fused kernels keep, as on a GPU, and never the matrix of probabilities.

    Replaces torch's function for a while: a dispatch mode would not be active when checkpointing recomputes.
    """
    torchs = functional.scaled_dot_product_attention

    def fused(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **others: object) -> Tensor:
        return _Attention.apply(query, key, value, attn_mask)

    functional.scaled_dot_product_attention = fused  # type: ignore[assignment]
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = torchs


class _Attention(torch.autograd.Function):
    """Shapes of attention and of its gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        mixed = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, mask, mixed, torch.empty_like(query[..., 0]))
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = zip(ctx.saved_tensors, ctx.needs_input_grad, strict=False)
        return tuple(torch.empty_like(tensor) if wanted else None for tensor, wanted in needed)
