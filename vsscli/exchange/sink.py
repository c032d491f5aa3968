"""What is written: files of a folder, entries of a zip, or one file, by the name of ``--out``.

A zip and a single file are there whole or not at all; each file of a folder is. A zip's bytes follow from what is in
it: one date, entries in the order in which they come.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

from vsscli.data.walk import MADE, mark_as_made
from vsscli.errors import VssError
from vsscli.files import whole_file
from vsscli.inside import require_inside
from vsscli.names import require_names

BEFORE_ALL = (1980, 1, 1, 0, 0, 0)
"""The date of every entry, the first that a zip knows."""

PACKED = frozenset({".png", ".mp4", ".jpg"})
"""What deflating would not make smaller."""


class Sink:
    """A place for the files of a format; a context, which ends them well.

    Parameters
    ----------
    out
        A folder; a zip, where it is called so; or the one file of a format that has one.
    single
        Suffix of that one file, where the format has one.
    force
        Whether what is there may be replaced: a file, or files in a folder.
    made
        Whether to mark the folder or zip as made by vss, so that it is not taken for labels of the user's.

    Raises
    ------
    VssError
        Something is there, and is not to be replaced; or the disk refuses.
    """

    def __init__(self, out: Path, *, single: str = "", force: bool = False, made: bool = False) -> None:
        self.out = out
        self._made = made
        self.single = bool(single) and out.suffix.lower() == single
        self._zipped = out.suffix.lower() == ".zip"
        self._stack = ExitStack()
        self._archive: ZipFile | None = None
        self._folders: set[Path] = set()
        self._names: set[str] = set()
        there = out.exists() if self.single or self._zipped else out.is_dir() and any(out.iterdir())
        if there and not force:
            raise VssError(f"{out} is there already", "give another --out, or --force to replace what is in the way")
        if out.is_dir() if self.single or self._zipped else out.is_file():
            raise VssError(f"--out {out} is a {'folder' if out.is_dir() else 'file'}", "give another --out")

    def __enter__(self) -> Sink:
        self._stack.__enter__()
        if self._zipped:
            part = self._stack.enter_context(whole_file(self.out, "zip"))
            self._archive = self._stack.enter_context(ZipFile(part, "w", ZIP_DEFLATED))
            if self._made:
                self._archive.comment = MADE.encode()
        elif self._made and not self.single:
            mark_as_made(self.out)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)

    def write(self, name: str, data: bytes) -> None:
        """Write a file as a whole; ``name`` is its path, with ``/``."""
        with self._writing(name) as file:
            file.write(data)

    def scratch(self) -> IO[bytes]:
        """A file without a name for what is gathered while frames come, gone when the sink is left."""
        return self._stack.enter_context(tempfile.TemporaryFile())

    def gather(self, name: str, *pieces: bytes | IO[bytes]) -> None:
        """Write a file out of pieces, texts and scratch files, one behind the other."""
        with self._writing(name) as file:
            for piece in pieces:
                if isinstance(piece, bytes):
                    file.write(piece)
                else:
                    piece.seek(0)
                    shutil.copyfileobj(piece, file, 2**20)

    def path(self, name: str) -> Path:
        """Where a file of a folder goes, or the single file."""
        if self.single:
            return self.out
        require_names(name.split("/"), f"file {name} in {self.out}", "rename the video or frame")
        path = self.out / name
        if path.parent not in self._folders:
            require_inside(self.out, path.parent)
            self._folders.add(path.parent)
        return path

    @contextmanager
    def _writing(self, name: str) -> Iterator[IO[bytes]]:
        if name in self._names:  # in formats that join names, a/b_1 and a_b/1 are one
            raise VssError(f"{self.out} would hold {name} of two frames", "rename the video of one of them")
        self._names.add(name)
        if self._archive is None:
            with whole_file(self.path(name), sync=self.single) as part, part.open("wb") as file:
                yield file
            return
        info = ZipInfo(name, BEFORE_ALL)
        info.compress_type = ZIP_STORED if Path(name).suffix.lower() in PACKED else ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        with self._archive.open(info, "w", force_zip64=True) as entry:
            yield entry
