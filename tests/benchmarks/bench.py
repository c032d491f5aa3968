"""A run of measurements on one device: rows that are printed and kept as they come."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from inference import timed
from steps import operations

from vsscli.inference.devices import resolve_device

Row = dict[str, Any]


class Bench:
    """The device, what was measured on it, and where rows go."""

    def __init__(self, arguments: argparse.Namespace, classes: int) -> None:
        self.device = resolve_device(arguments.device)
        torch.empty(1, device=self.device)  # statistics need the device to be set up
        self.quick, self.classes = arguments.quick, classes
        self.until = time.monotonic() + 60 * arguments.minutes
        self.out: Path | None = arguments.out
        self.rows: list[Row] = []
        self.peak_flops: float | None = None
        self.precision = "32" if self.device.type == "cpu" else "bf16"  # CPUs that lack bf16 emulate it
        self.repeats = 2 if self.quick else 10
        # Counting takes seconds for a large network, in processes of its own while the device works.
        self._counters = ProcessPoolExecutor(1 if self.quick else 6, multiprocessing.get_context("spawn"))
        self._counted: dict[tuple[str, tuple[int, int]], Future[tuple[int, int]]] = {}

    def add(self, part: str, what: str, **figures: Any) -> None:
        """Keep and print a row."""
        self.rows.append({"part": part, "what": what, **figures})
        print(
            f"{part:11} {what:44} " + "  ".join(f"{key} {_shown(value)}" for key, value in figures.items()), flush=True
        )
        if self.out is not None:
            self.out.write_text(json.dumps({"machine": self.machine(), "rows": self.rows}, indent=1) + "\n")

    def attempt(self, part: str, what: str, work: Callable[[], Row]) -> None:
        """Add the row that ``work`` measures, or how it failed."""
        if time.monotonic() > self.until:
            self.add(part, what, skipped="no time left")
            return
        self.reset()
        try:
            figures = work()
        except torch.OutOfMemoryError:
            figures = {"failed": "out of memory"}
        except Exception as error:  # a card may be at hand only once: the other rows are worth having
            traceback.print_exc()
            figures = {"failed": f"{type(error).__name__}: {error}"[:300]}
        self.add(part, what, **figures)

    def reset(self) -> None:
        """Forget what was compiled and allocated."""
        torch._dynamo.reset()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def seconds(self, work: Callable[[], object], repeats: int | None = None, warm: int = 2) -> float:
        """Median time of a call, until the device is done."""
        for _ in range(warm):
            timed(work, self.device)
        return statistics.median(timed(work, self.device).clock for _ in range(repeats or self.repeats))

    def count(self, name: str, size: tuple[int, int]) -> Future[tuple[int, int]]:
        """Operations of a network for one image, at test and in training."""
        if (name, size) not in self._counted:
            self._counted[name, size] = self._counters.submit(operations, name, size, self.classes)
        return self._counted[name, size]

    def memory(self) -> Row:
        """Peak of the memory that torch allocated, in GiB, since `reset`."""
        if self.device.type != "cuda":
            return {}
        return {"GiB": torch.cuda.max_memory_allocated(self.device) / 2**30}

    def share(self, flops: float, seconds: float) -> Row:
        """Operations a second, and their share of what the card was seen to reach."""
        rate = flops / seconds
        return {"TFLOP/s": rate / 1e12} | ({"share": rate / self.peak_flops} if self.peak_flops else {})

    def machine(self) -> Row:
        """What the figures were taken on."""
        card = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return {
            "device": card,
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "timm")},
            "quick": self.quick,
        }


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
