"""Stopping in good order."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from types import FrameType
from typing import Any, NoReturn

from vsscli.talk import SILENCE, Talk


class StopRequest:
    """Lets a first Ctrl-C, SIGTERM or SIGHUP end the step in hand, so that a checkpoint of it can be written.

    It is answered at once, and a second one obeyed at once; ``number`` is the signal that asked. Leaving the block
    hands the signals back to whoever handled them before. Those that are ignored stay so: SIGHUP under `nohup`,
    Ctrl-C of what a shell runs in the background.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))

    def __init__(self, talk: Talk = SILENCE) -> None:
        self._talk, self._owner = talk, os.getpid()
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            heard = [number for number in self.SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._ask) for number in heard}
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def obey(self) -> NoReturn:
        """Stop as asked, now that the step is saved; another process may have been asked instead of this one."""
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
        if os.getpid() == self._owner:  # not in a loader process that has been forked just now
            with suppress(RuntimeError):  # it came in the middle of another line
                self._talk.warn("finishing the step, and saving; again to stop now")
