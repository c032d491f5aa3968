"""Running ``vss`` as a user does: in a separate process."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import vsscli

SOURCES = Path(vsscli.__file__).parents[1]


def environment(**changes: str) -> dict[str, str]:
    """The environment for a process that finds this vsscli from any folder."""
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "VSS_WORKSPACE", "VSPW_ROOT")}
    return kept | {"PYTHONPATH": str(SOURCES)} | changes


def vss(*arguments: str | Path, cwd: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run a verb to its end."""
    return subprocess.run(
        [sys.executable, "-m", "vsscli", *map(str, arguments)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def kill_training(options: list[str], journal: Path, lines: int) -> None:
    """Start ``vss train``, and kill it with SIGKILL once its journal has ``lines`` lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vsscli", "train", *options, "--quiet"],
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 240
    while not (journal.exists() and len(journal.read_text().splitlines()) >= lines):
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    process.wait()


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python script that is given as text."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
