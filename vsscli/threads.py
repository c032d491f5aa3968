"""Work in several threads, with results in order and a bounded number of them ahead."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 4  # results made or being made per thread

Result = TypeVar("Result")


def results_in_order(jobs: Iterable[Callable[[], Result]], workers: int | None) -> Generator[Result]:
    """Results of `jobs` in their order, with at most `AHEAD` jobs per worker begun and not yet consumed.

    Close it (`contextlib.closing`) if it may be left before its end, so that the threads end too.

    Parameters
    ----------
    jobs
        What to call.
    workers
        Threads; `None`: one per core that this process may use; 1: the caller's own thread.
    """
    workers = workers or cores()
    if workers == 1:
        yield from (job() for job in jobs)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="vss") as pool:
        begun: deque[Future[Result]] = deque()
        try:
            for job in jobs:
                begun.append(pool.submit(job))
                if len(begun) >= AHEAD * workers:
                    yield begun.popleft().result()
            while begun:
                yield begun.popleft().result()
        finally:
            for future in begun:
                future.cancel()


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
