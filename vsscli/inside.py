"""Creating, moving and removing files below a folder without ever leaving it.

A store or a workspace may come from a stranger, and any folder in it may be a link to somewhere else. So paths below it
are opened from the opened folder, one step at a time, and no step follows a link. The folder itself may be reached
through links: whoever names it made them, and their target is the boundary.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from vsscli.errors import VssError
from vsscli.files import FRESH, sync_folder

BY_HANDLE = sys.platform != "win32" and os.open in os.supports_dir_fd
"""Whether the system opens files relative to an opened folder. Where it doesn't, paths are checked before use."""

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)


class Inside:
    """A folder, and operations below it.

    All paths passed to its methods are below the folder, as it was given or as it was resolved.

    Parameters
    ----------
    root
        The folder. It need not exist before something is written.

    Raises
    ------
    VssError
        From every method: a path is not below the folder, or only through a link.
    OSError
        From every method: the disk refuses.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.real = Path(os.path.realpath(root))

    def make(self, folder: Path) -> None:
        """Create a folder and its parents, including the root's; every name is synced."""
        if folder in (self.root, self.real):
            self._make_root()
            return
        with self._at(folder / "_", make=True):
            pass

    def write(self, path: Path, data: bytes, *, sync: bool = True) -> None:
        """Write a file and sync it; its folder is created. A file or link of that name is removed first."""
        with self._at(path, make=True) as (folder, name):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            with open(os.open(name, FRESH, 0o666, dir_fd=folder), "wb") as file:
                file.write(data)
                file.flush()
                if sync:
                    os.fsync(file.fileno())

    def move_file(self, source: Path, target: Path, *, sync: bool = True) -> None:
        """Move a file in one step, replacing a file at the target, whose folder is created and synced."""
        with self._at(source) as (here, name), self._at(target, make=True) as (there, other):
            os.replace(name, other, src_dir_fd=here, dst_dir_fd=there)
            if sync:
                self._sync(there, target)

    def move_folder(self, source: Path, target: Path) -> None:
        """Move a folder in one step; fails if the target exists."""
        for folder, _, _ in os.walk(source):
            sync_folder(Path(folder))
        with self._at(source) as (here, name), self._at(target, make=True) as (there, other):
            os.rename(name, other, src_dir_fd=here, dst_dir_fd=there)
            self._sync(there, target)

    def unlink(self, path: Path) -> bool:
        """Remove a file or a link, which is not followed; returns whether there was one."""
        try:
            with self._at(path) as (folder, name):
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            return False
        return True

    def rmdir(self, path: Path) -> None:
        """Remove an empty folder."""
        with self._at(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def remove(self, path: Path) -> None:
        """Remove a file, a folder with its contents, or a link, which is not followed."""
        with suppress(FileNotFoundError), self._at(path) as (folder, name):
            if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=folder)
            else:
                os.unlink(name, dir_fd=folder)

    def open(self, path: Path, flags: int) -> int:
        """Open a file in an existing folder, never through a link, and return its descriptor."""
        with self._at(path) as (folder, name):
            try:
                return os.open(name, flags | NO_LINK, 0o666, dir_fd=folder)
            except OSError:
                if path.is_symlink():
                    raise self._leads_out(self._parts(path)) from None
                raise

    def files(self, folder: Path) -> list[Path]:
        """The regular files below a folder, sorted; none if the folder, or one above it, is a link."""
        found = []
        if self.holds(folder):
            for place, _, names in os.walk(folder):
                paths = (Path(place, name) for name in names)
                found += [path for path in paths if path.is_file() and not path.is_symlink()]
        return sorted(found)

    def holds(self, path: Path) -> bool:
        """Whether a path below the folder stays there: neither the path nor any folder on the way is a link."""
        if path in (self.root, self.real):
            return True
        try:
            expected = self.real.joinpath(*self._parts(path))
        except VssError:
            return False
        return os.path.realpath(path) == str(expected)

    def _parts(self, path: Path) -> tuple[str, ...]:
        for root in (self.root, self.real):
            with suppress(ValueError):
                parts = path.relative_to(root).parts
                if parts and ".." not in parts:
                    return parts
        raise VssError(f"{path} is not in {self.root}", "nothing is written or removed there")

    @contextmanager
    def _at(self, path: Path, *, make: bool = False) -> Iterator[tuple[int | None, str]]:
        """The opened parent folder of a path, and the path's last name."""
        *folders, name = self._parts(path)
        if make:
            self._make_root()
        if not BY_HANDLE:
            yield None, str(self._looked_at(folders, make) / name)
            return
        handle = os.open(self.real, FOLDER)
        try:
            for depth, part in enumerate(folders):
                inner = self._step(handle, folders[: depth + 1], part, make)
                os.close(handle)
                handle = inner
            yield handle, name
        finally:
            os.close(handle)

    def _step(self, handle: int, way: Sequence[str], part: str, make: bool) -> int:
        """Open a folder in an opened folder; create it if ``make``."""
        for _ in range(100):  # a cleaning process may remove it between the two calls, but not forever
            try:
                return os.open(part, FOLDER | NO_LINK, dir_fd=handle)
            except FileNotFoundError:
                if not make:
                    raise
            except OSError:
                if stat.S_ISLNK(os.stat(part, dir_fd=handle, follow_symlinks=False).st_mode):
                    raise self._leads_out(way) from None
                raise
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=handle)
                os.fsync(handle)
        raise FileNotFoundError(f"{self.root.joinpath(*way)} is removed as soon as it is made")

    def _looked_at(self, folders: list[str], make: bool) -> Path:
        place = self.real
        for depth, part in enumerate(folders):
            place = place / part
            if place.is_symlink():
                raise self._leads_out(folders[: depth + 1])
            if make:
                place.mkdir(exist_ok=True)
        return place

    def _leads_out(self, way: Sequence[str]) -> VssError:
        return VssError(
            f"{self.root.joinpath(*way)} is a link: nothing is written or removed through links in {self.root}",
            "remove the link, or replace it by its target",
        )

    def _make_root(self) -> None:
        """Create the root and its parents; every name is synced."""
        if not self.real.is_dir():
            require_no_dead_link(self.root)
            missing = [self.real, *self.real.parents]
            missing = missing[: next((i for i, folder in enumerate(missing) if folder.is_dir()), len(missing))]
            for folder in reversed(missing):
                folder.mkdir(exist_ok=True)
                sync_folder(folder.parent)

    def _sync(self, handle: int | None, path: Path) -> None:
        if handle is None:
            sync_folder(path.parent)
        else:
            os.fsync(handle)


