"""Processes of one group, each forked from a process that has imported torch already: starting takes no seconds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from typing import Any

import torch.multiprocessing


def fork_server() -> ForkServerContext:
    """The server of this process, which has no threads and so forks safely."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["store_crashes", "vsscli.models.build", "vsscli.training.bank"])
    return context


def run_ranks(work: Callable[..., None], world: int, *arguments: Any) -> None:
    """Call ``work(rank, *arguments)`` in so many processes at a time, until all have ended; raise what one raised."""
    fork_server()
    torch.multiprocessing.start_processes(work, arguments, nprocs=world, start_method="forkserver")
