"""Work on a Ray cluster: an actor for each GPU or core, a call for each run of videos.

Scheduling and retries are Ray's. An actor whose process or node dies is started again elsewhere and repeats its call;
what it had written of a video is found in the store and continued, so the bytes are the same. What an actor reports
comes with its results; meanwhile it is shown as far as it is heard.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from secrets import token_hex
from textwrap import shorten
from typing import Any

from vsscli import __version__
from vsscli.engine.actor import EVERY, Actor, Caller, Failed, Inbox, Report
from vsscli.engine.relay import Send
from vsscli.errors import VssError
from vsscli.threads import cores

RETRIES = 20
"""Times that an actor is started again, and a call repeated: deaths of nodes are survived, a call that always runs out
of memory is not."""

GRACE = 60.0
"""Seconds that actors have to stop at their next frame and to give up the videos in hand."""

INLINE = 2**16
"""Bytes of a task from which on it is kept once for all actors, in Ray's object store, instead of in each call."""

OBJECTS = 200 * 2**20
"""Bytes of Ray's object store where a cluster of this machine is started: only tasks, counts and a submission's PNGs go
through it, and what does not fit goes to the disk."""


def on_ray(
    address: str,
    task: Any,
    groups: Iterable[Sequence[Any]],
    workers: int | None,
    hear: Send,
    device: str = "cpu",
) -> Generator[Any, None, None]:
    """Results of a task over groups of videos, in order; see `vsscli.engine.engine.Engine.map`.

    Parameters
    ----------
    address
        ``ray``: the cluster that this machine belongs to, else a new one of its cores; ``ray://HOST:PORT``.
    task, hear
        The task, and what receives its messages.
    groups
        The videos, in groups, which are begun in order.
    workers
        Actors; `None`: one for each GPU or core that the cluster has, or comes to have meanwhile.
    device
        What an actor computes on, as `vsscli.engine.engine.Engine.device`.

    Raises
    ------
    VssError
        No cluster answers, the task can't be sent to it, or it gave up. Errors of the task are raised as they are, the
        first one in order: all groups before it have been begun, and are waited for.
    """
    with _connected(address) as ray, _Crew(ray, task, device, workers) as crew:
        if crew.lacks:
            hear("warn", f"the cluster has no {crew.lacks}: the work begins when a machine joins it that has one")
        for number, group in enumerate(groups):
            crew.submit(number, group)
        shown: Counter[int] = Counter()
        finished: dict[int, list[Any] | Exception] = {}
        following = 0
        for outcome, report in crew.outcomes():
            # All that a call reported is in its last report, whatever was shown before; a repeated one begins again.
            hear("done", max(0, report.done - shown[report.call]))
            shown[report.call] = max(shown[report.call], report.done)
            for kind, text in report.said:
                hear(kind, text)
            if outcome is not None:
                finished[report.call] = outcome
            while (first := finished.pop(following, None)) is not None:
                if isinstance(first, Exception):
                    raise first
                yield from first
                following += 1


