"""The one reader of YAML and JSON.

What a file costs to read is bounded before it is paid: bytes, depth, values once aliases are followed, digits of a
number. No key stands twice, no tag names code, no number is infinite unless it may be, and every text can be written
as UTF-8 again. A byte-order mark is no part of a text.
YAML's own half is `vsscli.yamltext`.
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
"""Of a whole number: operations of a run have some twenty, and Python takes its time over thousands."""


@dataclass(frozen=True)
class Limits:
    """What a text may have at most: bytes, values once aliases are followed, and how deep they may be nested."""

    bytes: int
    values: int
    depth: int


WRITTEN = Limits(1_000_000, 100_000, 32)
"""Of what people write."""

RECORDED = Limits(16 * 2**20, 2_000_000, 64)
"""Of what programs write: a video of half a million frames has a record of 10 MB."""

MEND = "mend the file at the place named"


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
        It can't be read, is no such text, or is larger than ``limits``.
    """
    try:
        with path.open("rb") as file:
            # As many bytes at once would take as much memory, however short the file is.
            size = 0
            if file.seekable():  # a pipe is not; and fstat knows no objects of a store at a URL
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
        The file can't be read, or is no JSON within the limits.
    """
    return parse_json(read_text(path, what, limits), f"{what} {path}", hint, limits, finite=finite)


def json_or_none(path: Path) -> Any:
    """What a JSON file of ours says, also numbers that are none; None where there is none that can be read."""
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
        What to do where it is damaged.
    finite
        Whether to refuse NaN and Infinity, which are no JSON, and numbers that a float can't hold.

    Raises
    ------
    VssError
        It is no JSON, has a key twice, or is out of bounds.
    """
    try:
        if len(text) > limits.bytes:
            raise ValueError(f"it is larger than {limits.bytes} bytes")
        text = text.decode("utf-8-sig") if isinstance(text, bytes) else text
        # Before it is parsed: every value but the first stands behind a comma or a bracket.
        if text.count(",") + text.count("[") + text.count("{") > limits.values:
            raise ValueError(f"it holds more than {limits.values} values")
        values = json_decoder(finite=finite).decode(text)
        _check(values, limits.depth, surrogates="\\u" in text)
    except (ValueError, RecursionError) as cause:  # ValueError is also that of damaged UTF-8
        reason = cause if isinstance(cause, ValueError) else "it is nested too deeply"
        raise VssError(f"{source} is no JSON: {reason}", hint) from cause
    return values


def json_decoder(*, finite: bool = True) -> json.JSONDecoder:
    """A decoder that raises `ValueError` for a key that stands twice and for numbers that can't be meant."""

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
            raise ValueError(f"{name} is no number")
        return float(name)

    return json.JSONDecoder(object_pairs_hook=_unique, parse_int=whole, parse_float=fraction, parse_constant=constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON lets a later key replace an earlier one silently; here that is an error."""
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"key {twice[:80]!r} stands twice")
    return values


def _check(values: Any, depth: int, *, surrogates: bool) -> None:
    """Refuse nesting that would overflow whoever walks the values, and halves of characters."""
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
    """One text for equal values: sorted keys, no spaces; `ValueError` where a number must be finite and is not."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=not finite, ensure_ascii=False)


def digest_of(values: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits: what fingerprints and digests are."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


class Absent:
    """What stands for a key that only one of two values has."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = Absent()

Leaf = tuple[tuple[str, ...], Any, Any]


def leaves(
    one: Any, other: Any, *, lists: bool = False, absent: Any = Absent(), path: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Where two nested values differ: the keys that lead there, the value of the one, the value of the other.

    Parameters
    ----------
    one, other
        Plain values.
    lists
        Whether lists of one length are gone into.
    absent
        What a key that is not there counts as.
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
