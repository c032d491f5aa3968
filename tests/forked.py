"""``vss`` in processes of their own in which everything is imported already, which otherwise takes six seconds of each.

A process that has imported torch and used nothing of it is forked for every command. The fork then is the program: it
has its own folder, environment, streams and process group, runs ``python -m vsscli``, and ends as an interpreter does.
Only what is read while modules load is that of the first process.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

HEAVY = (
    *("vsscli.cli.failure", "vsscli.fusion.fit", "vsscli.inference.run", "vsscli.pipeline.evaluate"),
    *("vsscli.pipeline.pseudo", "vsscli.recipes.load", "vsscli.stages.run", "vsscli.training.run"),
)

_servers: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


class Forked:
    """A command at work, with what `subprocess.Popen` offers for one; what it prints goes to files."""

    def __init__(self, arguments: Sequence[str | Path], cwd: str | Path, env: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self._printed = tempfile.TemporaryFile("w+"), tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._status, theirs = socket.socketpair()
        request = json.dumps([[*map(str, arguments)], str(cwd), {**env}]).encode()
        server = _server()
        with open(os.devnull) as nothing, theirs:
            handles = [stream.fileno() for stream in (nothing, *self._printed, theirs)]
            socket.send_fds(server, [_packed(len(request))], handles)
            server.sendall(request)
        self.pid = _received(self._status)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("vss", timeout or 0)
            self.returncode = _received(self._status)
        return self.returncode

    def poll(self) -> int | None:
        """The exit code; `None` while it is at work."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; returns stdout and stderr."""
        self.wait(timeout)
        for file in self._printed:
            file.seek(0)
        return self._printed[0].read(), self._printed[1].read()

    def send_signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as no program can refuse."""
        self.send_signal(signal.SIGKILL)


def _server() -> socket.socket:
    """The way to the process that forks, which ends with this one."""
    if not _servers:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-c", f"import forked; forked.serve({theirs.fileno()})"],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent), *sys.path)))},
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is not for it
            )
        _servers.append((ours, process))
        atexit.register(ours.close)
    return _servers[0][0]


def _packed(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def _received(end: socket.socket) -> int:
    data = end.recv(4, socket.MSG_WAITALL)
    assert len(data) == 4, "the process that forks has ended"
    return int.from_bytes(data, "big", signed=True)


# In the process that forks


def serve(handle: int) -> None:
    """Fork a process for every request that comes through a socket, until nobody is left who could ask."""
    for name in HEAVY:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that watch
    asked = socket.socket(fileno=handle)
    while True:
        size, handles, *_ = socket.recv_fds(asked, 4, 4)
        if not size:
            return
        request = json.loads(asked.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL))
        if os.fork() == 0:
            asked.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _start_and_watch(request, handles)
        for number in handles:
            os.close(number)


def _start_and_watch(request: list[Any], handles: list[int]) -> NoReturn:
    process = os.fork()
    if process == 0:
        _be_the_program(*request, handles)
    status = socket.socket(fileno=handles[3])
    with suppress(OSError):  # nobody wants to know any more
        status.sendall(_packed(process))
        status.sendall(_packed(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])))
    os._exit(0)


def _be_the_program(arguments: list[str], cwd: str, env: dict[str, str], handles: list[int]) -> NoReturn:
    import torch

    os.setsid()
    for number, handle in enumerate(handles[:3]):
        os.dup2(handle, number)
    for handle in handles:
        os.close(handle)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "OMP_NUM_THREADS" in env:
        torch.set_num_threads(int(env["OMP_NUM_THREADS"]))
    sys.argv = ["vss", *arguments]
    runpy.run_module("vsscli", run_name="__main__", alter_sys=True)
    sys.exit()
