"""JSON of other programs, read and written part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO, Any

from vsscli import jsonparts
from vsscli.errors import VssError
from vsscli.structured import Limits

PART = Limits(2**26, 5_000_000, 32)
"""Of one part: an annotation, an image, a task. Runs of a frame of 4K are some megabytes."""


def json_parts(file: IO[bytes], where: str) -> Iterator[tuple[str, Any]]:
    """The parts of a JSON file, as `vsscli.jsonparts.json_parts` has them.

    Raises
    ------
    VssError
        It is no such JSON, or one of its parts is out of bounds; ``where`` names it.
    """
    try:
        yield from jsonparts.json_parts(file, PART)
    except ValueError as cause:
        raise VssError(f"{where} is not valid JSON: {cause}", "export or copy it again") from cause


def json_text(value: Any) -> bytes:
    """A value as compact JSON in ASCII, for files that are written part by part."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
