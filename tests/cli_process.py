"""Running ``vss`` as a user does: in a separate process, forked from one that has everything imported (`forked`)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from forked import Forked

import vsscli

SOURCES = Path(vsscli.__file__).parents[1]


LEFT_OUT = ("NO_COLOR", "VSS_WORKSPACE", "VSPW_ROOT", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""What the user of a test has not set; the last two are set by every command that was run within the tests' process."""


def environment(**changes: str) -> dict[str, str]:
    """The environment for a process that finds this vsscli from any folder."""
    kept = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    return kept | {"PYTHONPATH": str(SOURCES)} | changes


def vss(*arguments: str | Path, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    process = Forked(arguments, cwd, environment(**changes))
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    return subprocess.CompletedProcess([*map(str, arguments)], process.wait(), out, err)


def shell(line: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which ``vss`` is the program."""
    return subprocess.run(
        ["/bin/bash", "-c", f'vss() {{ "{sys.executable}" -m vsscli "$@"; }}; {line}'],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Running:
    """A command at work, in a process group of its own.

    With ``before``, the words before ``vss`` on a command line, it is started by the system, and its streams are pipes.
    """

    def __init__(self, *arguments: str | Path, cwd: Path, before: Sequence[str] = ()) -> None:
        self.process: Forked | subprocess.Popen[str]
        if not before:
            self.process = Forked(arguments, cwd, environment())
            return
        self.process = subprocess.Popen(
            [*before, sys.executable, "-m", "vsscli", *map(str, arguments)],
            cwd=cwd,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until(self, ready: Callable[[], object]) -> None:
        """Wait for a sign of progress."""
        deadline = time.monotonic() + 240
        while not self._is(ready):
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate()[1]
            time.sleep(0.01)

    @staticmethod
    def _is(ready: Callable[[], object]) -> bool:
        try:
            return bool(ready())
        except FileNotFoundError:  # a folder that it listed is gone
            return False

    def signal(self, number: int) -> None:
        """Send a signal to all its processes, as a terminal does."""
        os.killpg(self.process.pid, number)

    def end(self) -> tuple[int, str]:
        """Wait for the end: exit code and stderr."""
        _, err = self.process.communicate(timeout=120)
        return self.process.returncode, err

    def kill(self) -> None:
        """Leave nothing of it behind."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
            self.process.communicate()


def lines_of(path: Path) -> int:
    """How many lines a file has; 0 if it does not exist."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def kill_training(options: list[str], journal: Path, lines: int) -> None:
    """Start ``vss train``, and kill it with SIGKILL once its journal has ``lines`` lines."""
    run = Running("train", *options, "--quiet", cwd=Path.cwd())
    run.wait_until(lambda: lines_of(journal) >= lines)
    run.kill()


def start(script: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    """Start a Python script that is given as text."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
