"""Signals of processes that work for another process, which alone responds to them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = {signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())}
"""Signals that reach every process of a terminal or a job: Ctrl-C, and those of `timeout`, systemd and SLURM."""


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Block signals while processes start, which inherit this until they call `unblock_signals`: otherwise a signal
    would end them with a traceback before they have installed their handlers."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def unblock_signals() -> None:
    """Unblock signals in a process that was started by `signals_blocked`, once its handlers are installed."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
