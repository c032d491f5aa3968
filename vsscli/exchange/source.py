"""What is read: the files of a folder or a zip, or one file, by their paths; none of a stranger's zip is trusted.

A zip is read where it is and never unpacked to the disk. Names that lead out of it, encrypted or overlapping entries,
and one whose entries claim far more than such files can hold, are refused before anything is inflated; inflating stops
at the bound of each entry.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from vsscli.data.walk import folders_below, visible
from vsscli.errors import VssError
from vsscli.names import name_fault

MOST_ENTRIES = 1_000_000
MOST_BYTES = 2**26
"""Of a file that is read as a whole: a PNG, or labels of one frame."""

GROWTH, SPARE = 200, 2**30
"""A zip may grow to so many times its size, and a gigabyte: masks and XML come to a tenth of that."""

ENCRYPTED = 0x1


class Source:
    """Files of a folder or a zip by their paths (with ``/``), sorted; use `open_source_files`."""

    def __init__(self, path: Path, names: Sequence[str], archive: ZipFile | None = None) -> None:
        self.path = path
        self.names = tuple(names)
        self._archive = archive

    def without(self, names: Collection[str]) -> Source:
        """The same but for some of the files."""
        return Source(self.path, [name for name in self.names if name not in names], self._archive)

    def place(self, name: str) -> Path:
        """What to call a file in an error."""
        return self.path if self.path.is_file() and self._archive is None else self.path / name

    def matching(self, *patterns: str) -> list[str]:
        """The files whose paths, in lower case, match a pattern."""
        return [name for name in self.names if any(fnmatch(name.lower(), pattern) for pattern in patterns)]

    def named(self, name: str) -> str | None:
        """The file of this name that is nearest to the top, whatever the case."""
        found = [path for path in self.names if PurePosixPath(path).name.lower() == name.lower()]
        return min(found, key=lambda path: (path.count("/"), path), default=None)

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """A file, opened for reading from its start.

        Raises
        ------
        VssError
            It can't be read or unpacked, there or while the block reads it.
        """
        try:
            if self._archive is None:
                with self.place(name).open("rb") as file:
                    yield file
            else:
                with self._archive.open(name) as file:
                    yield file
        except (BadZipFile, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError, zlib.error) as cause:
            raise VssError(f"{self.place(name)} can't be unpacked: {cause}", "pack or copy it again") from cause
        except OSError as cause:
            raise VssError(f"{self.place(name)} can't be read: {cause.strerror or cause}", "check the path") from cause

    def read(self, name: str, limit: int = MOST_BYTES) -> bytes:
        """A file's bytes; VssError where it has more than the limit."""
        with self.open(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise VssError(
                f"{self.place(name)} is larger than {limit // 2**20} MB", "check that it is what it should be"
            )
        return data


@contextmanager
def open_source_files(path: Path) -> Iterator[Source]:
    """Open a folder, a zip or a single file.

    Raises
    ------
    VssError
        There is nothing, or it is a zip that can't be read or is not to be trusted.
    """
    if path.is_dir():
        yield Source(path, sorted(_files_below(path)))
        return
    if not path.exists():
        raise VssError(f"{path} is not there", "name a zip, a folder or a file of labels")
    with ExitStack() as stack:
        try:
            head = stack.enter_context(path.open("rb")).read(4)
            if head[:2] != b"PK":
                yield Source(path, [path.name])
                return
            archive = stack.enter_context(ZipFile(path))
        except (BadZipFile, ValueError, NotImplementedError, OverflowError) as cause:
            raise VssError(f"{path} is no zip that can be read: {cause}", "pack or copy it again") from cause
        except OSError as cause:
            raise VssError(f"{path} can't be read: {cause.strerror or cause}", "check the path") from cause
        yield Source(path, sorted(_trusted(archive.infolist(), path)), archive)


def _files_below(folder: Path) -> Iterator[str]:
    for below in folders_below(folder).there:
        for path in visible(folder / below):
            if not path.is_dir():
                yield (below / path.name).as_posix()


def _trusted(infos: Sequence[ZipInfo], path: Path) -> Iterator[str]:
    """The names of a zip's files, hidden ones left out, after a look at what they claim."""
    size = path.stat().st_size
    packed, claimed = sum(info.compress_size for info in infos), sum(info.file_size for info in infos)
    if len(infos) > MOST_ENTRIES or claimed > GROWTH * size + SPARE:
        raise VssError(
            f"{path} ({size} bytes) claims to hold {len(infos)} files of {claimed} bytes together: a zip bomb",
            "unpack it yourself if you trust it, and name the folder",
        )
    if packed > size:
        raise VssError(f"{path}: its entries overlap, as in a zip bomb", "pack it again")
    seen: set[str] = set()
    for info in infos:
        name = info.orig_filename.replace("\\", "/")
        parts = name.removesuffix("/").split("/")
        fault = next(filter(None, map(name_fault, parts)), "")
        if fault or parts[0].endswith(":"):
            raise VssError(f"{path} has an entry {name[:80]!r}, which {fault or 'leads out of it'}", "pack it again")
        if name.endswith("/") or any(part.startswith(".") or part == "__MACOSX" for part in parts):
            continue
        if stat.S_ISLNK(info.external_attr >> 16):
            raise VssError(f"{path} has an entry {name[:80]!r}, which is a symbolic link", "pack it again")
        if info.flag_bits & ENCRYPTED or info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            how = "encrypted" if info.flag_bits & ENCRYPTED else f"packed by method {info.compress_type}"
            raise VssError(f"{path}: {name[:80]} is {how}", "pack it again, stored or deflated")
        if info.orig_filename in seen:
            raise VssError(f"{path} has {name[:80]!r} more than once", "pack it again")
        seen.add(info.orig_filename)
        yield info.filename
