"""What runs on the machines of a Ray cluster: actors that work, and one that keeps what they report."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from vsscli import __version__
from vsscli.engine.attempt import attempt
from vsscli.engine.local import Stopped
from vsscli.engine.relay import Relay
from vsscli.errors import VssError

EVERY = 1.0
"""Seconds between two reports of an actor."""


class Report(NamedTuple):
    """What has happened so far in a call: always all of it, so that one may be lost or come twice.

    Parameters
    ----------
    call
        Its number.
    done
        Units of work, as `vsscli.engine.relay.Relay` sends them.
    said
        Messages: ``say`` or ``warn``, and the text.
    """

    call: int
    done: int
    said: tuple[tuple[str, str], ...]


class Failed(Exception):
    """A call that failed: its last report, and the error."""

    def __init__(self, report: Report, error: Exception) -> None:
        super().__init__(report, error)
        self.report, self.error = report, error


class Inbox:
    """Keeps what actors report until the command fetches it."""

    def __init__(self) -> None:
        self._heard: dict[int, Report] = {}
        self._ended = False

    def put(self, report: Report) -> bool:
        """Take a report; returns whether the work is still wanted."""
        self._heard[report.call] = report
        return not self._ended

    def fetch(self) -> list[Report]:
        """The latest report of each call since the last time."""
        heard, self._heard = self._heard, {}
        return list(heard.values())

    def end(self) -> None:
        """The work is no longer wanted: actors stop at their next report."""
        self._ended = True


class Caller(NamedTuple):
    """The command whose work actors do.

    It comes with every call, not once with the actor's start: Ray warns of an actor that is started with references.

    Parameters
    ----------
    task
        The task, packed; or a reference to it in Ray's object store.
    inbox
        The actor that takes reports.
    folder, version
        The command's working directory, and its version of vss.
    name
        Its name among other commands.
    """

    task: Any
    inbox: Any
    folder: str
    version: str
    name: str

    def settle(self) -> Callable[..., Iterable[Any]]:
        """Make relative paths mean here what they mean to the command, and unpack the task, which gets one thread."""
        if self.version != __version__:
            raise VssError(
                f"vss is {__version__} on {socket.gethostname()}, and {self.version} where the command runs",
                "install the same version on all machines",
            )
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise VssError(
                f"{socket.gethostname()} has no folder {self.folder}, in which the command runs",
                "every machine needs the files at the same paths: docs/scale.md",
            ) from error
        import ray

        os.environ["OMP_NUM_THREADS"] = "1"  # before the task brings torch; Ray leaves what the machine's shell says
        task: Callable[..., Iterable[Any]] = pickle.loads(
            self.task if isinstance(self.task, bytes) else ray.get(self.task)
        )
        return task


class Actor:
    """Works on groups of videos, with one thread. The task is unpacked once, and may keep a network."""

    def __init__(self) -> None:
        self._task: Callable[..., Iterable[Any]] | None = None

    def work(self, number: int, group: Sequence[Any], caller: Caller) -> tuple[list[Any], Report]:
        """The results of a group of videos, and the last report.

        Raises
        ------
        Failed
            The task did, whatever its error.
        """
        reporting = _Reporting(number, caller.inbox)
        try:
            if self._task is None:  # here, because Ray would take an error at the start for a death
                self._task = caller.settle()
            with attempt(f"{caller.name}-{number}"):
                results = list(self._task(group, 1, Relay(reporting)))
        except Exception as error:
            raise Failed(reporting.report, error) from error
        return results, reporting.report


class _Reporting:
    """Sends reports from time to time; raises `Stopped` if the work is no longer wanted."""

    def __init__(self, call: int, inbox: Any) -> None:
        self.report = Report(call, 0, ())
        self._inbox = inbox
        self._next = 0.0
        self._answer: Any = None

    def __call__(self, kind: str, value: Any) -> None:
        call, done, said = self.report
        self.report = Report(call, done + value, said) if kind == "done" else Report(call, done, (*said, (kind, value)))
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + EVERY
        if not self._is_wanted():
            raise Stopped
        self._answer = self._inbox.put.remote(self.report)

    def _is_wanted(self) -> bool:
        """The answer to the last report, if it is there: work does not wait for it."""
        import ray

        with suppress(ray.exceptions.RayError):
            if self._answer is not None and ray.wait([self._answer], timeout=0)[0]:
                return bool(ray.get(self._answer))
        return True
