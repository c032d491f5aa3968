"""One process at a time in a folder: in that of a training run, in that of a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.store.files import disk
from vsscli.store.work import WorkFolder


class FolderLock(WorkFolder):
    """The lock beside a folder. ``doing`` and ``remedy`` say what its holder does there, and what to do about it."""

    def __init__(self, folder: Path, doing: str, remedy: str) -> None:
        super().__init__(folder)
        self._doing, self._remedy = doing, remedy

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        return VssError(
            f"{self.store} is being {self._doing} by process {holder.get('pid')} on {holder.get('host')} "
            f"since {holder.get('since')}",
            f"{self._remedy}; if that machine is gone, remove {self.lock_path(video)}",
        )


@contextmanager
def only_one(folder: Path, name: str, doing: str, remedy: str) -> Iterator[None]:
    """Hold a lock beside a folder while the block runs; a living holder is respected, a dead one's lock taken over.

    Parameters
    ----------
    folder, name
        What is locked, and the name of the lock.
    doing, remedy
        Words for the error: "trained in", "wait for it, or stop it first".

    Raises
    ------
    VssError
        A living process has it, or the disk refuses.
    """
    lock = FolderLock(folder, doing, remedy)
    with disk(f"cannot write {folder}", "make room or mend the cause, or name another folder"):
        lock.lock(name)
    try:
        yield
    finally:
        lock.release(name)
        lock.tidy()
