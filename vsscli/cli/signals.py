"""Handling of signals, and of streams that were closed or lost their reader."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TextIO, cast

ENDING = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
"""Signals that end a command as Ctrl-C does: sent by schedulers, shutdowns and closed terminals."""

AGAIN = 0.05
"""Seconds until a Ctrl-C is repeated that came while no exception could be raised."""


@contextmanager
def ended_like_interrupted() -> Iterator[None]:
    """Turn signals that end programs into exceptions while the block runs, so that files are closed as after Ctrl-C.

    Signals that are ignored (`nohup`) or handled elsewhere are left alone.
    """
    ours = [number for number in ENDING if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        ours = []
    owner, hook = os.getpid(), sys.unraisablehook

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:
            # A forked worker, ended by its parent: exit as if there were no handler.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        from vsscli.cli.failure import Terminated

        raise Terminated(number)

    def unraisable(lost: Any) -> None:
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            hook(lost)
        elif os.getpid() == owner:  # it came in a finalizer: repeated where it can be raised
            number = getattr(lost.exc_value, "number", signal.SIGINT)
            threading.Timer(AGAIN, os.kill, (owner, number)).start()

    for number in ours:
        signal.signal(number, stop)
    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def end_at_once() -> None:
    """Let signals end the process silently from here on: only the interpreter's shutdown is left."""
    for number in (signal.SIGINT, *ENDING):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, lambda number, frame: os._exit(128 + number))
    sys.unraisablehook = lambda lost: None


def hold_streams() -> None:
    """Open those of the three streams that were closed (``>&-``) to the null device.

    Else the next file would get their number.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


@contextmanager
def unbroken_talk() -> Iterator[None]:
    """Let the work continue when stderr fails: a closed terminal, a pipe to `head`, a full disk."""
    listened = sys.stderr
    sys.stderr = cast("TextIO", _Unbroken(listened))
    try:
        yield
    finally:
        sys.stderr = listened


def drop_output() -> None:
    """Discard buffered output that can't be written, because the reader is gone or the disk is full.

    Without this Python would complain again when it flushes at exit.
    """
    try:
        sys.stdout.flush()
    except OSError:
        _lead_nowhere(sys.stdout)


def _lead_nowhere(stream: TextIO) -> None:
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


class _Unbroken:
    """A stream that swallows errors: from the first one on, output is discarded."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with self._lost():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._lost():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextmanager
    def _lost(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):
            _lead_nowhere(self._stream)
