"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vsscli.errors import VssError


@contextmanager
def whole_file(path: Path, what: str = "file", *, sync: bool = True) -> Iterator[Path]:
    """A place to write to in the same folder, which takes the file's name when the block ends well.

    The content is synced before the rename, so that not even a power cut leaves half a file under the name. When the
    block fails the place is removed and what was there before stays.

    Parameters
    ----------
    path
        The file to write; its folder is made.
    what
        What to call it in an error.
    sync
        False for the many small files that can be made again, where syncing would cost more than the writing.

    Raises
    ------
    VssError
        The disk refuses: no space, no permission.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        if sync:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
        if sync:
            sync_folder(path.parent)
    except OSError as cause:
        raise VssError(
            f"{what} {path} can't be written: {cause.strerror or cause}", "free some space, or choose another folder"
        ) from cause
    finally:
        with suppress(OSError):  # where the folder is a file, for example; the error above says so
            part.unlink(missing_ok=True)


def clear_parts(path: Path) -> None:
    """Remove what processes of this machine left that were killed while they wrote this file."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        number = part.name.split(".")[-2]
        if number.isdecimal() and not _is_running(int(number)):
            part.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    """Whether there is a process of this number; where that can't be asked without harm, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
