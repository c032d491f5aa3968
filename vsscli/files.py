"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vsscli.errors import VssError

FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
FRESH |= getattr(os, "O_BINARY", 0)
"""How to open a file that is not there; whatever is, a link too, is an error."""

ROOM = 230
"""Bytes of a file's name that are kept in the name of its unfinished version."""


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
    part = path.with_name(f".{_short(path.name)}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Made here and now: under its name there may lie what a dead process of our number left, or a link that a
        # stranger put there, through which somebody else's file would be written.
        part.unlink(missing_ok=True)
        os.close(os.open(part, FRESH, 0o666))
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
    _clear_dead(sorted(path.parent.glob(f".{glob.escape(_short(path.name))}.*.part")))


def clear_folder(folder: Path, suffix: str) -> None:
    """`clear_parts` for all files of a folder that end so; where there is no such folder, nothing is done."""
    _clear_dead(sorted(folder.glob(f".*{suffix}.*.part")))


def _clear_dead(parts: Sequence[Path]) -> None:
    """Remove what is unfinished and belongs to no process, files and folders; links go by themselves.

    What the disk won't let go stays, and is in nobody's way.
    """
    for part in parts:
        number = part.name.split(".")[-2]
        if not number.isdecimal() or is_running(int(number)):
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
            continue
        with suppress(OSError):
            part.unlink()


def _short(name: str) -> str:
    """A name that leaves room for what stands around it: 255 bytes is all that file systems allow."""
    raw = name.encode(errors="surrogateescape")
    if len(raw) <= ROOM:
        return name
    return f"{raw[: ROOM - 17].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:16]}"


def is_running(process: int) -> bool:
    """Whether there is a process of this number; where that can't be asked without harm, there is."""
    if os.name != "posix":
        return True
    if process == 0:
        return False  # the number stands for our own group, which there always is
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
