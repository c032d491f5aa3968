"""Stores at a URL: ``s3://``, ``gs://``, ``memory://`` and whatever else fsspec opens.

An object appears whole or not at all, and none can be renamed. So the objects of a segment are put in place, then the
record that lists them: a writer that is killed loses at most the segment it was writing, as on a disk.
A lock is an object that is created only if there is none. Where a store can't do that, two processes that begin the
same video at the same instant may both write it: one of them notices before it records anything more.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any, cast

from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.store.heartbeat import Heartbeat
from vsscli.store.work import WorkFolder, read_holder, this_process

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"([a-z][a-z0-9+.-]+):/+(.*)", re.DOTALL)


def place_of(path: str | Path) -> Path:
    """A path, or for a URL a `RemotePath`, which offers the part of `Path` that stores use.

    A URL may come as a `Path`, which has collapsed its two slashes. ``.`` and ``..`` are resolved, because the files
    beside a store are named after it.

    Raises
    ------
    VssError
        fsspec does not know the kind of URL, or lacks a package for it.
    """
    if is_remote(path):
        return cast("Path", path)
    match = URL.fullmatch(str(path)) if os.name != "nt" or "://" in str(path) else None
    if match is None:
        place = Path(path)
        return place if place.name not in ("", "..") else Path(os.path.abspath(place))
    kind, key = match[1], match[2].rstrip("/")
    if kind in ("file", "local"):
        return place_of(f"/{key.removeprefix('localhost/')}")  # a disk of this machine, where files can be renamed
    if not key or ".." in PurePosixPath(key).parts:
        raise VssError(f"{path} does not name a store", f"give one such as {kind}://bucket/folder/a.zarr")
    import fsspec

    try:
        fsspec.filesystem(kind)
    except Exception as error:  # each kind has its own way of saying what it lacks
        raise VssError(
            f"{path} can't be opened: {_reason(error)}", f"install and set up what fsspec needs for {kind}://"
        ) from error
    return cast("Path", RemotePath(f"{kind}:", key))


def is_remote(path: object) -> bool:
    """Whether a store is at a URL. To the type checker its place is a `Path` like any other."""
    return isinstance(path, RemotePath)


def put_text(path: Path, text: str) -> None:
    """Write a text file atomically, on the disk or at a URL."""
    if is_remote(path):
        path.write_bytes(text.encode())
    else:
        write_text(path, text)


def beside(store: str | Path, ending: str) -> Path:
    """The place beside a store that has its name with another ending instead of ``.zarr``."""
    place = place_of(store)
    return place.with_name(place.name.removesuffix(".zarr") + ending)


def relative_address(path: Path, out: Path) -> str:
    """The path of a store relative to the folder of another, so that both can be moved together."""
    if is_remote(path) or URL.fullmatch(str(out)):
        return path.absolute().as_posix()
    try:
        return Path(os.path.relpath(path.absolute(), out.absolute().parent)).as_posix()
    except ValueError:  # another drive
        return path.absolute().as_posix()


class RemotePath(PurePosixPath):
    """A place in an object store, with the part of `pathlib.Path` that stores use; its first part is the kind of URL.

    universal_pathlib would save only ten of these lines: if a store does not answer, its `exists`, `is_file`,
    `iterdir`, `rglob` and `unlink` report that nothing is there, so all of these would have to be overridden.
    """

    def __str__(self) -> str:
        return f"{self.parts[0]}//{self._key}"

    @property
    def _key(self) -> str:
        return "/".join(self.parts[1:])

    @property
    def _files(self) -> AbstractFileSystem:
        import fsspec

        # fsspec keeps these, but may not keep listings: other processes write into the same store.
        return fsspec.filesystem(self.parts[0].removesuffix(":"), use_listings_cache=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.parts[0] == "memory:":
            raise TypeError(f"{self} is in the memory of this process only")
        return type(self), self.parts

    def absolute(self) -> RemotePath:
        return self

    def exists(self) -> bool:
        return self._kind() != ""

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_symlink(self) -> bool:
        return False

    def _kind(self) -> str:
        with _reached(self):
            try:
                return str(self._files.info(self._key)["type"])
            except (FileNotFoundError, NotADirectoryError):
                return ""

    def iterdir(self) -> Iterator[RemotePath]:
        if self.is_dir():
            with _reached(self):
                keys = list(self._files.ls(self._key, detail=False))
            for key in keys:
                yield self / PurePosixPath(key).name

    def rglob(self, pattern: str) -> Iterator[RemotePath]:
        """All objects below; ``pattern`` is ``*``."""
        with _reached(self):
            keys = list(self._files.find(self._key))
        for key in keys:
            yield RemotePath(self.parts[0], key.lstrip("/"))

    def stat(self) -> SimpleNamespace:
        with _reached(self):
            return SimpleNamespace(st_size=int(self._files.size(self._key) or 0))

    def open(self, mode: str = "rb") -> IO[bytes]:
        # No read-ahead: it would fetch frames that nobody asked for.
        with _reached(self):
            return cast("IO[bytes]", _Opened(self._files.open(self._key, mode, cache_type="none"), self))

    def read_bytes(self) -> bytes:
        with _reached(self):
            return bytes(self._files.cat_file(self._key))

    def write_bytes(self, data: bytes) -> None:
        with _reached(self):
            self._files.pipe_file(self._key, data)

    def create(self, data: bytes) -> bool:
        """Write an object that does not exist; `False` if it does."""
        try:
            with _reached(self):
                try:
                    self._files.pipe_file(self._key, data, mode="create")
                except FileExistsError:
                    return False
        except VssError:
            # The store does not know `create`; or another process creates it now, which S3 answers with a conflict; or
            # only the answer was lost. What is there is never overwritten.
            if self.exists():
                return self.read_bytes() == data
            self.write_bytes(data)
        return True

    def modified(self) -> float:
        """When the object was written, in seconds, by the store's clock."""
        with _reached(self):
            return float(self._files.modified(self._key).timestamp())

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with _reached(self):
                self._files.rm_file(self._key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def remove(self) -> None:
        """Remove all objects below, the group's metadata first, so that no reader finds half a video."""
        (self / "zarr.json").unlink(missing_ok=True)
        if self.exists():
            with _reached(self):
                self._files.rm(self._key, recursive=True)


class _Opened:
    """An open file in an object store whose errors name it."""

    def __init__(self, file: Any, place: RemotePath) -> None:
        self._file, self._place = file, place

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            with _reached(self._place):
                return getattr(self._file, name)(*arguments)

        return call

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@contextmanager
def _reached(place: RemotePath) -> Iterator[None]:
    """Turn any error of an object store or of the connection to it into a `VssError`, except that of a missing object.

    It must not be taken for damage: `vss cache repair` would remove what is merely out of reach.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, ValueError, VssError):
        raise
    except Exception as error:  # each kind of store has its own errors
        raise VssError(
            f"{place} can't be reached: {_reason(error)}",
            "what is recorded is intact; once the store answers, run the same command again: it continues",
        ) from error


def _reason(error: Exception) -> str:
    what = getattr(error, "strerror", None) or str(error)
    return f"{type(error).__name__}: {what}" if what else type(error).__name__


class RemoteWork(WorkFolder):
    """The locks beside a store at a URL. Nothing is staged, since an object appears whole."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store.with_name(f".{store.name}.work")
        self._heart = Heartbeat(self._beat)

    def drop(self, file: Path) -> None:
        file.unlink(missing_ok=True)

    def files(self, folder: Path) -> list[Path]:
        return sorted(folder.rglob("*"))

    def leads_out(self, path: Path) -> bool:
        return False

    def release(self, video: str) -> None:
        if self._give_up(video):
            self.lock_path(video).unlink(missing_ok=True)

    def lock(self, video: str) -> None:
        path, mine = self.lock_path(video), this_process()
        if path.exists():
            holder = read_holder(path)
            if self._lives(path, holder):
                raise self.held(video, holder)
            path.unlink(missing_ok=True)
        data = json.dumps(mine).encode()
        if not cast("RemotePath", path).create(data) or path.read_bytes() != data:
            raise self.held(video, read_holder(path))
        self._heart.hold(video, mine)

    def _beat(self, video: str, holder: dict[str, Any]) -> None:
        path = self.lock_path(video)
        if read_holder(path) == holder:
            path.write_bytes(json.dumps(holder).encode())

    def _silence(self, path: Path) -> float:
        now = cast("RemotePath", self.path / "now")
        now.write_bytes(b"")
        try:
            return now.modified() - cast("RemotePath", path).modified()
        finally:
            now.unlink(missing_ok=True)

    def bury(self, video: str) -> None:
        path = self.lock_path(video)
        if not self._lives(path, read_holder(path)):
            self.release(video)

    def clear(self, name: str) -> None:
        pass

    def tidy(self) -> None:
        pass

    def collect(self) -> list[Path]:
        dead = [lock for lock in self._entries("locks") if not self._lives(lock, read_holder(lock))]
        for lock in dead:
            lock.unlink()
        return dead

    @contextmanager
    def guard(self) -> Iterator[None]:
        yield

    def put(self, name: str, files: Mapping[Path, bytes]) -> None:
        for target, data in files.items():
            target.write_bytes(data)

    def put_folder(self, name: str, target: Path, files: Mapping[str, bytes]) -> None:
        # The group's metadata last: it makes the video, or the store, exist.
        for file in sorted(files, key=lambda file: file == "zarr.json"):
            (target / file).write_bytes(files[file])

    def remove_folder(self, name: str, target: Path) -> None:
        cast("RemotePath", target).remove()


def work_for(path: Path) -> WorkFolder:
    """The work folder of the store at a path or URL."""
    return RemoteWork(path) if is_remote(path) else WorkFolder(path)
