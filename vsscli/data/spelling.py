"""Two Unicode forms of one name: an é may be one character or two that look the same.

macOS, archives and editors differ in which form they write (NFC or NFD), so the names of a video in a list, in a folder
and in a prediction may differ to a program. Names are kept as they are found, and compared by `composed`.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def composed(name: str) -> str:
    """A name's composed form (NFC), in which all forms of it are equal."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def respelled(names: Iterable[str]) -> dict[str, str]:
    """Names by their composed forms; the first one if two are equal."""
    found: dict[str, str] = {}
    for name in names:
        found.setdefault(composed(name), name)
    return found


def spelled(name: str) -> str:
    """A name with its Unicode form, for errors about two names that look the same."""
    if name.isascii():
        return name
    is_nfc = unicodedata.is_normalized("NFC", name)
    return f"{name} ({'NFC' if is_nfc else 'NFD' if unicodedata.is_normalized('NFD', name) else 'mixed'})"