def require_no_dead_link(path: Path) -> None:
    """Refuse a path that goes through a dangling link, to a disk that is not mounted, for example.

    Raises
    ------
    VssError
        It does; names the link and its target.
    """
    for place in (path, *path.parents):
        if place.is_symlink() and not place.exists():
            raise VssError(
                f"{place} is a link to {os.path.realpath(place)}, which does not exist",
                "mount or create the target, or remove the link",
            )


def require_folder(place: Path, what: str) -> None:
    """Refuse a path that is not a folder and can't become one; a missing folder is created when something is written.

    Raises
    ------
    VssError
        It is a file or a dangling link, or it can't be accessed.
    """
    try:
        require_no_dead_link(place)
        there = next(folder for folder in (place, *place.absolute().parents) if folder.exists())
        if not there.is_dir():
            raise VssError(f"{what} {place}: {there} is a file", "name a folder, or a place where one can be created")
    except OSError as error:
        raise VssError(f"{what} {place}: {error.strerror or error}", "name a folder that you may use") from error


def require_inside(root: Path, path: Path) -> None:
    """Refuse a path below a workspace that leads out of it through a link.

    Raises
    ------
    VssError
        It leads elsewhere; says where.
    """
    require_no_dead_link(path)
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root)):
        raise VssError(
            f"{path} leads to {real}, out of {root}: nothing is written or removed there",
            f"remove the link; or make {root} itself a link, or name another --workspace or --out",
        )
