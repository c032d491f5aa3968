"""Processes that load data for another one: signals are that one's to answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = {signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())}
"""Those that reach every process of a terminal or a job: Ctrl-C, and what `timeout`, systemd and SLURM send."""


@contextmanager
def started_in_peace() -> Iterator[None]:
    """Hold back signals while processes start, which inherit that: they would end with a traceback before they can
    choose what to do about them, which `in_peace_no_more` ends."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def in_peace_no_more() -> None:
    """Let a process that was started in peace hear signals, once it has said what each of them is to do."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
