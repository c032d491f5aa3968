"""The one way to share out work over videos: `Engine.map`.

A task is a function of some videos that yields results. It is called once with all of them if there is little to do,
with each video or a run of short ones in worker processes otherwise. So results may not depend on how videos are
grouped: counts are integers, and what is written for a video depends on that video alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, TypeVar

from vsscli.engine.local import in_processes, packed
from vsscli.engine.relay import Relay, hearing
from vsscli.errors import VssError
from vsscli.talk import SILENCE, Talk
from vsscli.threads import cores

Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)
Item = TypeVar("Item")
Result = TypeVar("Result")

FRAMES_EACH = 512
"""Units of work that justify a process if no number is given: it takes as long to start as scoring hundreds."""

GROUP = 64
"""Frames after which short videos, such as images, are enough for one call."""


class Task(Protocol[Item_contra, Result_co]):
    """Work on some videos."""

    def __call__(self, videos: Sequence[Item_contra], threads: int, talk: Talk, /) -> Iterable[Result_co]:
        """Yield the results of ``videos`` in order, using a number of threads.

        Progress is reported with ``talk.track``, in the units of the lengths given to `Engine.map`; its label and total
        do not matter.
        """
        ...


@dataclass(frozen=True)
class Engine:
    """Where work over videos is done.

    Parameters
    ----------
    workers
        Processes, and the threads of each if there are fewer videos; `None`: the cores that this process may use, as
        far as there is work for them; 1: everything in the caller's own thread.
    place
        ``local``: this machine; ``ray``: a Ray cluster, that of this machine if there is one; ``ray://HOST:PORT``.
    device
        What each worker on a cluster needs: ``cpu``, a core; ``cuda``, a GPU; ``auto``, a GPU if the cluster has any.
    """

    workers: int | None = None
    place: str = "local"
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.place not in ("local", "ray") and not self.place.startswith("ray://"):
            raise VssError(f"--engine {self.place} is not known", "give local, ray or ray://HOST:PORT")
        if self.place != "local" and find_spec("ray") is None:
            raise VssError(f"--engine {self.place} needs Ray, which is not installed", 'pip install "vsscli[ray]"')

    def map(
        self,
        label: str,
        task: Task[Item, Result],
        videos: Sequence[Item],
        lengths: Sequence[int],
        talk: Talk = SILENCE,
        *,
        unit: str = "frame",
        worth: int = FRAMES_EACH,
    ) -> Generator[Result]:
        """Results of a task over videos, in their order, with progress.

        Close it (`contextlib.closing`) if it may be left before its end, so that its processes end, too.

        Parameters
        ----------
        label, unit
            Names of the work and of its unit for the progress.
        task
            The work. If it can't be sent to another process (a network, a class of a user's script), it runs in this
            one, in threads.
        videos, lengths
            The videos, or whatever the task takes, and how many units each has.
        talk
            Receives what the task reports.
        worth
            Units that justify a process if no number of workers is given.

        Raises
        ------
        VssError
            A worker process died. Errors of the task are raised as they are, the first one in order.
        """
        workers, total = self.workers or cores(), sum(lengths)
        if self.place != "local":
            from vsscli.engine.cluster import on_ray

            shares = grouped(videos, lengths, GROUP // 4)
            with talk.track(label, total, unit) as advance:
                remote = on_ray(self.place, task, shares, self.workers, hearing(talk, advance), self.device)
                with closing(remote) as results:
                    yield from results
            return
        processes = min(workers, len(videos), workers if self.workers else total // worth)
        with talk.track(label, total, unit) as advance:
            hear = hearing(talk, advance)
            data = packed(task) if processes > 1 else None
            if data is None:
                yield from task(videos, workers, Relay(hear))
                return
            groups = grouped(videos, lengths, min(GROUP, total // (8 * processes)))
            with closing(in_processes(data, groups, processes, max(1, workers // processes), hear)) as results:
                yield from results


LOCAL = Engine()
"""All cores of this machine."""


def grouped(videos: Sequence[Item], lengths: Sequence[int], enough: int) -> Iterator[list[Item]]:
    """Runs of consecutive videos of at least ``enough`` frames; the last may have fewer."""
    group: list[Item] = []
    frames = 0
    for video, length in zip(videos, lengths, strict=True):
        group.append(video)
        frames += length
        if frames >= enough:
            yield group
            group, frames = [], 0
    if group:
        yield group
