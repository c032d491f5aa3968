"""How library code speaks while it works: a protocol, and the silent listener.

The library never prints. Functions that take long or decide something worth knowing accept a ``talk``; the command
line passes a console, a Python user passes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Talk(Protocol):
    """What a listener must offer."""

    def say(self, text: str) -> None:
        """Tell one fact, one line."""
        ...

    def warn(self, text: str) -> None:
        """Tell what will not be as the user may expect."""
        ...

    def track(self, label: str, total: int, unit: str = "frame") -> AbstractContextManager[Callable[[int], None]]:
        """Follow long work: the value entered is called with the number of units just done."""
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
