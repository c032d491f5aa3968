"""Names that videos, frames, splits, data sets, runs and stages may have.

Each of these becomes a part of a path, in places that nobody checks before they are written. So one rule holds for all
of them: a name is the name of a single file, which leads nowhere else and which every program can show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import overload

from vsscli.errors import VssError

LONGEST = 250
"""Most bytes of a name: file systems allow 255, and the longest suffix added is ``.json``."""

SHORT = 128
"""The same for runs, stages and data sets, whose names are parts of longer ones."""

RESERVED = ("zarr.json",)
"""Names that no video can have, because Zarr keeps its metadata there; nor may a name begin with ``__``."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_TEXT = re.compile("[\ud800-\udfff]")


def name_fault(name: str, longest: int = LONGEST) -> str:
    """Why a name is not allowed, as the end of a sentence; empty for a sound name.

    Spaces, dots inside, dashes and letters of any script are allowed.
    """
    if not name:
        return "is empty"
    if not name.strip("."):
        return "is a path to another folder, not a name" if len(name) < 3 else "consists of dots only"
    if "/" in name or "\\" in name:
        return "contains a slash or backslash, which leads to another folder"
    if _CONTROL.search(name):
        return "contains control characters"
    if _NO_TEXT.search(name):
        return "is not text: its bytes are not UTF-8"
    if len(name.encode()) > longest:
        return f"is longer than {longest} bytes"
    return ""


def video_fault(name: str) -> str:
    """The same for a video in a store, where some names are reserved."""
    if name in RESERVED or name.startswith("__"):
        return "is reserved in stores"
    return name_fault(name)


def is_name(name: str) -> bool:
    """Whether `name_fault` finds nothing."""
    return not name_fault(name)


def sound_name(name: str) -> str:
    """Validate a name, for schemas.

    Raises
    ------
    ValueError
        It is not a sound name; says why.
    """
    fault = name_fault(name, SHORT)
    if fault:
        raise ValueError(f"{shown_name(name)} {fault}; it becomes the name of a folder")
    return name


def require_names(names: Iterable[str], what: str, remedy: str) -> None:
    """Refuse names that are not sound.

    Parameters
    ----------
    names
        Checked in order.
    what
        What has that name, and where it stands: ``video of train.txt``.
    remedy
        What to do.

    Raises
    ------
    VssError
        For the first that is not sound.
    """
    for name in names:
        fault = name_fault(name)
        if fault:
            raise VssError(f"{what}: {shown_name(name)} {fault}", remedy)


@overload
def several(given: str | Iterable[str]) -> tuple[str, ...]: ...
@overload
def several(given: str | Path | Iterable[str | Path]) -> tuple[str | Path, ...]: ...
def several(given: str | Path | Iterable[str | Path]) -> tuple[str | Path, ...]:
    """The names or paths in an argument that may also be a single one, which is no sequence of letters."""
    return (given,) if isinstance(given, str | Path) else tuple(given)


def plain_name(text: str) -> str:
    """A sound name as close as possible to a text that was not chosen as a name, such as a folder's."""
    clean = _NO_TEXT.sub("_", _CONTROL.sub("_", text)).replace("/", "_").replace("\\", "_").strip(".")
    return clean.encode()[:SHORT].decode(errors="ignore") or "data"


def shown_name(name: str) -> str:
    """A name as messages show it: quoted, and shortened if it is long."""
    return repr(name if len(name) <= 80 else f"{name[:77]}…")
