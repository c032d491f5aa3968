"""The work folder beside a store: staging, and the locks that keep two processes off one video.

For ``x.zarr`` it is ``.x.zarr.work``, so that the store itself holds nothing but Zarr. It goes with the last writer.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.store.files import move_file, move_folder, write_bytes
from vsscli.structured import json_or_none

if sys.platform != "win32":
    import fcntl


class WorkFolder:
    """Where one store is worked on.

    Parameters
    ----------
    store
        Path of the store.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.path = store.with_name(f".{store.name}.work")

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
            if holder is not None and is_alive(holder):
                raise self.held(video, holder)
            self.clear(video)
            path.parent.mkdir(parents=True, exist_ok=True)
            # Not a plain write: who reads a lock finds it whole.
            fresh = path.with_suffix(".new")
            try:
                fresh.write_text(json.dumps(this_process()), encoding="utf-8")
                os.replace(fresh, path)
            finally:
                fresh.unlink(missing_ok=True)

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
            write_bytes(staged[target], data)
        for target, place in staged.items():
            move_file(place, target)

    def put_folder(self, name: str, target: Path, files: Mapping[str, bytes]) -> None:
        """Put a folder of files to its place in one step."""
        self.clear(name)
        for file, data in files.items():
            write_bytes(self.staging(name) / file, data)
        move_folder(self.staging(name), target)

    def remove_folder(self, name: str, target: Path) -> None:
        """Take a folder out of the store in one step, so that no reader finds half of it."""
        if target.is_symlink():
            target.unlink()
            return
        aside = self.staging(name) / "removed"
        aside.parent.mkdir(parents=True, exist_ok=True)
        target.rename(aside)

    def bury(self, video: str) -> None:
        """Clear what a process left that died between its last record and giving the video back."""
        path = self.lock_path(video)
        if not path.exists():
            return
        with self.guard():
            holder = read_holder(path)
            if path.exists() and (holder is None or not is_alive(holder)):
                self.release(video)

    def release(self, video: str) -> None:
        """Give a video back."""
        self.clear(video)
        self.lock_path(video).unlink(missing_ok=True)

    def clear(self, name: str) -> None:
        """Remove what is staged under this name."""
        shutil.rmtree(self.staging(name), ignore_errors=True)

    def collect(self) -> list[Path]:
        """Clear what dead processes left here: their locks and what they staged. Returns what was removed."""
        if not self.path.is_dir():
            return []
        removed = []
        with self.guard():
            held = set()
            for lock in self._entries("locks"):
                holder = read_holder(lock)
                # A lock under its temporary name is made and renamed under the guard, which we hold.
                if lock.suffix != ".new" and holder is not None and is_alive(holder):
                    held.add(lock.stem)
                else:
                    lock.unlink()
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
            for name in ("locks", "staging"):
                if (self.path / name).exists():
                    try:
                        (self.path / name).rmdir()
                    except OSError:
                        return
            (self.path / "guard").unlink(missing_ok=True)
        with suppress(OSError):
            self.path.rmdir()

    @contextmanager
    def guard(self) -> Iterator[None]:
        """One process at a time, for the moment it takes to look at a lock and replace it.

        Held by the kernel and freed with the process. Where the file system can't do that, the moment is unguarded.
        """
        if sys.platform == "win32":
            self.path.mkdir(parents=True, exist_ok=True)
            yield
            return
        handle = self._open_guard()
        try:
            yield
        finally:
            os.close(handle)

    def _open_guard(self) -> int:
        path = self.path / "guard"
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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


def this_process() -> dict[str, Any]:
    """What a lock says of its holder."""
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": process_start(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def read_holder(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None when nobody does or the file says nothing."""
    holder = json_or_none(path)
    return holder if isinstance(holder, dict) and isinstance(holder.get("pid"), int) else None


def is_alive(holder: dict[str, Any]) -> bool:
    """Whether the holder of a lock may still be at work. Of another machine that can't be known: it is respected."""
    if holder.get("host") != socket.gethostname() or sys.platform == "win32":
        return True
    pid = holder["pid"]
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    start = process_start(pid)
    if start == 0:
        return False
    # The number may have been given to another process since.
    return start is None or holder.get("started") in (None, start)


def process_start(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; 0 if it is dead and not yet buried; None if unknown."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return 0 if fields[0] in "ZX" else int(fields[19])
