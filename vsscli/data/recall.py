"""Expensive results about files, remembered between runs in the user's cache folder.

The folder is ``VSS_CACHE`` if that is set, otherwise the system's cache folder (``~/.cache/vsscli`` on Linux). It may
be removed at any time. If it can't be written, nothing is remembered.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import platformdirs

from vsscli.errors import VssError
from vsscli.files import whole_file

LARGEST = 2**26
"""Most bytes of a file of remembered arrays."""


def cache_folder() -> Path:
    """The cache folder; it need not exist."""
    return Path(os.path.expanduser(os.environ.get("VSS_CACHE") or platformdirs.user_cache_dir("vsscli")))


def recall(path: Path, what: str) -> dict[str, np.ndarray] | None:
    """The arrays that were remembered about a file under a name; `None` if there are none or the file has changed."""
    with suppress(OSError, ValueError, EOFError, BadZipFile, KeyError):
        place = _place(path, what)
        if place.stat().st_size <= LARGEST:
            with np.load(place, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    return None


def remember(path: Path, what: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Remember arrays about a file; failing to do so is not an error."""
    with suppress(OSError, VssError), whole_file(_place(path, what), sync=False) as part, part.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def identity(path: Path) -> str:
    """A name for the state of a file, 32 hexadecimal digits, which changes when the file does.

    Raises
    ------
    OSError
        The file does not exist, or may not be looked at.
    """
    status = path.stat()
    state = (os.path.abspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return hashlib.sha256(repr(state).encode()).hexdigest()[:32]


def _place(path: Path, what: str) -> Path:
    return cache_folder() / what / f"{identity(path)}.npz"
