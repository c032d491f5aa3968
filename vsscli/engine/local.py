"""Work in processes of this machine.

They are started afresh, never forked: a fork of a program that has threads, or has used torch, may hang. They do not
import the program's own script, so a script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import parent_process, resource_tracker
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import Any

from vsscli.engine.relay import EVERY, Relay, Send
from vsscli.engine.signals import signals_blocked, unblock_signals
from vsscli.errors import VssError

AHEAD = 2
"""Groups of videos begun and not yet consumed, per process."""

PATIENCE = 0.1
"""Seconds after which the thread that listens looks whether it is still needed."""


class Stopped(Exception):
    """The work of this process is no longer wanted."""


def packed(task: object) -> bytes | None:
    """A task as bytes for another process; `None` if it can't be sent, or belongs to the program's own script."""
    try:
        data = pickle.dumps(task)
    except Exception:  # whatever an object raises that does not want to be copied
        return None
    return None if b"__main__" in data else data


def in_processes(
    task: bytes, groups: Iterable[list[Any]], processes: int, threads: int, hear: Send
) -> Generator[Any, None, None]:
    """Results of a packed task over groups of videos, in order; see `vsscli.engine.engine.Engine.map`."""
    _track_resources()
    context = _Spawn()
    receiver, sender = context.Pipe(duplex=False)
    stop = context.RawValue("b", 0)
    begin = (task, threads, sender, context.Lock(), stop)
    pool = ProcessPoolExecutor(processes, context, _begin, begin)
    with _listening(receiver, hear, stop):
        begun: deque[Future[list[Any]]] = deque()
        try:
            for group in groups:
                with signals_blocked():
                    begun.append(pool.submit(_work, group))
                if len(begun) >= AHEAD * processes:
                    yield from begun.popleft().result()
            while begun:
                yield from begun.popleft().result()
        except BrokenProcessPool as error:
            raise VssError(
                "a worker process died; probably memory ran out, and the system ended it",
                "fewer --workers need less; what is written is kept, so run the same command again",
            ) from error
        finally:
            stop.value = 1
            pool.shutdown(wait=True, cancel_futures=True)


def _track_resources() -> None:
    """Start Python's process that tracks semaphores such that SIGHUP, which reaches it too, does not end it: a new one
    would complain about everything that it has not seen. It ignores Ctrl-C and SIGTERM anyway."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
        return
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        resource_tracker.ensure_running()
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL if before is None else before)


@contextmanager
def _listening(receiver: Any, hear: Send, stop: Any) -> Iterator[None]:
    """Pass on what processes send, in a thread of its own, until the block ends and nothing is left.

    An error of ``hear`` stops the processes and is raised here, as it would be if this process did the work.
    """
    ended = threading.Event()
    errors: list[Exception] = []

    def listen() -> None:
        while receiver.poll(0 if ended.is_set() else PATIENCE) or not ended.is_set():
            if not receiver.poll():
                continue
            message = receiver.recv()  # always, or those that send would wait
            try:
                if not errors:
                    hear(*message)
            except Exception as error:
                errors.append(error)
                stop.value = 1

    thread = threading.Thread(target=listen, name="vss-listen", daemon=True)
    thread.start()
    try:
        yield
    except Stopped:
        if not errors:
            raise
    finally:
        ended.set()
        thread.join(1)  # a process that was killed while sending leaves half a message
    if errors:
        raise errors[0]


# In a worker process


class _Worker:
    """The task of this process, and the way back."""

    def __init__(self, task: bytes, threads: int, relay: Relay) -> None:
        self._packed, self.threads, self.relay = task, threads, relay
        self._task: Callable[..., Iterable[Any]] | None = None

    def work(self, group: list[Any]) -> list[Any]:
        if self._task is None:  # here and not at the start, where an error would only end the process
            self._task = pickle.loads(self._packed)
        return list(self._task(group, self.threads, self.relay))


_worker: _Worker


def _begin(task: bytes, threads: int, sender: Any, lock: Any, stop: Any) -> None:
    global _worker
    _worker = _Worker(task, threads, Relay(partial(_send, sender, lock, stop), EVERY))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process of a terminal; the first one answers
    unblock_signals()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _send(sender: Any, lock: Any, stop: Any, kind: str, value: Any) -> None:
    if stop.value:
        raise Stopped
    with lock:
        sender.send((kind, value))


def _end_with_parent() -> None:
    """A program that is killed can't end its processes, and they would wait for work for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(group: list[Any]) -> list[Any]:
    return _worker.work(group)


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        # The start of a process looks here for the script that it should import.
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            return SpawnProcess._Popen(process_obj)
        finally:
            sys.modules["__main__"] = script


class _Spawn(SpawnContext):
    Process = _Process