class _Crew:
    """The actors of a command, one for each GPU or core, as long as there is work for them."""

    def __init__(self, ray: Any, task: Any, device: str, most: int | None) -> None:
        from ray.util import ActorPool
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._ray, self._most = ray, most
        gpu = device.startswith("cuda") or (device == "auto" and ray.cluster_resources().get("GPU", 0) > 0)
        self._unit = "GPU" if gpu else "CPU"
        restarts = {"max_restarts": RETRIES, "max_task_retries": RETRIES}
        self._actor = ray.remote(num_cpus=1, num_gpus=int(gpu), **restarts)(Actor)
        try:
            packed = ray.cloudpickle.dumps(task)
        except (TypeError, pickle.PicklingError) as error:
            raise VssError(f"this can't be sent to other machines: {error}", "use --engine local") from error
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        self._inbox = ray.remote(num_cpus=0, max_restarts=-1, scheduling_strategy=here)(Inbox).remote()
        kept = packed if len(packed) < INLINE else ray.put(packed)
        self._caller = Caller(kept, self._inbox, os.getcwd(), __version__, token_hex(8))
        self._asked: Any = None
        self._pool = ActorPool([])
        self._actors: list[Any] = []
        self._begun: dict[int, Any] = {}
        self._unfinished = 0

    def __enter__(self) -> _Crew:
        return self

    def __exit__(self, *error: object) -> None:
        """Let actors that still work stop at their next frame, so that they release their videos."""
        ray = self._ray
        with suppress(ray.exceptions.RayError):
            if self._begun:
                ray.get(self._inbox.end.remote(), timeout=GRACE)
                for call in self._begun.values():  # it ends only what waits for an actor that has no place yet
                    ray.cancel(call, recursive=False)
                ray.wait([*self._begun.values()], num_returns=len(self._begun), timeout=GRACE)
        for actor in (*self._actors, self._inbox):
            ray.kill(actor)

    def submit(self, number: int, group: Sequence[Any]) -> None:
        """Queue a call."""
        self._unfinished += 1
        self._pool.submit(self._begin, (number, group))

    def _begin(self, actor: Any, call: tuple[int, Sequence[Any]]) -> Any:
        self._begun[call[0]] = actor.work.remote(*call, self._caller)
        return self._begun[call[0]]

    @property
    def lacks(self) -> str:
        """What an actor needs and no machine of the cluster has, GPU or CPU; empty if there is one."""
        return "" if self._places() else self._unit

    def outcomes(self) -> Iterator[tuple[list[Any] | Exception | None, Report]]:
        """Results or errors of calls with their last reports, as they come; and reports of calls that have none yet."""
        ray = self._ray
        while self._unfinished:
            self._grow()
            outcome: list[Any] | Exception
            try:
                outcome, report = self._pool.get_next_unordered(timeout=EVERY)
            except ray.exceptions.RayTaskError as error:  # first: it is also of the class of its cause
                if not isinstance(error.cause, Failed):
                    raise error.cause from error
                outcome, report = error.cause.error, error.cause.report
                outcome.__cause__ = error  # whose text is the traceback
            except TimeoutError:
                yield from ((None, report) for report in self._reports())
                continue
            except ray.exceptions.RayError as error:
                raise _given_up(str(error)) from error
            self._unfinished -= 1
            del self._begun[report.call]
            yield outcome, report
            # An actor without work gives its place back, to one that lost its node and waits for another.
            idle = self._pool.pop_idle()
            if idle is not None:
                self._actors.remove(idle)

    def _reports(self) -> list[Report]:
        """What calls have reported since the last time, if the inbox answers by now."""
        ray = self._ray
        if self._asked is None:
            self._asked = self._inbox.fetch.remote()
        if not ray.wait([self._asked], timeout=EVERY)[0]:
            return []
        answer, self._asked = self._asked, None
        with suppress(ray.exceptions.RayError):
            return list(ray.get(answer))
        return []

    def _grow(self) -> None:
        """Start actors for what the cluster has; those of lost nodes wait for new ones, and are not replaced."""
        room = self._most or max(1, self._places())
        while len(self._actors) < min(room, self._unfinished):
            self._actors.append(self._actor.remote())
            self._pool.push(self._actors[-1])

    def _places(self) -> int:
        return int(self._ray.cluster_resources().get(self._unit, 0))


def _given_up(said: str) -> VssError:
    lines = said.strip().splitlines() or [""]
    if "creation task" in said:
        return VssError(
            f"a machine of the cluster can't run vss: {lines[-1].strip()}",
            'every machine needs the same packages: pip install "vsscli[ray]"',
        )
    return VssError(
        f"Ray gave up a part of the work after {RETRIES} attempts: {lines[0]}",
        "what is written is kept; `ray status` shows the cluster, and the same command continues",
    )


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs; an earlier connection is kept."""
    import ray

    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == "ray":
            try:
                ray.init("auto", **quiet)
            except ConnectionError:
                ray.init(num_cpus=cores(), object_store_memory=OBJECTS, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = shorten(str(error), 300)
        if address == "ray":
            raise VssError(f"Ray can't be used on this machine: {said}", "--engine local does without it") from error
        raise VssError(f"no Ray cluster answers at {address}: {said}", "check the address and the port") from error
    try:
        yield ray
    finally:
        ray.shutdown()
