"""Writing a file so that it is there in full or not at all."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vsscli.errors import VssError

FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
FRESH |= getattr(os, "O_BINARY", 0)
"""Flags that create a file; anything that exists under its name, even a link, is an error."""

ROOM = 160
"""Bytes of a file's name that are kept in the name of its unfinished version."""

HOST = 64
"""Characters of the machine's name in it."""


@contextmanager
def whole_file(path: Path, what: str = "file", *, sync: bool = True) -> Iterator[Path]:
    """A temporary file in the same folder, which is renamed to the file when the block succeeds.

    The content is synced before the rename, so that not even a power cut leaves half a file under the name. If the
    block fails, the temporary file is removed and the previous file stays. Those that killed processes left are removed
    before, unless ``sync`` is False.

    Parameters
    ----------
    path
        The file to write; its folder is created.
    what
        What to call it in errors.
    sync
        False for many small files that can be made again, where syncing would cost more than writing.

    Raises
    ------
    VssError
        The disk refuses: no space, no permission.
    """
    part = part_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if sync:
            clear_parts(path)
        # Created afresh: its name may belong to a leftover of a dead process with our number, or to a link that a
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
        with suppress(OSError):  # if the folder is a file, for example; the error above says so
            part.unlink(missing_ok=True)


def part_of(path: Path) -> Path:
    """Where this process keeps the unfinished version of a file or folder, beside it.

    The name has machine and process in it: processes of several machines may share a disk, and a number.
    """
    return path.with_name(f".{_short(path.name)}.{_machine()}-{os.getpid()}.part")


def clear_parts(path: Path) -> None:
    """Remove unfinished versions of a file left by processes of this machine that were killed."""
    _clear_dead(sorted(path.parent.glob(f".{glob.escape(_short(path.name))}.*.part")))


def clear_folder(folder: Path, suffix: str) -> None:
    """Do `clear_parts` for every file of a folder with this suffix; the folder may be missing."""
    _clear_dead(sorted(folder.glob(f".*{suffix}.*.part")))


def _clear_dead(parts: Sequence[Path]) -> None:
    """Remove unfinished files and folders whose process is gone; a link is removed, not followed.

    Those of other machines stay, because their processes can't be checked; so does whatever the disk refuses to remove.
    """
    for part in parts:
        machine, _, number = part.name.split(".")[-2].rpartition("-")
        if machine != _machine() or not number.isdecimal() or is_running(int(number)):
            continue
        if part.is_dir() and not part.is_symlink():
            shutil.rmtree(part, ignore_errors=True)
            continue
        with suppress(OSError):
            part.unlink()


def _machine() -> str:
    """This machine's name, spelled so that it fits between two dots."""
    return re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:HOST]


def _short(name: str) -> str:
    """A name short enough to be extended: file systems allow 255 bytes."""
    raw = name.encode(errors="surrogateescape")
    if len(raw) <= ROOM:
        return name
    return f"{raw[: ROOM - 17].decode(errors='ignore')}~{hashlib.sha256(raw).hexdigest()[:16]}"


def is_running(process: int) -> bool:
    """Whether a process of this number runs on this machine; true where that can't be checked harmlessly.

    One that has ended is not running, even if nobody has asked for its exit code: in containers whose first process
    asks for none, killed ones stay in the list for ever.
    """
    if os.name != "posix":
        return True
    if process == 0:
        return False  # 0 stands for our own process group, which always exists
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    try:
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (OSError, IndexError):
        return True  # another system than Linux
    return state not in (b"Z", b"X")


def write_text(path: Path, text: str) -> None:
    """Write a text file, in full or not at all."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8")


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, if the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
