"""JSON files of ours: sealed with a digest of what they say, and of so many bytes and no more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.structured import RECORDED, digest_of, parse_json

MAX_JSON_BYTES = RECORDED.bytes

ATTRIBUTE = "vss"
"""The one attribute of a group that holds everything of ours."""

SEAL = "sha256"
"""Key of a header or a record (from format 4 on): the digest of all its other values."""


class BrokenSealError(VssError):
    """A header or a record does not say what was written."""


@contextmanager
def disk(what: str, remedy: str) -> Iterator[None]:
    """Turn what the disk refuses into an error that says what could not be done, and what to do."""
    try:
        yield
    except OSError as error:
        raise VssError(f"{what}: {error.strerror or error}", remedy) from error


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
    with disk(f"cannot read {path}", "check the path"):
        size = path.stat().st_size
        if size > (limit or MAX_JSON_BYTES):
            raise VssError(f"{path} holds {size} bytes; metadata of a store never comes near that", "remove the store")
        text = path.read_bytes()
    return parse_json(text, str(path), "it is damaged; remove the store and make it again", finite=False)


def read_group(path: Path) -> Any:
    """Our attribute of a Zarr group; None where it has none. Errors as of `read_json`."""
    values = read_json(path / "zarr.json")
    attributes = values.get("attributes") if isinstance(values, dict) else None
    return attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None


def group_bytes(values: dict[str, Any]) -> bytes:
    """The ``zarr.json`` of a Zarr v3 group with our attribute, sealed."""
    attributes = {ATTRIBUTE: {**values, SEAL: digest_of(values)}}
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def require_seal(values: dict[str, Any], where: str) -> None:
    """Refuse a header or a record in which something was changed since it was written.

    Raises
    ------
    BrokenSealError
        A name of a class, say, or the order of the frames.
    """
    try:
        sealed = values.get(SEAL) == digest_of({name: value for name, value in values.items() if name != SEAL})
    except ValueError:  # an infinite number, half a character: nothing that was ever written
        sealed = False
    if not sealed:
        raise BrokenSealError(
            f"{where} does not say what was written: its {SEAL} is another", "remove it and run the command again"
        )


def json_bytes(values: Any) -> bytes:
    """JSON as it stands in a file of ours, the same bytes for the same values."""
    text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()
