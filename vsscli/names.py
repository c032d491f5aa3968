"""What a video, a frame, a split, a data set, a run or a stage may be called.

Each of these becomes a part of a path, in places that nobody looks at before they are written. So there is one rule
for all of them: a name is the name of one file, which leads nowhere and which every program can show.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vsscli.errors import VssError

LONGEST = 250
"""Bytes of a name at most: file systems allow 255, and the longest ending that one gets is ``.json``."""

SHORT = 128
"""The same of runs, stages and data sets, whose names are parts of longer ones."""

RESERVED = ("zarr.json",)
"""What no video can be called, because Zarr keeps its metadata under that name; nor can it begin with ``__``."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NO_TEXT = re.compile("[\ud800-\udfff]")


def name_fault(name: str, longest: int = LONGEST) -> str:
    """Why something can't be called so, as the end of a sentence; empty for a name that is sound.

    Spaces, dots inside, dashes and letters of any script are sound.
    """
    if not name:
        return "is empty"
    if not name.strip("."):
        return "is a way to another folder and no name" if len(name) < 3 else "is dots alone"
    if "/" in name or "\\" in name:
        return "has a slash or backslash, which leads to another folder"
    if _CONTROL.search(name):
        return "has control characters"
    if _NO_TEXT.search(name):
        return "is no text: its bytes are not UTF-8"
    if len(name.encode()) > longest:
        return f"is longer than {longest} bytes"
    return ""


def video_fault(name: str) -> str:
    """The same of a video in a store, where some names are taken."""
    if name in RESERVED or name.startswith("__"):
        return "is reserved in stores"
    return name_fault(name)


def is_name(name: str) -> bool:
    """Whether `name_fault` finds nothing."""
    return not name_fault(name)


def sound_name(name: str) -> str:
    """The name itself, for schemas.

    Raises
    ------
    ValueError
        It is none; says why.
    """
    fault = name_fault(name, SHORT)
    if fault:
        raise ValueError(f"{shown_name(name)} {fault}; it becomes the name of a folder")
    return name


def require_names(names: Iterable[str], what: str, remedy: str) -> None:
    """Refuse names that are none.

    Parameters
    ----------
    names
        Looked at in order.
    what
        What is called so, and where it is said: ``video of train.txt``.
    remedy
        What to do.

    Raises
    ------
    VssError
        For the first that is none.
    """
    for name in names:
        fault = name_fault(name)
        if fault:
            raise VssError(f"{what}: {shown_name(name)} {fault}", remedy)


def plain_name(text: str) -> str:
    """A sound name that is as near as can be to a text that nobody chose as a name, such as that of a folder."""
    clean = _NO_TEXT.sub("_", _CONTROL.sub("_", text)).replace("/", "_").replace("\\", "_").strip(".")
    return clean.encode()[:SHORT].decode(errors="ignore") or "data"


def shown_name(name: str) -> str:
    """A name in quotes as messages show it, short whatever it is."""
    return repr(name if len(name) <= 80 else f"{name[:77]}…")
