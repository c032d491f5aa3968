"""A network's forward pass compared with its matrix products alone.

    python tests/benchmarks/forward.py vit_adapter_l --crop 512 --rounds 3

One pass is recorded: every matrix product and convolution with the shapes and strides of its inputs. Then the pass and
its products on tensors of those shapes are timed, alternating; attention counts as its two products, without the
softmax between them. The ratio is the median of the rounds' ratios. The rest of the pass is listed by operator, from
the profiler. Random weights, float32, no gradient; `--threads`, `--device cuda` and `--precision bf16` for other
machines.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from vsscli.inference.devices import autocast
from vsscli.models.build import build_network

aten = torch.ops.aten
PRODUCTS = (aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution)
ATTENTION = "_scaled_dot_product"
Call = Callable[[], object]


class Products(TorchDispatchMode):
    """Records the matrix products of what runs under it, on tensors of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in PRODUCTS:
            given = [blank(value) for value in args]
            self.calls.append(lambda: func(*given, **(kwargs or {})))
        elif ATTENTION in func.name():
            query, key, value = (blank(tensor).flatten(0, 1) for tensor in args[:3])
            weights = torch.rand(len(query), query.shape[1], key.shape[1], dtype=query.dtype, device=query.device)
            turned = key.transpose(1, 2)
            self.calls += [lambda: torch.bmm(query, turned), lambda: torch.bmm(weights, value)]
        return result


def blank(value: Any) -> Any:
    """Random numbers in a tensor's shape and strides; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=value.device).normal_()


def seconds(work: Call, device: torch.device) -> float:
    """Wall-clock time until the device is done."""
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def main() -> None:
    """Record, time in turns, profile."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", default="vit_adapter_l", help="model.backbone (default vit_adapter_l)")
    parser.add_argument("--crop", type=int, default=512, help="side of the image (default 512)")
    parser.add_argument("--classes", type=int, default=124, help="(default 124)")
    parser.add_argument("--rounds", type=int, default=3, help="(default 3)")
    parser.add_argument("--threads", type=int, help="default: torch's own")
    parser.add_argument("--precision", default="32", choices=("32", "bf16"))
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    config = {"family": "mask2former", "backbone": arguments.network, "crop": [arguments.crop] * 2}
    with device:
        network = build_network(config, arguments.classes, load_pretrained=False).eval()
        images = torch.randn(1, 3, arguments.crop, arguments.crop)

    def whole() -> object:
        with torch.inference_mode(), autocast(device, arguments.precision):
            return network(images)

    with torch.no_grad(), autocast(device, arguments.precision), Products() as products:
        network(images)

    @torch.inference_mode()
    def alone() -> None:
        for call in products.calls:
            call()

    whole()
    alone()
    rounds = [(seconds(whole, device), seconds(alone, device)) for _ in range(arguments.rounds)]
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        whole()
    spent = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in spent)
    print(f"device {device}, threads {torch.get_num_threads()}, python {platform.python_version()}, torch", end=" ")
    print(version("torch"))
    print(f"{arguments.network} at {arguments.crop}x{arguments.crop}, precision {arguments.precision}; seconds")
    print(f"  forward pass                {statistics.median(pair[0] for pair in rounds):8.2f}")
    print(f"  its {len(products.calls):4} products alone    {statistics.median(pair[1] for pair in rounds):8.2f}")
    ratios = [first / second for first, second in rounds]
    print(f"  ratio                       {statistics.median(ratios):8.2f}   ({min(ratios):.2f} to {max(ratios):.2f})")
    print("  operators of a pass, by time of their own:")
    for event in spent[:12]:
        share = event.self_cpu_time_total / total
        print(f"    {event.key:44} {share:6.1%}  {event.count:5} calls")


if __name__ == "__main__":
    main()
