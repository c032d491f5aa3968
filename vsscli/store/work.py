"""The work folder beside a store: staged files, and the locks that keep two processes from writing one video.

For ``x.zarr`` it is ``.x.zarr.work``, so that the store itself holds nothing but Zarr. The last writer removes it.
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
from secrets import token_hex
from typing import Any

from vsscli.engine.attempt import piece_in_hand
from vsscli.errors import VssError
from vsscli.files import is_running
from vsscli.inside import Inside
from vsscli.store.heartbeat import EVERY, STILL, Heartbeat
from vsscli.structured import json_or_none

if sys.platform != "win32":
    import fcntl


FOLDERS = ("locks", "staging")

TRIES = 1000
"""Attempts at the guard: a process that tidies up may remove the file just before it is locked."""


class WorkFolder:
    """The folder where one store is worked on.

    Nothing in it or in the store is written or removed through a link, since either may come from somebody else.

    Parameters
    ----------
    store
        Path of the store. If it is a link, the work folder is beside the link's target.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self._real = Path(os.path.realpath(store))
        self.path = self._real.with_name(f".{self._real.name}.work")
        self._inside = Inside(self._real.parent)
        self._heart = Heartbeat(self._beat)

    def staging(self, name: str) -> Path:
        """Folder for the unfinished files of a video, or of ``__root__``."""
        return self.path / "staging" / name

    def lock_path(self, video: str) -> Path:
        """The file that says which process writes a video."""
        return self.path / "locks" / f"{video}.json"

    def lock(self, video: str) -> None:
        """Claim a video for this process and clear what a dead holder left.

        Raises
        ------
        VssError
            A running process has claimed it.
        """
        path = self.lock_path(video)
        with self.guard():
            holder = read_holder(path)
            if self._lives(path, holder):
                raise self.held(video, holder)
            self.clear(video)
            # Written aside and renamed, so that nobody reads half a lock.
            fresh, mine = path.with_suffix(".new"), this_process()
            try:
                self._inside.write(fresh, json.dumps(mine).encode(), sync=False)
                self._inside.move_file(fresh, path, sync=False)
            finally:
                self._inside.unlink(fresh)
        self._heart.hold(video, mine)

    def require_held(self, video: str) -> None:
        """Make sure that this process still holds a video that it claimed.

        Raises
        ------
        VssError
            This process was stopped for so long that another one took the video over.
        """
        holder = read_holder(self.lock_path(video))
        if holder != self._heart.held.get(video):
            raise VssError(
                f"video {video} of {self.store} was taken over by process {holder.get('pid')} on {holder.get('host')}: "
                "this one gave no sign of life for too long",
                "what is recorded is intact; run the same command again once the other is done",
            )

    def _give_up(self, video: str) -> bool:
        """Stop holding a video; whether its lock is not another's by now."""
        mine = self._heart.held.get(video)
        self._heart.drop(video)
        return mine is None or read_holder(self.lock_path(video)) in ({}, mine)

    def _beat(self, video: str, holder: dict[str, Any]) -> None:
        path = self.lock_path(video)
        if read_holder(path) == holder:
            os.utime(path, follow_symlinks=False)

    def _lives(self, path: Path, holder: dict[str, Any]) -> bool:
        """Whether the holder of a lock may still be running: one on another machine, if its heart beats, and if it is
        not an earlier attempt at what this process does."""
        if not is_alive(holder) or holder.get("host") == socket.gethostname():
            return is_alive(holder)
        if piece_in_hand() and holder.get("piece") == piece_in_hand():
            return False
        return "beats" not in holder or self._silence(path) < STILL

    def _silence(self, path: Path) -> float:
        """Seconds since a lock's last sign of life, by the clock of the disk: those of two machines may differ."""
        now = self.path / "guard"
        now.touch()
        return now.stat().st_mtime - path.stat().st_mtime

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        """The error for a video that another process is writing."""
        return VssError(
            f"video {video} of {self.store} is being written by process {holder.get('pid')} "
            f"on {holder.get('host')} since {holder.get('since')}",
            f"wait for it or stop it; {self.when_gone(video, holder)}",
        )

    def when_gone(self, video: str, holder: dict[str, Any]) -> str:
        """What to do if the machine of a holder is gone."""
        if "beats" in holder:
            return f"if its machine is gone, {self.lock_path(video)} is taken over {STILL / 60:.0f} minutes after that"
        return f"if that machine is gone, remove {self.lock_path(video)}"

    def put(self, name: str, files: Mapping[Path, bytes]) -> None:
        """Put files in place: all are written and synced, then moved one by one, in order."""
        self.clear(name)
        staged = {target: self.staging(name) / str(number) for number, target in enumerate(files)}
        for target, data in files.items():
            self._inside.write(staged[target], data)
        for target, place in staged.items():
            self._inside.move_file(place, self._place(target))

    def put_folder(self, name: str, target: Path, files: Mapping[str, bytes]) -> None:
        """Put a folder of files in place atomically."""
        if self._place(target).is_symlink():
            raise VssError(
                f"{target} is a link where a folder of the store should be", "remove the link and run the command again"
            )
        self.clear(name)
        for file, data in files.items():
            self._inside.write(self.staging(name) / file, data)
        self._inside.move_folder(self.staging(name), self._place(target))

    def remove_folder(self, name: str, target: Path) -> None:
        """Take a folder out of the store atomically, so that no reader finds half of it."""
        if target == self.store and target.is_symlink():
            target.unlink()
        elif self._place(target).is_symlink():
            self._inside.unlink(self._place(target))
        else:
            self._inside.move_folder(self._place(target), self.staging(name) / "removed")

    def drop(self, file: Path) -> None:
        """Remove a file of the store, if it exists, and the folders of its array that this leaves empty."""
        place = self._place(file)
        link = next((part for part in reversed(place.parents) if part != self._real and self._is_link(part)), None)
        if link is not None:
            self._inside.unlink(link)  # the link alone: its target is not part of the store
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
        """The files below a folder of the store or of the work folder, sorted; none if a link leads out of it."""
        inside = [self._place(folder), *self._inside.files(self._place(folder))]
        return [folder / file.relative_to(inside[0]) for file in inside[1:]]

    def leads_out(self, path: Path) -> bool:
        """Whether a path of the store is a link or leads through one."""
        return not self._inside.holds(self._place(path))

    def _is_link(self, place: Path) -> bool:
        return place.is_relative_to(self._real) and place.is_symlink()

    def _place(self, path: Path) -> Path:
        """A path of the store with links that lead to the store resolved."""
        return self._real / path.relative_to(self.store) if path.is_relative_to(self.store) else path

    def bury(self, video: str) -> None:
        """Clear what a process left that died between its last record and the release of the video."""
        path = self.lock_path(video)
        if not path.exists():
            return
        with self.guard():
            if path.exists() and not self._lives(path, read_holder(path)):
                self.release(video)

    def release(self, video: str) -> None:
        """Release a video, unless another process has taken it over."""
        if not self._give_up(video):
            return
        self.clear(video)
        self._inside.unlink(self.lock_path(video))

    def clear(self, name: str) -> None:
        """Remove what is staged under a name."""
        with suppress(OSError):
            self._inside.remove(self.staging(name))

    def collect(self) -> list[Path]:
        """Remove the locks and staged files of dead processes; returns what was removed.

        vss creates no links here. If there is one, the link is removed and its target kept.
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
                # A temporary name is stale: locks are created and renamed under the guard, which we hold.
                if lock.suffix != ".new" and self._lives(lock, read_holder(lock)):
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
        """Remove the folder if no process works in it."""
        if not self.path.is_dir():
            return
        with self.guard():
            # Locks first: while one is held, nothing else is removed.
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
        """One process at a time, for the moment it takes to check a lock and replace it.

        The kernel holds it and frees it with the process. On file systems without such locks it guards nothing.
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
                continue  # the last writer removed the folder in the meantime
            if sys.platform != "win32":
                with suppress(OSError):
                    fcntl.flock(handle, fcntl.LOCK_EX)
            # If another process tidied up while we waited, the file is gone and its lock guards nothing.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
            os.close(handle)
        raise VssError(f"{self.path} keeps being removed", "stop the process that removes it, and try again")


def this_process() -> dict[str, Any]:
    """What a lock says about its holder."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "beats": EVERY,
        "token": token_hex(8),  # two locks of one process in one second differ
        **({"piece": piece_in_hand()} if piece_in_hand() else {}),
    }


def read_holder(path: Path) -> dict[str, Any]:
    """The holder of a lock; empty if there is none or the file is damaged.

    Process ids start at 1; lower numbers address groups, and one of those always exists.
    """
    holder = json_or_none(path)
    return holder if isinstance(holder, dict) and type(holder.get("pid")) is int and holder["pid"] > 0 else {}


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether a lock's holder may still be running. A holder on another machine always counts as running."""
    if not holder:
        return False
    if holder.get("host") != socket.gethostname() or sys.platform == "win32":
        return True
    if not is_running(holder["pid"]):
        return False
    # Its id may have been given to another process since.
    start = process_start(holder["pid"])
    return start is None or (start != 0 and holder.get("started") in (None, start))


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; 0 for a zombie; `None` if unknown.

    psutil gives seconds since 1970, which change when the clock is set: a running holder would be taken for dead.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[19])
