"""A GPU that is not there: tensors without content on a device `cuda`, and a record of what would wait for it.

torch's FakeTensorMode runs only shapes, types and devices. It refuses operators whose operands are on different
devices, and whatever needs a number that only the device knows. `Watch` notes the rest.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda", 0)

AT_ONCE = 64 * 2**10
"""Bytes that CUDA takes from any memory of the host without waiting for the queue (CUDA C++ Programming Guide,
Asynchronous Concurrent Execution)."""

aten = torch.ops.aten
ASKING = {
    aten._local_scalar_dense: "a number of the device is read",
    aten.item: "a number of the device is read",
    aten.equal: "a number of the device is read",
    aten.nonzero: "the size of a result is asked for",
    aten.masked_select: "the size of a result is asked for",
    aten._unique2: "the size of a result is asked for",
    aten.bincount: "the size of a result is asked for",
}
INDEXING = {aten.index, aten.index_put_, aten.index_put}
COPYING = {aten._to_copy, aten.to, aten.copy_}  # in inference mode `to` is not taken apart


class Watch(TorchDispatchMode):
    """Notes in ``waits`` every operator for which the host would wait for the device, and the lines that lead to it."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.downs = 0
        self._pinned: dict[int, Tensor] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, kind = kwargs or {}, func.overloadpacket
        if kind is torch.ops.prim.device:
            return func(*args)  # more than every second call
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        on_device = any(tensor.device.type == "cuda" for tensor in tensors)
        if on_device and (kind in ASKING or func is aten.repeat_interleave.Tensor):
            self._note(f"{func}: {ASKING.get(kind, 'the size of a result is asked for')}")
        if on_device and kind in INDEXING and any(_is_mask(index) for index in tree_leaves(args[1])):
            self._note(f"{func}: the size of a mask is asked for")
        if kind in COPYING:
            for tensor in tensors:
                if isinstance(tensor, FakeTensor):
                    tensor.constant = None  # a single number that the mode knows would be copied to a real device
        result = func(*args, **kwargs)
        if kwargs.get("pin_memory"):
            self._pinned[result.untyped_storage()._cdata] = result
        if kind in COPYING:
            names = [argument.name for argument in func._schema.arguments]
            self._copied(dict(zip(names, args, strict=False)) | kwargs, result)
        return result

    def _copied(self, named: dict[str, Any], result: Tensor) -> None:
        source = named.get("src", named["self"])
        there, here = source.device.type, result.device.type
        if there == here:
            return
        at_host = source if there == "cpu" else result
        pinned, queued = at_host.untyped_storage()._cdata in self._pinned, named.get("non_blocking")
        if here == "cpu":
            self.downs += 1
            if not (queued and pinned):
                self._note("a copy to the host is waited for")
            return
        if at_host.ndim == 0 and "src" in named:
            return  # a number, which is an argument of a kernel
        if not queued or (at_host.nbytes > AT_ONCE and not pinned):
            self._note(f"a copy of {at_host.nbytes} bytes to the device is waited for")

    def _note(self, what: str) -> None:
        lines = [
            f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_stack() if "/vsscli/" in frame.filename
        ]
        self.waits.append(f"{what}, at {' < '.join(reversed(lines[-3:]))}")


def _is_mask(index: Any) -> bool:
    return isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)


class Event:
    """An event of the queue, which has always passed."""

    def __init__(self, **kinds: bool) -> None:
        pass

    def record(self, stream: object = None) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return 1.0


@contextmanager
def fake_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Everything that is made inside has no content; `cuda` is a device like any other."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    # Otherwise torch.autocast would do nothing for want of a GPU.
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: None)
    monkeypatch.setattr(FakeTensorMode, "avoid_device_init", True)  # it would look for a driver at every operator
    monkeypatch.setattr(FakeTensor, "numpy", lambda self: np.zeros(self.shape, str(self.dtype).rpartition(".")[2]))
    monkeypatch.setattr(
        torch, "from_numpy", lambda array: torch.empty(array.shape, dtype=getattr(torch, array.dtype.name))
    )
    monkeypatch.setattr(FakeTensorMode, "__deepcopy__", lambda self, memo: self, raising=False)
    monkeypatch.setattr(nn.Module, "to", lambda self, *where, **how: on_cuda(self) if CUDA in where else self)
    monkeypatch.setattr(torch, "rand", partial(_drawn, torch.rand, 0.25))
    monkeypatch.setattr(torch, "randint", partial(_drawn, torch.randint, None))
    monkeypatch.setattr(torch.autograd, "grad", lambda loss, weights, **how: [torch.zeros_like(one) for one in weights])
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=False))
        yield stack.enter_context(Watch())


def _drawn(function: Any, number: float | None, *args: Any, **how: Any) -> Any:
    """Numbers that the host draws for itself have values here too: a fraction, or the least whole number."""
    if () not in args:
        return function(*args, **how)
    return number if number is not None else args[0] if len(args) == 3 else 0


def on_cuda(module: nn.Module) -> nn.Module:
    """The same module with parameters and buffers of the same layout on the device, in place; called in `fake_cuda`."""
    known: dict[int, Tensor] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            if tensor.device == CUDA:
                return tensor
            empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=CUDA)
            parameter = isinstance(tensor, nn.Parameter)
            known[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if parameter else empty
        return known[id(tensor)]

    for part in module.modules():
        for tensors in (part._parameters, part._buffers):
            tensors.update({name: moved(tensor) for name, tensor in tensors.items() if tensor is not None})
    return module
