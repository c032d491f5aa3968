"""The work folder beside a store: staging, and the locks that keep two processes off one video.

For ``x.zarr`` it is ``.x.zarr.work``, so that the store itself holds nothing but Zarr. It goes with the last writer.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.files import is_running
from vsscli.inside import Inside
from vsscli.structured import json_or_none

if sys.platform != "win32":
    import fcntl


FOLDERS = ("locks", "staging")

TRIES = 1000
"""How often the guard is looked for: whoever tidies up removes it, now and then, just before it is held."""


class WorkFolder:
    """Where one store is worked on.

    Nothing in it, nor in the store, is written or removed through a link: both may be a stranger's.

    Parameters
    ----------
    store
        Path of the store. Where it is a link, the store is what it leads to, and is worked on beside that.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._real = Path(os.path.realpath(store))
        self.path = self._real.with_name(f".{self._real.name}.work")
        self._inside = Inside(self._real.parent)

    def staging(self, name: str) -> Path:
        """Folder for what is not finished yet, of a video or of ``__root__``."""
        return self.path / "staging" / name

    def lock_path(self, video: str) -> Path:
        """The file that names who writes a video."""
        return self.path / "locks" / f"{video}.json"

    def lock(self, video: str) -> None:
        """Claim a video for this process and clear what a dead holder left.

        Raises
        ------
        VssError
            A living process has it.
        """
        path = self.lock_path(video)
        with self.guard():
            holder = read_holder(path)
            if is_alive(holder):
                raise self.held(video, holder)
            self.clear(video)
            # Not a plain write: who reads a lock finds it whole.
            fresh = path.with_suffix(".new")
            try:
                self._inside.write(fresh, json.dumps(this_process()).encode(), sync=False)
                self._inside.move_file(fresh, path, sync=False)
            finally:
                self._inside.unlink(fresh)

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        """What to say of a video that somebody else writes."""
        return VssError(
            f"video {video} of {self.store} is being written by process {holder.get('pid')} "
            f"on {holder.get('host')} since {holder.get('since')}",
            f"wait for it, or stop it first; if that machine is gone, remove {self.lock_path(video)}",
        )

    def put(self, name: str, files: Mapping[Path, bytes]) -> None:
        """Put files to their places: all written and synced first, then each moved there in one step, in order."""
        self.clear(name)
        staged = {target: self.staging(name) / str(number) for number, target in enumerate(files)}
        for target, data in files.items():
            self._inside.write(staged[target], data)
        for target, place in staged.items():
            self._inside.move_file(place, self._place(target))

    def put_folder(self, name: str, target: Path, files: Mapping[str, bytes]) -> None:
        """Put a folder of files to its place in one step."""
        if self._place(target).is_symlink():
            raise VssError(f"{target} is a link, where a folder of the store belongs", "take it away, and go on")
        self.clear(name)
        for file, data in files.items():
            self._inside.write(self.staging(name) / file, data)
        self._inside.move_folder(self.staging(name), self._place(target))

    def remove_folder(self, name: str, target: Path) -> None:
        """Take a folder out of the store in one step, so that no reader finds half of it."""
        if target == self.store and target.is_symlink():
            target.unlink()
        elif self._place(target).is_symlink():
            self._inside.unlink(self._place(target))
        else:
            self._inside.move_folder(self._place(target), self.staging(name) / "removed")

    def drop(self, file: Path) -> None:
        """Remove a file of the store, if it is there, and the folders of its array that are empty then."""
        place = self._place(file)
        link = next((part for part in reversed(place.parents) if part != self._real and self._is_link(part)), None)
        if link is not None:
            self._inside.unlink(link)  # by itself: what it leads to is no part of the store
            return
        self._inside.unlink(place)
        for folder in place.parents:
            if folder.name == "c":
                return
            try:
                self._inside.rmdir(folder)
            except OSError:
                return

    def files(self, folder: Path) -> list[Path]:
        """The files below a folder of the store or of this one, sorted; none where a link leads out of it."""
        inside = [self._place(folder), *self._inside.files(self._place(folder))]
        return [folder / file.relative_to(inside[0]) for file in inside[1:]]

    def leads_out(self, path: Path) -> bool:
        """Whether a path of the store is, or lies behind, a link."""
        return not self._inside.holds(self._place(path))

    def _is_link(self, place: Path) -> bool:
        return place.is_relative_to(self._real) and place.is_symlink()

    def _place(self, path: Path) -> Path:
        """A path of the store as it is without the links that lead to the store."""
        return self._real / path.relative_to(self.store) if path.is_relative_to(self.store) else path

    def bury(self, video: str) -> None:
        """Clear what a process left that died between its last record and giving the video back."""
        path = self.lock_path(video)
        if not path.exists():
            return
        with self.guard():
            if path.exists() and not is_alive(read_holder(path)):
                self.release(video)

    def release(self, video: str) -> None:
        """Give a video back."""
        self.clear(video)
        self._inside.unlink(self.lock_path(video))

    def clear(self, name: str) -> None:
        """Remove what is staged under this name."""
        with suppress(OSError):
            self._inside.remove(self.staging(name))

    def collect(self) -> list[Path]:
        """Clear what dead processes left here: their locks and what they staged. Returns what was removed.

        No process of ours leaves links here. One that is there goes by itself; what it leads to stays.
        """
        removed = [place for place in (self.path, *map(self.path.joinpath, (*FOLDERS, "guard"))) if place.is_symlink()]
        for link in removed:
            self._inside.unlink(link)
            if link == self.path:
                return [link]
        if not self.path.is_dir():
            return removed
        with self.guard():
            held = set()
            for lock in self._entries("locks"):
                # A lock under its temporary name is made and renamed under the guard, which we hold.
                if lock.suffix != ".new" and is_alive(read_holder(lock)):
                    held.add(lock.stem)
                else:
                    self._inside.remove(lock)
                    removed.append(lock)
            for staged in self._entries("staging"):
                if staged.name not in held:
                    self.clear(staged.name)
                    removed.append(staged)
        self.tidy()
        return removed

    def _entries(self, name: str) -> list[Path]:
        folder = self.path / name
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def tidy(self) -> None:
        """Remove the folder if nobody works in it."""
        if not self.path.is_dir():
            return
        with self.guard():
            # Locks first: while somebody holds one, nothing is taken from under their feet.
            for name in FOLDERS:
                try:
                    self._inside.rmdir(self.path / name)
                except FileNotFoundError:
                    continue
                except OSError:
                    return
            self._inside.unlink(self.path / "guard")
        with suppress(OSError):
            self._inside.rmdir(self.path)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """One process at a time, for the moment it takes to look at a lock and replace it.

        Held by the kernel and freed with the process. Where the file system can't do that, the moment is unguarded.
        """
        if sys.platform == "win32":
            self._inside.make(self.path)
            yield
            return
        handle = self._open_guard()
        try:
            yield
        finally:
            os.close(handle)

    def _open_guard(self) -> int:
        path = self.path / "guard"
        for _ in range(TRIES):
            self._inside.make(self.path)
            try:
                handle = self._inside.open(path, os.O_RDWR | os.O_CREAT)
            except FileNotFoundError:
                continue  # the last writer removed the folder in between
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever tidied up while we waited took the file away: what we hold then guards nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
            os.close(handle)
        raise VssError(f"{self.path} is removed as often as it is made", "stop what removes it, and try again")


def this_process() -> dict[str, Any]:
    """What a lock says of its holder."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def read_holder(path: Path) -> dict[str, Any]:
    """Who holds a lock; empty when nobody does or the file says nothing.

    Processes are numbered from 1: lower numbers stand for groups, of which there always is one.
    """
    holder = json_or_none(path)
    return holder if isinstance(holder, dict) and type(holder.get("pid")) is int and holder["pid"] > 0 else {}


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether a lock has a holder that may be at work. On another machine that can't be known: it is respected."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname() or sys.platform == "win32":
        return True
    if not is_running(holder["pid"]):
        return False
    # The number may have been given to another process since.
    start = process_start(holder["pid"])
    return start is None or (start != 0 and holder.get("started") in (None, start))


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; 0 if it is dead and not yet buried; None if unknown.

    psutil says seconds since 1970, which change when somebody sets the clock: a living holder would be taken for dead.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[19])
