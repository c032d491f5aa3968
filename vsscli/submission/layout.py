"""The layout of a submission: names of entries, and values of pixels.

No server's layout is public. Public code of the field writes ``<video>/<stem>.png`` with the class index, 0 to C - 1,
at the size of the frame (VSS-CFFM, VSPW's own scripts, DVIS, UniVS); the options are for servers that differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import numpy as np

from vsscli.data.videos import Frame
from vsscli.errors import VssError

DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Layout:
    """Names and values of a submission; made with `for_classes`.

    ``offset`` is the value of class 0, which the others follow; ``prefix`` the folder in the zip that holds the videos'
    folders, empty for the top level.
    """

    num_classes: int
    offset: int = 0
    prefix: str = ""

    @classmethod
    def for_classes(cls, num_classes: int, offset: int = 0, prefix: str = "") -> Self:
        """The layout for a number of classes and the user's options."""
        if not 0 <= offset <= 256 - num_classes:
            raise VssError(
                f"{num_classes} classes from value {offset} on need values up to {num_classes - 1 + offset}; "
                "8 bits allow 0..255",
                f"give a --label-offset from 0 to {256 - num_classes}",
            )
        plain = prefix.removesuffix("/")
        fault = entry_fault(plain) if prefix else ""
        if fault:
            raise VssError(f"prefix {prefix!r} {fault}", "name a folder, like `--prefix result_submission`")
        return cls(num_classes, offset, plain)

    @property
    def last(self) -> int:
        """Value of the last class."""
        return self.offset + self.num_classes - 1

    def entry(self, frame: Frame) -> str:
        """Name of a frame's entry."""
        name = f"{frame.video}/{frame.stem}.png"
        return f"{self.prefix}/{name}" if self.prefix else name

    def foreign(self, values: np.ndarray) -> list[int]:
        """The values that occur but are not a class; ``values`` (256,) counts pixels by value."""
        outside = values > 0
        outside[self.offset : self.last + 1] = False
        return np.flatnonzero(outside).tolist()


def entry_fault(name: str) -> str:
    """What is dangerous or ambiguous in the name of a zip's entry; empty for a plain relative path.

    Unpacked carelessly, such an entry is written outside the folder, or over another entry.
    """
    parts = name.split("/")
    if not name or name.startswith(("/", "\\")) or DRIVE.match(name):
        return "is an absolute path" if name else "is empty"
    if ".." in name.replace("\\", "/").split("/"):
        return "leads out of the folder it is unpacked in"
    if "\\" in name:
        return "contains a backslash, which some systems treat as a folder separator"
    if "" in parts or "." in parts:
        return "is not a plain path: a part of it is empty or a dot"
    if not name.isprintable():  # file systems allow any bytes, even if they are not text
        return "contains unprintable characters"
    return ""
