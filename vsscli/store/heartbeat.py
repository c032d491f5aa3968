"""Signs of life of a process that holds locks, so that those of a machine that is gone can be taken over."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from vsscli.errors import VssError

EVERY = 20.0
"""Seconds between two signs of life."""

STILL = 300.0
"""A holder on another machine that gave none for so many seconds is gone: machines that are only slow or out of reach
for a moment keep their locks."""


class Heartbeat:
    """Calls ``beat`` with the name of each lock and its holder from time to time, in a thread, while locks are held."""

    def __init__(self, beat: Callable[[str, dict[str, Any]], None]) -> None:
        self._beat = beat
        self._ended = threading.Event()
        self.held: dict[str, dict[str, Any]] = {}

    def hold(self, name: str, holder: dict[str, Any]) -> None:
        """A lock is held from now on."""
        first = not self.held
        self.held[name] = holder
        if first:
            self._ended = threading.Event()
            threading.Thread(target=self._run, args=(self._ended,), name="vss-heartbeat", daemon=True).start()

    def drop(self, name: str) -> None:
        """A lock is not held any more."""
        if self.held.pop(name, None) is not None and not self.held:
            self._ended.set()

    def _run(self, ended: threading.Event) -> None:
        while not ended.wait(EVERY):
            for name, holder in list(self.held.items()):
                with suppress(OSError, VssError):  # out of reach: the next one may get through
                    self._beat(name, holder)
