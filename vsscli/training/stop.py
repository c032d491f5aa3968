"""Stopping in good order."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class StopRequest:
    """Lets a first Ctrl-C or SIGTERM end the step in hand, so that a checkpoint of it can be written.

    A second one is immediate. Leaving the block hands the signals back to whoever handled them before.

    Attributes
    ----------
    number
        The signal that asked to stop, or None.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
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
