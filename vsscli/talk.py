"""How library code reports while it works: a protocol, and a listener that ignores everything.

The library never prints. Functions that take long, or decide something worth knowing, accept a ``talk``; the command
line passes a console, a Python user need not pass anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Talk(Protocol):
    """A listener."""

    def say(self, text: str) -> None:
        """Report a fact, in one line."""
        ...

    def warn(self, text: str) -> None:
        """Report what may surprise the user."""
        ...

    def track(self, label: str, total: int, unit: str = "frame") -> AbstractContextManager[Callable[[int], None]]:
        """Follow long work: the context's value is called with the number of units just done."""
        ...


class Silence:
    """A listener that ignores everything."""

    def say(self, text: str) -> None:
        pass

    def warn(self, text: str) -> None:
        pass

    @contextmanager
    def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
        yield lambda done: None


SILENCE = Silence()
