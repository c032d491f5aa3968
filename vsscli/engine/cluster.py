"""Work on a Ray cluster: an actor for each share of the cores, a call for each run of videos.

Scheduling and retries are Ray's. An actor whose process or node dies is started again elsewhere and repeats its call;
what it had written of a video is found in the store and continued, so the bytes are the same. Messages and progress
come back with the results of a call, so that nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vsscli.engine.relay import Relay, Send
from vsscli.errors import VssError
from vsscli.threads import cores

RETRIES = 20
"""Times that an actor is started again, and a call repeated: deaths of nodes are survived, a call that always runs out
of memory is not."""

OBJECTS = 200 * 2**20
"""Bytes of Ray's object store where a cluster of this machine is started: only tasks and counts go through it."""


class _Actor:
    """Works on groups of videos, with one thread."""

    def __init__(self, task: Any) -> None:
        self._task = task

    def work(self, number: int, group: Sequence[Any]) -> tuple[int, list[Any], list[tuple[str, Any]]]:
        heard: list[tuple[str, Any]] = []
        results = list(self._task(group, 1, Relay(lambda kind, value: heard.append((kind, value)))))
        return number, results, heard


def on_ray(
    address: str, task: Any, groups: Iterable[Sequence[Any]], workers: int | None, hear: Send
) -> Generator[Any, None, None]:
    """Results of a task over groups of videos, in order; see `vsscli.engine.engine.Engine.map`.

    Parameters
    ----------
    address
        ``ray``: the cluster that this machine belongs to, else a new one of its cores; ``ray://HOST:PORT``.
    task, hear
        The task, and what receives its messages.
    groups
        The videos, in groups.
    workers
        Actors; `None`: one per core of the cluster.
    """
    with _connected(address) as ray:
        from ray.util import ActorPool

        jobs = list(enumerate(groups))
        count = min(workers or max(1, int(ray.cluster_resources().get("CPU", 1))), len(jobs))
        try:
            sent = ray.put(task)
        except TypeError as error:
            raise VssError(f"this can't be sent to other machines: {error}", "use --engine local") from error
        options = {"num_cpus": 1, "max_restarts": RETRIES, "max_task_retries": RETRIES}
        actor = ray.remote(**options)(_Actor)
        pool = ActorPool([actor.remote(sent) for _ in range(count)])
        for job in jobs:
            pool.submit(lambda actor, job: actor.work.remote(*job), job)
        finished: dict[int, list[Any]] = {}
        following = 0
        while pool.has_next():
            try:
                number, results, heard = pool.get_next_unordered()
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            except ray.exceptions.RayError as error:
                raise VssError(
                    f"Ray gave up a part of the work after {RETRIES} attempts: {str(error).strip().splitlines()[0]}",
                    "what is written is kept; `ray status` shows the cluster, and the same command continues",
                ) from error
            # An actor without work gives its cores back, to one that lost its node and waits for others.
            pool.pop_idle()
            for message in heard:
                hear(*message)
            finished[number] = results
            while following in finished:
                yield from finished.pop(following)
                following += 1


@contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster while the block runs; an earlier connection is kept."""
    try:
        import ray
    except ImportError as error:
        raise VssError("--engine ray needs Ray, which is not installed", 'pip install "vsscli[ray]"') from error
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
        said = (str(error).strip().splitlines() or [""])[0]
        raise VssError(f"no Ray cluster answers at {address}: {said}", "check the address and the port") from error
    try:
        yield ray
    finally:
        ray.shutdown()
