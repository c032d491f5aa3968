"""The JSON files of a store: limited in size, and sealed with a digest of their values."""

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
"""The attribute of a Zarr group that holds everything vss stores there."""

SEAL = "sha256"
"""Key in a header or a record (from format 4 on) of the digest of all its other values."""


class BrokenSealError(VssError):
    """A header or a record was changed since it was written."""


@contextmanager
def disk(what: str, remedy: str) -> Iterator[None]:
    """Turn an `OSError` into a `VssError` that says what could not be done, and what to do about it."""
    try:
        yield
    except OSError as error:
        raise VssError(f"{what}: {error.strerror or error}", remedy) from error


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_metadata(path: Path, limit: int | None = None) -> Any:
    """Parse a JSON file of a store, of at most ``limit`` bytes (default `MAX_JSON_BYTES`).

    Raises
    ------
    VssError
        The file is missing, too large to be one of ours, or not JSON.
    """
    with disk(f"cannot read {path}", "check the path"):
        size = path.stat().st_size
        if size > (limit or MAX_JSON_BYTES):
            raise VssError(f"{path} holds {size} bytes; a store's metadata is never that large", "remove the store")
        text = path.read_bytes()
    return parse_json(text, str(path), "it is damaged; remove the store and make it again", finite=False)


def read_group(path: Path) -> Any:
    """The vss attribute of a Zarr group; `None` if it has none. Errors as for `read_metadata`."""
    values = read_metadata(path / "zarr.json")
    attributes = values.get("attributes") if isinstance(values, dict) else None
    return attributes.get(ATTRIBUTE) if isinstance(attributes, dict) else None


def group_bytes(values: dict[str, Any]) -> bytes:
    """The ``zarr.json`` of a Zarr v3 group with the vss attribute, sealed."""
    attributes = {ATTRIBUTE: {**values, SEAL: digest_of(values)}}
    return json_bytes({"zarr_format": 3, "node_type": "group", "attributes": attributes})


def require_seal(values: dict[str, Any], where: str) -> None:
    """Refuse a header or a record that was changed since it was written.

    Raises
    ------
    BrokenSealError
        The name of a class, say, or the order of the frames has changed.
    """
    try:
        sealed = values.get(SEAL) == digest_of({name: value for name, value in values.items() if name != SEAL})
    except ValueError:  # an infinite number or half a character, which vss never writes
        sealed = False
    if not sealed:
        raise BrokenSealError(
            f"{where} was changed since it was written: its {SEAL} does not match",
            "remove it and run the command again",
        )


def json_bytes(values: Any) -> bytes:
    """JSON as stores hold it: the same bytes for the same values."""
    text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()
