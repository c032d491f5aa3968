"""What passes between the host and the device of a network: frames up, results down, and how long it computes.

Nothing here waits for the device until a result is asked for; so while one part of a video is on its way down, the
next one's work is already queued. On a CPU there is nothing to wait for, and nothing is copied.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor


class Transfer:
    """Copies between the host and a device, through page-locked memory, which are only queued."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def up(self, images: Sequence[np.ndarray]) -> Tensor:
        """Images of one size (H, W, 3) uint8, as one tensor (B, H, W, 3) on the device."""
        parts = [torch.from_numpy(image) for image in images]
        if self.device.type == "cpu":
            return torch.stack(parts)
        # torch reuses this memory only when the copy is done.
        host = torch.empty(len(parts), *parts[0].shape, dtype=torch.uint8, pin_memory=True)
        return torch.stack(parts, out=host).to(self.device, non_blocking=True)

    def down(self, tensors: Sequence[Tensor]) -> Coming:
        """Send tensors of the device to the host, in one copy."""
        return Coming(tensors, self.device)


class Coming:
    """Tensors on their way to the host."""

    def __init__(self, tensors: Sequence[Tensor], device: torch.device) -> None:
        self.here = device.type == "cpu"
        """Whether they have arrived for certain, so that nothing is gained by asking later."""
        if self.here:
            self._arrays = [tensor.numpy() for tensor in tensors]
            return
        sent = torch.cat([tensor.reshape(-1).view(torch.uint8) for tensor in tensors])
        self._host = torch.empty(sent.shape, dtype=torch.uint8, pin_memory=True).copy_(sent, non_blocking=True)
        self._forms = [(tensor.dtype, tensor.shape) for tensor in tensors]
        self._lengths = [tensor.nbytes for tensor in tensors]
        self._arrived = torch.cuda.Event(blocking=True)  # waiting in it leaves the core to the threads that decode
        self._arrived.record(torch.cuda.current_stream(device))

    def arrays(self) -> list[np.ndarray]:
        """The values as arrays; waits until they are there."""
        if self.here:
            return self._arrays
        self._arrived.synchronize()
        # Copied, because page-locked memory is scarce and the next part needs it.
        parts = [part.clone() for part in self._host.split(self._lengths)]
        return [part.view(dtype).view(shape).numpy() for part, (dtype, shape) in zip(parts, self._forms, strict=True)]


class Stopwatch:
    """Adds up how long the device is at work on what is called within `running`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds, self._since = 0.0, math.nan
        self._open: deque[tuple[torch.cuda.Event, torch.cuda.Event]] = deque()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Time a block, on a GPU by events in its queue, which are read when they have passed."""
        now = time.perf_counter()
        if math.isnan(self._since):
            self._since = now
        if self._device.type == "cpu":
            yield
            self._seconds += time.perf_counter() - now
            return
        while self._open and self._open[0][1].query():
            self._close()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        stream = torch.cuda.current_stream(self._device)
        begin.record(stream)
        yield
        end.record(stream)
        self._open.append((begin, end))

    def seconds(self) -> float:
        """The time so far; waits for the device."""
        while self._open:
            self._open[0][1].synchronize()
            self._close()
        return self._seconds

    def share(self) -> float:
        """The share of the time since the first block that was spent in blocks; waits for the device. nan before."""
        return self.seconds() / (time.perf_counter() - self._since)

    def _close(self) -> None:
        begin, end = self._open.popleft()
        self._seconds += begin.elapsed_time(end) / 1000
