"""Stopping after the current step."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from vsscli.engine.signals import SIGNALS
from vsscli.talk import SILENCE, Talk


class StopRequest:
    """Lets the current step finish after a first Ctrl-C, SIGTERM or SIGHUP, so that a checkpoint can be written.

    The request is acknowledged at once, and a second one stops at once; ``number`` is the signal received. Leaving the
    block restores the previous handlers. Ignored signals stay ignored: SIGHUP under `nohup`, Ctrl-C in a shell's
    background jobs.
    """

    def __init__(self, talk: Talk = SILENCE) -> None:
        self._talk, self._owner = talk, os.getpid()
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            handled = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._ask) for number in handled}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def obey(self) -> NoReturn:
        """Stop, now that the step is saved; another process may have received the signal instead of this one."""
        self._restore()
        if self.number is not None:
            signal.raise_signal(self.number)
        raise KeyboardInterrupt

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.obey()
        self.number = number
        if os.getpid() == self._owner:  # not in a loader process that was just forked
            with suppress(RuntimeError):  # it interrupted another write
                self._talk.warn("finishing the step and saving; repeat to stop now")
