"""JSON too large to be held: the parts of its outermost lists, one after the other.

COCO's and Label Studio's files are one object or list around very many small ones. These are parsed one at a time; what
a part may have at most is bounded, how many there are is not.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import IO, Any

from vsscli.errors import VssError
from vsscli.structured import Limits, parse_json

PART = Limits(2**26, 5_000_000, 32)
"""Of one part: an annotation, an image, a task. Runs of a frame of 4K are some megabytes."""

CHUNK = 2**20
SPACE = " \t\r\n"
INSIDE, OUTSIDE = re.compile(r'["\\]'), re.compile(r'["{}\[\]]')
"""What matters inside of a text, and outside."""


def json_parts(file: IO[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """The parts of a JSON file.

    Parameters
    ----------
    file
        UTF-8, an object or a list.
    where
        What to call it in errors.

    Yields
    ------
    tuple
        Of an object's values that are lists, the key and each of their items; of its others, key and value. Of a list
        an empty key and each item.

    Raises
    ------
    VssError
        It is no such JSON, or one of its parts is out of bounds.
    """
    text = _Text(file)
    try:
        opening = text.next()
        if opening == "[":
            for item in _items(text, where):
                yield "", item
        elif opening == "{":
            yield from _members(text, where)
        else:
            raise ValueError("it begins with neither { nor [")
        if text.peek():
            raise ValueError("something follows its end")
    except (ValueError, UnicodeDecodeError) as cause:
        raise VssError(f"{where} is not valid JSON: {cause}", "export or copy it again") from cause


def _members(text: _Text, where: str) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    if text.peek() == "}":
        text.next()
        return
    while True:
        key = parse_json(text.value(), where, limits=PART)
        if not isinstance(key, str) or key in seen or text.next() != ":":
            raise ValueError(f"key {str(key)[:80]!r} stands twice" if key in seen else "a key is missing")
        seen.add(key)
        if text.peek() == "[":
            text.next()
            for item in _items(text, where):
                yield key, item
        else:
            yield key, parse_json(text.value(), where, limits=PART)
        if _ends(text, "}"):
            return


def _items(text: _Text, where: str) -> Iterator[Any]:
    if text.peek() == "]":
        text.next()
        return
    while True:
        yield parse_json(text.value(), where, limits=PART)
        if _ends(text, "]"):
            return


def _ends(text: _Text, closing: str) -> bool:
    found = text.next()
    if found not in (",", closing):
        raise ValueError(f"where , or {closing} should be is {found!r}" if found else "it ends too soon")
    return found == closing


class _Text:
    """The text of a file, decoded as far as it is needed."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._ended = False

    def peek(self) -> str:
        """The next letter that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in SPACE:
                    return self._text[self._at]
                self._at += 1
            if not self._more():
                return ""

    def next(self) -> str:
        """The same, passed over."""
        found = self.peek()
        self._at += len(found)
        return found

    def value(self) -> str:
        """The text of the next value, passed over."""
        first = self.peek()
        if first not in ('"', "{", "["):
            return self._plain()
        depth, inside, position = 0, False, self._at
        while True:
            end = self._next_mark(position, inside)
            letter = self._text[end]
            if letter == "\\":
                end += 1
            elif letter == '"':
                inside = not inside
            else:
                depth += 1 if letter in "{[" else -1
            position = end + 1
            if not inside and depth == 0:
                found, self._at = self._text[self._at : position], position
                return found

    def _next_mark(self, position: int, inside: bool) -> int:
        """Where the next letter stands that opens or closes something."""
        marks = INSIDE if inside else OUTSIDE
        while True:
            match = marks.search(self._text, position)
            found = len(self._text) if match is None else match.start()
            if match is not None and (match[0] != "\\" or found + 1 < len(self._text)):
                return found
            position = found - self._at
            if len(self._text) - self._at > PART.bytes:
                raise ValueError(f"one of its parts is larger than {PART.bytes // 2**20} MB")
            if not self._more():
                raise ValueError("it ends too soon")
            position += self._at

    def _plain(self) -> str:
        """A number, true, false or null."""
        end = self._at
        while True:
            while end < len(self._text) and self._text[end] not in ",]}" + SPACE:
                end += 1
            if end < len(self._text) or end - self._at > 1000:
                break
            end -= self._at
            if not self._more():
                end += self._at
                break
            end += self._at
        found, self._at = self._text[self._at : end], end
        if not found:
            raise ValueError("it ends too soon" if self._ended else "a value is missing")
        return found

    def _more(self) -> bool:
        """Decode some more behind what is left; False where there is no more."""
        if self._ended:
            return False
        data = self._file.read(CHUNK)
        self._ended = not data
        self._text = self._text[self._at :] + self._decoder.decode(data, final=not data)
        self._at = 0
        return True


def json_text(value: Any) -> bytes:
    """A value as compact JSON in ASCII, for files that are written part by part."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
