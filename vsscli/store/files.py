"""Files that are either whole or not there: size-limited JSON, synced writes, atomic replacement."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.files import sync_folder
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


def sync_file(path: Path) -> None:
    """Have the bytes of a file on the disk before going on."""
    # Read-write, because some systems refuse to sync a handle that could not have written.
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def json_bytes(values: Any) -> bytes:
    """JSON as it stands in a file of ours, the same bytes for the same values."""
    text = json.dumps(values, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return f"{text}\n".encode()


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file and sync it. The caller renames."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def make_folders(path: Path) -> None:
    """Make a folder and those above it, each one's name synced."""
    if path.is_dir():
        return
    make_folders(path.parent)
    path.mkdir(exist_ok=True)
    sync_folder(path.parent)


def move_file(source: Path, target: Path) -> None:
    """Put a synced file at its final place in one step, over what is there."""
    make_folders(target.parent)
    os.replace(source, target)
    sync_folder(target.parent)


def move_folder(source: Path, target: Path) -> None:
    """Put a finished folder at its final place in one step.

    Raises
    ------
    OSError
        Something is there already.
    """
    for folder, _, names in os.walk(source):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))
    make_folders(target.parent)
    os.rename(source, target)
    sync_folder(target.parent)
