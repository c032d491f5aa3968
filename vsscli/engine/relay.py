"""What work elsewhere reports: messages and progress as plain pairs, passed on to the listener where the user is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from time import monotonic
from typing import Any

from vsscli.talk import Talk

Send = Callable[[str, Any], None]
"""Takes a kind, ``say``, ``warn`` or ``done``, and a text or a number of units."""


EVERY = 0.1
"""Seconds between two reports of progress to another process: a message for each of a thousand frames a second would
cost as much as the frames do."""


class Relay:
    """A listener (`vsscli.talk.Talk`) that sends on all that it is told.

    What is tracked counts towards the progress that the user already sees, so labels and totals are left out. The first
    units are sent at once, further ones together, those of ``every`` seconds at a time.
    """

    def __init__(self, send: Send, every: float = 0.0) -> None:
        self._send, self._every = send, every

    def say(self, text: str) -> None:
        self._send("say", text)

    def warn(self, text: str) -> None:
        self._send("warn", text)

    @contextmanager
    def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
        lock, waiting, sent = Lock(), 0, -self._every

        def done(units: int) -> None:
            nonlocal waiting, sent
            with lock:
                waiting += units
                if monotonic() - sent >= self._every:
                    self._send("done", waiting)
                    waiting, sent = 0, monotonic()

        yield done
        if waiting:
            self._send("done", waiting)


def hearing(talk: Talk, advance: Callable[[int], None]) -> Send:
    """The other end: tells a listener what was sent, each message once, and advances the progress."""
    heard: set[tuple[str, str]] = set()

    def hear(kind: str, value: Any) -> None:
        if kind == "done":
            advance(value)
        elif (kind, value) not in heard:
            heard.add((kind, value))
            (talk.say if kind == "say" else talk.warn)(value)

    return hear
