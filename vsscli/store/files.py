"""JSON of ours: one text for equal values, digests, and files of it that may have so many bytes and no more."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.structured import RECORDED, parse_json

MAX_JSON_BYTES = RECORDED.bytes


def canonical_json(values: Any) -> str:
    """One text for equal values: sorted keys, no spaces, no NaN. What fingerprints and digests are taken of."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def digest_of(values: Any) -> str:
    """SHA-256 of the canonical JSON, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(values).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, limit: int | None = None) -> Any:
    """Parse a JSON file of ours; ``limit`` is how many bytes it may have, `MAX_JSON_BYTES` if none is given.

    Raises
    ------
    VssError
        The file is not there, too large to be ours, or no JSON.
    """
    try:
        size = path.stat().st_size
        if size > (limit or MAX_JSON_BYTES):
            raise VssError(f"{path} holds {size} bytes; metadata of a store never comes near that", "remove the store")
        text = path.read_bytes()
    except OSError as error:
        raise VssError(f"cannot read {path}: {error.strerror or error}", "check the path") from error
    return parse_json(text, str(path), "it is damaged; remove the store and make it again", finite=False)


def bytes_digest(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def json_bytes(values: Any) -> bytes:
    """JSON as it stands in a file of ours, the same bytes for the same values."""
    text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()
