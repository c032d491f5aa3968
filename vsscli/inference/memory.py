"""Memory of a network: keeping what is freed in the process on a CPU, and noticing that there is no more."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

import torch

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
OWN_SETTINGS = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES", "LD_PRELOAD")


@lru_cache
def keep_freed_memory() -> bool:
    """Make the allocator keep memory that a network frees for its next layer instead of returning it to the system;
    returns whether it took effect.

    A network on a CPU frees and allocates the same large blocks over and over. By default glibc returns each to the
    system, which provides zeroed pages again one by one: over a million page faults for eight frames of sixteen views,
    a third of the time of the forward passes (docs/results.md). With this, up to 2 GiB stay with the process; its peak
    does not change. Nothing is done if the user has chosen another allocator or set glibc's variables, or without
    glibc. Results do not depend on it.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in OWN_SETTINGS):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    largest = 2**31 - 1  # of an int
    settings = {M_MMAP_THRESHOLD: largest, M_TRIM_THRESHOLD: largest, M_TOP_PAD: 64 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the memory of an accelerator or of the machine was exhausted."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Plain errors of a CPU, "DefaultCPUAllocator: can't allocate memory: ...", and of cuBLAS.
    signs = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)


def release_cached(device: torch.device) -> None:
    """Return what torch keeps of a GPU's freed memory, so that blocks of another size fit."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
