"""When one of a command's processes dies, the others end too, and say why; they would wait for it for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

LOOK = 0.5
"""Seconds between two looks at the others."""

GRACE = 20.0
"""Seconds that a process has to end by itself: usually the next exchange with a dead process fails."""

LOST = ("Connection closed by peer", "Connection reset by peer", "remote process exited", "communicator was aborted")
"""What gloo and NCCL say of a process that is no longer there."""


FIRST = "VSS_FIRST_PROCESS"
"""The variable in which a process tells those that it starts its number: they may start to look when it has died."""


def announce() -> None:
    """Prepare to start processes that watch this one."""
    os.environ[FIRST] = str(os.getpid())


def end_with_parent() -> None:
    """Watch the process that started this one."""
    parent = int(os.environ.get(FIRST, os.getppid()))
    _watch(lambda: "the first process of this command died" if os.getppid() != parent else "")


def end_with(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Watch processes that this one has started."""

    def dead() -> str:
        for number, child in enumerate(children, start=2):
            code = child.poll()
            # From 128 on: asked to end by a signal that it answered, as all are.
            if code is not None and code != 0 and code < 128:
                return f"process {number} of {len(children) + 1} of this command {_how(code)}"
        return ""

    _watch(dead)


def is_lost(error: BaseException) -> bool:
    """Whether an error of an exchange between processes says that another one is no longer there."""
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST)


def _how(code: int) -> str:
    if code > 0:
        return f"ended with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _watch(dead: Callable[[], str]) -> None:
    def look() -> None:
        while not (found := dead()):
            time.sleep(LOOK)
        time.sleep(GRACE)
        with suppress(OSError):
            os.write(2, f"error: {found}, so this one ends, too; what is saved stays\n".encode())
        os._exit(1)

    threading.Thread(target=look, name="vss-peers", daemon=True).start()
