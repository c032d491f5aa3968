"""The one reader of YAML and JSON.

The cost of reading a file is bounded before it is paid: bytes, depth, values once aliases are followed, digits of a
number. No key occurs twice, no tag names code, no number is infinite unless allowed, and every text can be written as
UTF-8 again. A byte-order mark is not part of a text. The YAML half is in `vsscli.yamltext`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.errors import VssError

MAX_DIGITS = 40
"""Digits of an integer: the operations of a run need some twenty, and Python is slow with thousands."""


@dataclass(frozen=True)
class Limits:
    """The most that a text may contain: bytes, values once aliases are followed, and levels of nesting."""

    bytes: int
    values: int
    depth: int


WRITTEN = Limits(1_000_000, 100_000, 32)
"""For files that people write."""

RECORDED = Limits(16 * 2**20, 2_000_000, 64)
"""For files that programs write: a video of half a million frames has a record of 10 MB."""

MEND = "fix the file at that place"


def read_structured(path: Path, what: str) -> Any:
    """Read a JSON or YAML file, by its suffix.

    Raises
    ------
    VssError
        The file can't be read or parsed, has a key twice, or is out of bounds.
    """
    if path.suffix.lower() == ".json":
        return read_json(path, what, MEND)
    from vsscli.yamltext import parse_yaml

    return parse_yaml(read_text(path, what), f"{what} {path}")


def read_text(path: Path, what: str, limits: Limits = WRITTEN) -> str:
    """The text of a file in UTF-8, without a byte-order mark.

    Raises
    ------
    VssError
        It can't be read, is not UTF-8, or is larger than ``limits``.
    """
    try:
        with path.open("rb") as file:
            # Reading up to the limit at once would allocate that much, however short the file is.
            size = 0
            if file.seekable():  # a pipe is not; and fstat does not work for objects at a URL
                size = file.seek(0, os.SEEK_END)
                file.seek(0)
            raw = file.read(min(limits.bytes, size or limits.bytes) + 1)
    except IsADirectoryError as cause:
        raise VssError(f"{what} {path} is a folder", "name the file in it") from cause
    except OSError as cause:
        raise VssError(
            f"{what} {path} can't be read: {cause.strerror or cause}", "check the path and its permissions"
        ) from cause
    if len(raw) > limits.bytes:
        raise VssError(f"{what} {path} is larger than {limits.bytes // 1_000_000} MB", f"is it a {what}?")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = raw.count(b"\n", 0, cause.start) + 1
        raise VssError(f"{what} {path}:{line}: not UTF-8 text", "save it as UTF-8") from cause


# JSON.


def read_json(path: Path, what: str, hint: str, limits: Limits = RECORDED, *, finite: bool = True) -> Any:
    """Read a JSON file; see `parse_json`.

    Raises
    ------
    VssError
        The file can't be read, or is not JSON within the limits.
    """
    return parse_json(read_text(path, what, limits), f"{what} {path}", hint, limits, finite=finite)


def json_or_none(path: Path) -> Any:
    """The values of a JSON file of ours, NaN allowed; `None` if it is missing or can't be read."""
    try:
        return read_json(path, "note", "", finite=False)
    except VssError:
        return None


def parse_json(
    text: str | bytes, source: str, hint: str = MEND, limits: Limits = RECORDED, *, finite: bool = True
) -> Any:
    """Parse JSON.

    Parameters
    ----------
    text
        What to parse; bytes are UTF-8, with or without a byte-order mark.
    source
        What to call it in errors.
    hint
        Hint for a damaged text.
    finite
        Whether to refuse NaN and Infinity, which are not JSON, and numbers that a float can't hold.

    Raises
    ------
    VssError
        It is not JSON, has a duplicate key, or is out of bounds.
    """
    try:
        if len(text) > limits.bytes:
            raise ValueError(f"it is larger than {limits.bytes} bytes")
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        # Before parsing: every value but the first follows a comma or a bracket.
        if text.count(",") + text.count("[") + text.count("{") > limits.values:
            raise ValueError(f"it holds more than {limits.values} values")
        values = json_decoder(finite=finite).decode(text)
        require_plain(values, limits.depth, surrogates="\\u" in text)
    except (ValueError, RecursionError) as cause:  # ValueError is also that of damaged UTF-8
        reason = cause if isinstance(cause, ValueError) else "it is nested too deeply"
        raise VssError(f"{source} is not valid JSON: {reason}", hint) from cause
    return values


def json_decoder(*, finite: bool = True) -> json.JSONDecoder:
    """A decoder that raises `ValueError` for duplicate keys and for numbers that can't be meant."""

    def whole(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise ValueError(f"a number of {len(digits)} digits, {digits[:20]}…")
        return int(digits)

    def fraction(digits: str) -> float:
        value = float(digits)
        if finite and math.isinf(value):
            raise ValueError(f"the number {digits[:40]} is too large")
        return value

    def constant(name: str) -> float:
        if finite:
            raise ValueError(f"{name} is not a number")
        return float(name)

    return json.JSONDecoder(object_pairs_hook=_unique, parse_int=whole, parse_float=fraction, parse_constant=constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A dict of the pairs; a duplicate key, which JSON lets replace the earlier one silently, is an error."""
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} occurs twice")
    return values


def require_plain(values: Any, depth: int, *, surrogates: bool) -> None:
    """Refuse nesting that would overflow code that walks the values, and if asked halves of ``surrogates``, with a
    `ValueError`."""
    level = [values]
    for _ in range(depth + 1):
        if surrogates:
            for entry in level:
                for text in (entry, *entry) if isinstance(entry, dict) else (entry,):
                    if isinstance(text, str):
                        text.encode()  # raises UnicodeEncodeError, a ValueError
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, dict):
                below.extend(entry.values())
            elif isinstance(entry, list):
                below.extend(entry)
        if not below:
            return
        level = below
    raise ValueError(f"it is nested more than {depth} deep")


def canonical_json(values: Any, *, finite: bool = True) -> str:
    """The same text for equal values: sorted keys, no spaces; `ValueError` for infinite numbers if ``finite``."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=not finite, ensure_ascii=False)


def digest_of(values: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits: used for fingerprints and digests."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


class Absent:
    """Stands for a key that only one of two values has."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = Absent()

Leaf = tuple[tuple[str, ...], Any, Any]


def leaves(
    one: Any, other: Any, *, lists: bool = False, absent: Any = Absent(), path: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """The differences of two nested values: the keys that lead there, the one's value, the other's.

    Parameters
    ----------
    one, other
        Plain values.
    lists
        Whether to compare the items of lists of equal length.
    absent
        Value of a missing key.
    path
        The keys that led to the two values.
    """
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(str(key), one.get(key, absent), other.get(key, absent)) for key in dict.fromkeys([*other, *one])]
    elif lists and isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(number), a, b) for number, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        if one != other:
            yield path, one, other
        return
    for key, a, b in pairs:
        yield from leaves(a, b, lists=lists, absent=absent, path=(*path, key))
