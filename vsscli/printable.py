"""Foreign text made safe to show: names of classes, videos, files and keys must not control a terminal.

Characters that control a terminal, end a line, reverse the direction of writing or have no width are written as
escapes, as in Python: ``\\x1b``, ``\\n``, ``\\u202e``. This is done where text leaves the program.
"""

from __future__ import annotations

import re
import unicodedata


def printable(text: str) -> str:
    """One line of text in which every character is visible."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_text(text: str) -> str:
    """The same for several lines, tabs allowed."""
    return "".join(sign if sign in "\n\t" else _shown(sign) for sign in text)


def printable_message(text: str) -> list[str]:
    """The lines of an error. All but the first are indented; any other line break is part of some name."""
    return [printable(line) for line in re.split(r"\n(?=  )", text.strip("\n"))]


def _shown(sign: str) -> str:
    # Wide and non-breaking spaces are visible, and occur in names of files.
    return sign if sign.isprintable() or unicodedata.category(sign) == "Zs" else repr(sign)[1:-1]
