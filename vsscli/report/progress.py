"""Messages and progress on stderr.

In a terminal or a notebook, progress is a bar; elsewhere, an occasional line with count, rate and remaining time. Of
several processes, only the first reports.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from vsscli.printable import printable

if TYPE_CHECKING:
    import rich.console
    from rich.progress import Progress as Bars

SECONDS_BETWEEN_LINES = 10.0
SECONDS_BETWEEN_TENTHS = 2.0

SECONDS_OF_SPEED = 600.0
"""A bar's speed is averaged over this time: a step of a large network takes a minute."""

AT_ONCE = 1.0
"""Work reported at once by then was cached, and does not count for the speed."""


def is_first_process() -> bool:
    """Whether this is the process that reports; launchers number processes in these variables."""
    names = ("RANK", "LOCAL_RANK", "NODE_RANK", *(("SLURM_PROCID",) if "SLURM_STEP_ID" in os.environ else ()))
    return all(os.environ.get(name, "0") in ("", "0") for name in names)


def is_terminal(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can move its cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel, which can display rich's output."""
    kernel = sys.modules.get("IPython")
    shell = kernel.get_ipython() if kernel is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


class Progress:
    """A listener (`vsscli.talk.Talk`) that writes to stderr.

    Parameters
    ----------
    quiet
        Show warnings only.
    clock
        Returns seconds, for rates.
    """

    def __init__(self, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = is_first_process()
        self.quiet = quiet or not self.first
        self._clock = clock
        self._lock = threading.Lock()
        self._bars: Bars | None = None
        self._tracked = 0

    def say(self, text: str) -> None:
        """Report a fact, in one line."""
        if not self.quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """Report what may surprise the user; ``--quiet`` does not silence it."""
        if self.first:
            self._line(f"warning: {text}")

    @contextmanager
    def track(self, label: str, total: int, unit: str = "frame") -> Iterator[Callable[[int], None]]:
        """Follow long work.

        Parameters
        ----------
        label
            Name of the work.
        total
            Number of units; 0: unknown.
        unit
            Name of a unit, in the singular.

        Yields
        ------
        callable
            Called with the number of units just done, from any thread.
        """
        label = printable(label)
        if self.quiet:
            yield lambda done: None
        elif is_terminal(sys.stderr) or in_notebook():
            with self._bar(label, total, unit) as advance:
                yield advance
        else:
            pace = Pace(label, total, unit, self._clock)

            def report(done: int) -> None:
                with self._lock:
                    line = pace.advance(done)
                    if line:
                        print(line, file=sys.stderr, flush=True)

            yield report
            print(pace.summary(), file=sys.stderr, flush=True)

    def _line(self, text: str) -> None:
        text = printable(text)
        # Above the bars that are being drawn, not through them.
        bars = self._bars
        if bars is not None:
            bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def _bar(self, label: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
        with self._lock:
            if self._bars is None:
                self._bars = _bars()
                self._bars.start()
            self._tracked += 1
            bars = self._bars
        task = bars.add_task(label, total=total or None, unit=f"{unit}s")
        began, first = self._clock(), [True]

        def advance(done: int) -> None:
            if first and first.pop() and self._clock() - began < AT_ONCE:
                bars.reset(task, completed=done)
            else:
                bars.advance(task, done)

        try:
            yield advance
        finally:
            bars.stop_task(task)
            with self._lock:
                self._tracked -= 1
                if self._tracked == 0:
                    bars.stop()
                    self._bars = None


class Pace:
    """Progress as lines of text; see `Progress.track`. ``clock`` returns seconds."""

    def __init__(self, label: str, total: int, unit: str, clock: Callable[[], float]) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self._there = 0
        self._clock = clock
        self._began = self._reported = clock()
        self._tenth = 0

    def advance(self, done: int) -> str:
        """Count, and return a line every ten seconds, or every tenth of the work if that is not too often."""
        now = self._clock()
        if not self.done and now - self._began < AT_ONCE:
            self._there = done
        self.done += done
        tenth = 10 * self.done // self.total if self.total else 0
        silent = now - self._reported
        due = silent >= SECONDS_BETWEEN_LINES or (tenth > self._tenth and silent >= SECONDS_BETWEEN_TENTHS)
        if not due or (self.total and self.done >= self.total):
            return ""
        self._reported, self._tenth = now, tenth
        rate = (self.done - self._there) / (now - self._began)
        if not self.total:
            return f"{self.label}: {self.done} {self.unit}s, {self._speed(rate)}"
        share = f"{100 * self.done // self.total} %"
        left = f", {duration((self.total - self.done) / rate)} left" if rate else ""
        return f"{self.label}: {self.done}/{self.total} {self.unit}s ({share}), {self._speed(rate)}{left}"

    def summary(self) -> str:
        """The line at the end."""
        seconds = self._clock() - self._began
        speed = f", {self._speed((self.done - self._there) / seconds)}" if seconds >= 1 else ""
        units = self.unit if self.done == 1 else f"{self.unit}s"
        return f"{self.label}: {self.done} {units} in {duration(seconds)}{speed}"

    def _speed(self, rate: float) -> str:
        number, per = pace(rate)
        return f"{number} {self.unit}s/{per}"


def pace(rate: float) -> tuple[str, str]:
    """A rate per second as a readable number and its unit of time: ``("12", "min")`` for 0.2."""
    factor, per = (1, "s") if rate >= 1 or not rate else (60, "min") if rate * 60 >= 1 else (3600, "h")
    scaled = rate * factor
    return f"{scaled:.{0 if scaled >= 100 else 1}f}", per


def duration(seconds: float) -> str:
    """A readable time: ``0.4 s``, ``12 s``, ``3 min 05 s``, ``2 h 10 min``."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _bars() -> Bars:
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn
    from rich.progress import Progress as Bars
    from rich.progress import TimeRemainingColumn as Remaining
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            return Text("/".join(pace(speed)) if speed else "", style="progress.data.speed")

    return Bars(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        Speed(),
        Remaining(elapsed_when_finished=True),
        console=screen(sys.stderr),
        speed_estimate_period=SECONDS_OF_SPEED,
    )


def screen(stream: TextIO) -> rich.console.Console:
    """A rich console on a stream."""
    from rich.console import Console

    return Console(file=stream)
