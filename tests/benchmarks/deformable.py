"""Deformable attention compared with a plain loop over levels with `grid_sample`: time and memory, both ways.

    python tests/benchmarks/deformable.py --rounds 7

plain    sample each level, stack the samples, weight them, sum (as Deformable DETR's reference does)
ours     `vsscli.models.mask2former.deformable.deformable_attention`

Both get the same inputs, alternating in one run. Locations are around the query's own, a few cells away, a tenth of
them outside. The figures are medians over the rounds; the ratio is that of the rounds, plain / ours. Memory is the peak
allocated beyond the inputs, and what is kept between forward and backward. `--device cuda` measures a GPU, `--threads`
is for CPUs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from vsscli.models.mask2former.deformable import Shapes, deformable_attention

Attention = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]
MIB = 2**20


@dataclass(frozen=True)
class Case:
    """A use of the attention, for an image of 512x512 (ViT-Adapter-L: 1024 channels, ratio 0.5)."""

    queries: Shapes
    maps: Shapes
    heads: int
    width: int


CASES = {
    "pixel decoder, 256 channels": Case([(16, 16), (32, 32), (64, 64)], [(16, 16), (32, 32), (64, 64)], 8, 32),
    "pixel decoder, 1024 channels": Case([(16, 16), (32, 32), (64, 64)], [(16, 16), (32, 32), (64, 64)], 32, 32),
    "adapter's injector": Case([(32, 32)], [(64, 64), (32, 32), (16, 16)], 16, 32),
    "adapter's extractor": Case([(64, 64), (32, 32), (16, 16)], [(32, 32)], 16, 32),
}


def plain(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """The loop over levels."""
    batch, _, heads, width = values.shape
    count = locations.shape[1]
    samples = []
    levels = values.split([height * columns for height, columns in shapes], dim=1)
    for level, (cells, (height, columns)) in enumerate(zip(levels, shapes, strict=True)):
        maps = cells.flatten(2).transpose(1, 2).reshape(batch * heads, width, height, columns)
        grid = 2.0 * locations[:, :, :, level].transpose(1, 2).flatten(0, 1) - 1.0
        samples.append(functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False))
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, count, -1)
    summed = (torch.stack(samples, dim=-2).flatten(-2) * shares).sum(dim=-1)
    return summed.view(batch, heads * width, count).transpose(1, 2).contiguous()


def inputs_of(case: Case, batch: int, device: str) -> tuple[list[Tensor], Tensor]:
    """Values, locations and weights, and the gradient of the result."""
    random = torch.Generator().manual_seed(1)
    own = torch.cat([_centres(height, columns) for height, columns in case.queries])
    sizes = torch.tensor([(columns, height) for height, columns in case.maps], dtype=torch.float32)
    places = (batch, len(own), case.heads, len(case.maps), 4)
    away = torch.randn(*places, 2, generator=random) * 3.0 / sizes[:, None]
    locations = own[:, None, None, None, :] + away
    outside = torch.rand(*places, 1, generator=random) < 0.1
    locations = torch.where(outside, locations + 1.0, locations)
    cells = sum(height * columns for height, columns in case.maps)
    values = torch.randn(batch, cells, case.heads, case.width, generator=random)
    weights = torch.randn(batch, len(own), case.heads, len(case.maps) * 4, generator=random).softmax(-1).view(places)
    upstream = torch.randn(batch, len(own), case.heads * case.width, generator=random)
    return [tensor.to(device).requires_grad_() for tensor in (values, locations, weights)], upstream.to(device)


def _centres(height: int, columns: int) -> Tensor:
    y = (torch.arange(height) + 0.5) / height
    x = (torch.arange(columns) + 0.5) / columns
    return torch.stack([x.expand(height, -1), y[:, None].expand(-1, columns)], dim=-1).view(-1, 2)


def timed(attention: Attention, shapes: Shapes, inputs: list[Tensor], upstream: Tensor) -> tuple[float, float]:
    """Seconds forward and backward."""
    start = _now(upstream)
    result = attention(inputs[0], shapes, inputs[1], inputs[2])
    middle = _now(upstream)
    torch.autograd.grad(result, inputs, upstream)
    return middle - start, _now(upstream) - middle


def _now(tensor: Tensor) -> float:
    if tensor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter()


def memory(attention: Attention, shapes: Shapes, inputs: list[Tensor], upstream: Tensor) -> tuple[float, float]:
    """Peak MiB, and MiB kept for the backward pass, without the inputs."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = attention(inputs[0], shapes, inputs[1], inputs[2])
    for tensor in inputs:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    del result
    if upstream.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        timed(attention, shapes, inputs, upstream)
        return (torch.cuda.max_memory_allocated() - before) / MIB, sum(kept.values()) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        timed(attention, shapes, inputs, upstream)
    assert profiler.profiler is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / MIB, sum(kept.values()) / MIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ways: dict[str, Attention] = {"plain": plain, "ours": deformable_attention}
    for name, case in CASES.items():
        inputs, upstream = inputs_of(case, arguments.batch, arguments.device)
        print(name)
        times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(arguments.rounds + 1):
            for way, attention in ways.items():
                times[way].append(timed(attention, case.maps, inputs, upstream))
        for way, attention in ways.items():
            forward, backward = (statistics.median(column) * 1e3 for column in zip(*times[way][1:], strict=True))
            peak, kept = memory(attention, case.maps, inputs, upstream)
            print(f"  {way:6} {forward:7.1f} + {backward:7.1f} ms   {peak:7.1f} MiB at most, {kept:7.1f} MiB kept")
        pairs = list(zip(times["plain"], times["ours"], strict=True))[1:]
        ratios = [statistics.median(a[i] / b[i] for a, b in pairs) for i in range(2)]
        both = statistics.median(sum(a) / sum(b) for a, b in pairs)
        print(f"  ratio  {ratios[0]:.2f} forward, {ratios[1]:.2f} backward, {both:.2f} together")


if __name__ == "__main__":
    main()
