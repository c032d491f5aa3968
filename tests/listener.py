"""A listener that records what the library reports."""

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
