"""One process at a time runs a pipeline in a workspace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.store.work import WorkFolder

WHOLE = "pipeline"


class PipelineLock(WorkFolder):
    """The lock beside a pipeline's folder: a living holder is respected, a dead one's lock is taken over."""

    def held(self, video: str, holder: dict[str, Any]) -> VssError:
        """What to say of a pipeline that somebody else runs."""
        return VssError(
            f"{self.store} is being run by process {holder.get('pid')} on {holder.get('host')} "
            f"since {holder.get('since')}",
            f"wait for it, or stop it first; if that machine is gone, remove {self.lock_path(video)}",
        )


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """Hold the lock of a pipeline's folder while the block runs.

    Raises
    ------
    VssError
        A living process has it, or the disk refuses.
    """
    lock = PipelineLock(home)
    try:
        lock.lock(WHOLE)
    except OSError as error:
        raise VssError(
            f"cannot write {home}: {error.strerror or error}",
            "make room or mend the cause, or name another --workspace",
        ) from error
    try:
        yield
    finally:
        lock.release(WHOLE)
        lock.tidy()
