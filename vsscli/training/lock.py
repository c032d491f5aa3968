"""One process at a time trains in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.store.work import WorkFolder

WHOLE = "training"


class TrainingLock(WorkFolder):
    """The lock beside a run's folder: a living holder is respected, a dead one's lock is taken over."""

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        """What to say of a folder that somebody else trains in."""
        return VssError(
            f"{self.store} is being trained in by process {holder.get('pid')} on {holder.get('host')} "
            f"since {holder.get('since')}",
            "wait for it, stop it first, or give another --out; if that machine is gone, remove "
            f"{self.lock_path(video)}",
        )


@contextmanager
def only_one_trains(out: Path) -> Iterator[None]:
    """Hold the lock of a run's folder while the block runs.

    Raises
    ------
    VssError
        A living process has it.
    """
    lock = TrainingLock(out)
    lock.lock(WHOLE)
    try:
        yield
    finally:
        lock.release(WHOLE)
        lock.tidy()
