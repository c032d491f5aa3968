"""One process at a time in a folder, such as that of a training run or a pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.store.files import disk
from vsscli.store.work import WorkFolder


class FolderLock(WorkFolder):
    """The lock beside a folder. ``doing`` and ``remedy`` are the words for its error, as in `only_one`."""

    def __init__(self, folder: Path, doing: str, remedy: str) -> None:
        super().__init__(folder)
        self._doing, self._remedy = doing, remedy

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        return VssError(
            f"{self.store} is being {self._doing} by process {holder.get('pid')} on {holder.get('host')} "
            f"since {holder.get('since')}",
            f"{self._remedy}; {self.when_gone(video, holder)}",
        )


@contextmanager
def only_one(folder: Path, name: str, doing: str, remedy: str) -> Iterator[None]:
    """Hold a lock beside a folder while the block runs; a dead process's lock is taken over.

    Parameters
    ----------
    folder, name
        The folder that is locked, and the name of the lock.
    doing, remedy
        Words for the error: "trained in", "wait for it, or stop it first".

    Raises
    ------
    VssError
        A running process holds it, or the disk refuses.
    """
    lock = FolderLock(folder, doing, remedy)
    with disk(f"cannot write {folder}", "make room or fix the cause, or name another folder"):
        lock.lock(name)
    try:
        yield
    finally:
        lock.release(name)
        lock.tidy()
