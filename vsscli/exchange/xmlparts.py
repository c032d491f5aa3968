"""XML too large to be held: the elements below its root, one after the other.

Read by expat, with nothing that a document could declare: a document type, which is where entities come from that grow
to gigabytes or name files, is refused, and what an element may hold is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any
from xml.parsers import expat

from vsscli.errors import VssError

CHUNK = 2**16
DEEPEST = 32
LONGEST = 2**26
"""Bytes of a name, text or attribute: the runs of a mask of 4K are some megabytes."""
MOST_ELEMENTS = 1_000_000
"""Of one element below the root: an image's shapes, or all frames of a track."""


@dataclass
class Element:
    """A name, attributes, the text in it, and the elements in it."""

    name: str
    attributes: dict[str, str]
    text: str = ""
    inner: list[Element] = field(default_factory=list)

    def get(self, key: str, default: str = "") -> str:
        """An attribute."""
        return self.attributes.get(key, default)

    def all(self, name: str) -> Iterator[Element]:
        """All elements of a name in it, at any depth."""
        for element in self.inner:
            if element.name == name:
                yield element
            yield from element.all(name)

    def text_of(self, name: str) -> str:
        """The text of the first element of a name in it, empty where there is none."""
        return next((element.text.strip() for element in self.all(name)), "")


def xml_parts(file: IO[bytes], where: str, root: str) -> Iterator[Element]:
    """The elements right below the root of an XML file.

    Raises
    ------
    VssError
        It is no XML, declares a document type, has another root, or is out of bounds.
    """
    reader = _Reader(root)
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = reader.refuse
    parser.EntityDeclHandler = reader.refuse
    try:
        while chunk := file.read(CHUNK):
            reader.silent += len(chunk)
            parser.Parse(chunk, False)
            if reader.silent > LONGEST:
                raise ValueError(f"one of its texts is longer than {LONGEST // 2**20} MB")
            yield from reader.take()
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as cause:  # the last of an encoding that nobody knows
        raise VssError(f"{where} is no XML that can be read: {cause}", "export it again") from cause
    yield from reader.take()


class _Reader:
    """Builds elements out of what expat reports."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._open: list[Element] = []
        self._done: list[Element] = []
        self._count = 0
        self.silent = 0  # bytes since the last event

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.silent = 0
        element = Element(name, attributes)
        if not self._open and name != self._root:
            raise ValueError(f"its root is <{name[:40]}>, not <{self._root}>")
        if len(self._open) > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        if len(self._open) > 1:
            self._open[-1].inner.append(element)
        self._count = 0 if len(self._open) <= 1 else self._count + 1
        if self._count > MOST_ELEMENTS:
            raise ValueError(f"<{self._open[1].name}> holds more than {MOST_ELEMENTS} elements")
        self._open.append(element)

    def end(self, name: str) -> None:
        self.silent = 0
        element = self._open.pop()
        if len(self._open) == 1:
            self._done.append(element)

    def data(self, text: str) -> None:
        if len(self._open) > 1 and text.strip():
            self._open[-1].text += text

    def refuse(self, *declared: Any) -> None:
        raise ValueError("it declares a document type or entities, which such files don't need and bombs are made of")

    def take(self) -> list[Element]:
        done, self._done = self._done, []
        return done
