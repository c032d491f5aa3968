"""Listeners that record what the library reports."""

from __future__ import annotations

from vsscli.talk import Silence


class Listener(Silence):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


class Counting(Listener):
    """Counts the progress."""

    done = 0

    def track(self, label: str, total: int, unit: str = "frame") -> Counting:  # type: ignore[override]
        self.total = total
        return self

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, done: int) -> None:
        self.done += done
