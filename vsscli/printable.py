"""Text of others as it may be shown: names of classes, videos, files and keys must not steer what shows them.

What steers a terminal, ends a line, turns the direction of writing round or takes no room is written as an escape, as
in Python: ``\\x1b``, ``\\n``, ``\\u202e``. It is done where text leaves the program, not where it is made.
"""

from __future__ import annotations

import re
import unicodedata


def printable(text: str) -> str:
    """One line of text with nothing in it that can't be seen."""
    return text if text.isprintable() else "".join(map(_shown, text))


def printable_text(text: str) -> str:
    """The same of several lines, with tabs."""
    return "".join(sign if sign in "\n\t" else _shown(sign) for sign in text)


def printable_message(text: str) -> list[str]:
    """The lines of an error. Its own are indented but for the first; any other line break is part of some name."""
    return [printable(line) for line in re.split(r"\n(?=  )", text.strip("\n"))]


def _shown(sign: str) -> str:
    # Wide spaces and those that don't break are seen, and occur in the names of files.
    return sign if sign.isprintable() or unicodedata.category(sign) == "Zs" else repr(sign)[1:-1]
