"""The piece of work that this process does for an engine that repeats it if the process dies.

The engine begins again only when it knows that the process or its machine is gone. So whoever does the same piece again
knows that an earlier attempt has ended, and may take over what it held (`vsscli.store.work`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_piece = ""


@contextmanager
def attempt(piece: str) -> Iterator[None]:
    """Work on a piece, named alike in every attempt and unlike all other work, while the block runs."""
    global _piece
    before, _piece = _piece, piece
    try:
        yield
    finally:
        _piece = before


def piece_in_hand() -> str:
    """The piece of work that this process attempts; empty if its work is not repeated."""
    return _piece
