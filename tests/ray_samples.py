"""Predictions for the tests of a Ray cluster: their processes die at random, and every node is a machine of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import ray

from vsscli.data.video import Video
from vsscli.inference.run import Done
from vsscli.pipeline.task import Predicting
from vsscli.talk import Talk


@dataclass(frozen=True)
class Mortal(Predicting):
    """Its processes die within a second or so, until a folder has a file for each of ``most`` deaths."""

    deaths: Path
    most: int

    def __call__(self, videos: Sequence[Video], threads: int, talk: Talk) -> Iterator[Done]:
        node = ray.get_runtime_context().get_node_id()
        socket.gethostname = lambda: node
        number = len(list(self.deaths.iterdir()))
        timer = threading.Timer(random.Random(number).uniform(0, 1.5), self.die)
        timer.daemon = True
        timer.start()
        yield from super().__call__(videos, threads, talk)

    def die(self) -> None:
        """Kill this process, unless there were enough deaths."""
        for number in range(self.most):
            try:
                (self.deaths / str(number)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
