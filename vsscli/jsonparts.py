"""JSON too large to be held: the parts of its outermost lists, one after the other.

The files of COCO and Label Studio are one object or list around very many small ones. These are parsed one at a time;
what a part may have at most is bounded, how many there are is not.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from vsscli.structured import Limits, json_decoder, require_plain

CHUNK = 2**20
LONGEST_WORD = 16
"""More characters than a name such as ``false``, or an escape in a text, has."""

SPACE = " \t\r\n"
BEHIND = SPACE + ",:]}"
"""What may follow a value; where the text read so far ends, a number may go on."""


def json_parts(file: IO[bytes], limits: Limits) -> Iterator[tuple[str, Any]]:
    """The parts of a JSON file.

    Parameters
    ----------
    file
        UTF-8, an object or a list.
    limits
        Of one part; its length is counted in characters.

    Yields
    ------
    tuple
        Of an object's values that are lists, the key and each of their items; of its others, key and value. Of a list
        an empty key and each item.

    Raises
    ------
    ValueError
        It is no such JSON, or one of its parts is out of bounds.
    """
    text = _Text(file, limits)
    if text.expect("{[") == "[":
        for item in _items(text):
            yield "", item
    else:
        yield from _members(text)
    if text.peek():
        raise ValueError("something follows its end")


def _members(text: _Text) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    closed = text.take("}")
    while not closed:
        key = text.value()
        if not isinstance(key, str) or key in seen:
            raise ValueError(f"key {str(key)[:80]!r} " + ("occurs twice" if key in seen else "is not a text"))
        seen.add(key)
        text.expect(":")
        if text.take("["):
            for item in _items(text):
                yield key, item
        else:
            yield key, text.value()
        closed = text.expect(",}") == "}"


def _items(text: _Text) -> Iterator[Any]:
    closed = text.take("]")
    while not closed:
        yield text.value()
        closed = text.expect(",]") == "]"


class _Text:
    """The text of a file, of which only a piece is in memory."""

    def __init__(self, file: IO[bytes], limits: Limits) -> None:
        self._file, self._limits = file, limits
        self._letters, self._values = codecs.getincrementaldecoder("utf-8-sig")(), json_decoder()
        self._held, self._at, self._ended = "", 0, False

    def peek(self) -> str:
        """The next character that is not a space, without consuming it; empty at the end of the file."""
        while True:
            while self._at < len(self._held) and self._held[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._held) or self._ended:
                return self._held[self._at : self._at + 1]
            self._read()

    def take(self, character: str) -> bool:
        """Consume the next character if it is this one."""
        found = self.peek() == character
        self._at += found
        return found

    def expect(self, characters: str) -> str:
        """Consume the next character, which must be one of these."""
        found = self.peek()
        if not found or found not in characters:
            raise ValueError(f"expected {' or '.join(characters)}, found {found or 'the end of the file'}")
        self._at += 1
        return found

    def value(self) -> Any:
        """Consume the next value."""
        self.peek()
        while True:
            try:
                value, end = self._values.raw_decode(self._held, self._at)
            except json.JSONDecodeError as cause:
                goes_on = cause.pos + LONGEST_WORD > len(self._held) or cause.msg.startswith("Unterminated string")
                if self._ended or not goes_on:
                    near = self._held[cause.pos : cause.pos + 40]
                    raise ValueError(f"{cause.msg}, {f'at {near!r}' if near else 'at its end'}") from None
            except RecursionError:
                raise ValueError("it is nested too deeply") from None
            else:
                if self._ended or self._held[end : end + 1] in {*BEHIND}:
                    require_plain(value, self._limits.depth, surrogates=self._held.find("\\u", self._at, end) >= 0)
                    self._at = end
                    return value
            self._read()

    def _read(self) -> None:
        """Read on, twice as much as there is of a value that goes on."""
        left = len(self._held) - self._at
        if left > self._limits.bytes:
            raise ValueError(f"it has a value of more than {self._limits.bytes} characters")
        data = self._file.read(max(CHUNK, left))
        self._held = self._held[self._at :] + self._letters.decode(data, final=not data)
        self._at, self._ended = 0, not data
        # Before parsing: every value but the first follows a comma or a bracket.
        if sum(map(self._held.count, ",[{")) > self._limits.values:
            raise ValueError(f"one of its values holds more than {self._limits.values} others")
