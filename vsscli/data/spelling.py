"""One name in two spellings: Unicode has an é of one character and an é of two, and they look alike.

macOS, archives and editors differ in which they write (NFC or NFD), so a list, a folder and a prediction of one video
can be called differently for a program. Names stay as they are found; where two are to meet, they meet by `plain`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def plain(name: str) -> str:
    """A name's composed form (NFC), by which two spellings of it are one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def respelled(names: Iterable[str]) -> dict[str, str]:
    """For the composed form of each name, the name. Of two that are alike the first one stays."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(plain(name), name)
    return found


def spelled(name: str) -> str:
    """A name with how it is spelled, for an error about two that look alike."""
    if name.isascii():
        return name
    composed = unicodedata.is_normalized("NFC", name)
    return f"{name} ({'NFC' if composed else 'NFD' if unicodedata.is_normalized('NFD', name) else 'mixed'})"
