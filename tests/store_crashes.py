"""Writers that die at a given step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from store_samples import SIZE, class_table, distributions, encoded, prediction_header, stems, write_predictions

from vsscli import files
from vsscli.store.header import Header
from vsscli.store.writer import StoreWriter

STEPS = ("replace", "rename", "fsync")
"""The calls of `os` that the disk may refuse."""

CRASHES = (*STEPS, "mkdir", "rmdir", "unlink")
"""The calls of `os` between which a crash can fall."""

FRAMES = 66
"""Two segments."""

SAMPLES = {
    "prediction": (prediction_header(), encoded(distributions(1, FRAMES), prediction_header().parsed_encoding())),
    "pseudo": (
        Header("pseudo", class_table(), "", {"level": 76}, {}),
        {"pseudo_label": distributions(1, FRAMES).argmax(axis=1).astype(np.uint8)},
    ),
}
"""Headers and arrays of a video of predictions (four arrays) and of one of pseudo-labels (one array)."""


def part_of(path: Path, process: int) -> Path:
    """The unfinished version of a file that a process of this machine left."""
    own = files.part_of(path)
    return own.with_name(own.name.replace(f"-{os.getpid()}.", f"-{process}."))


@contextmanager
def at_step(number: int, action: Callable[[], None], steps: tuple[str, ...] = STEPS) -> Iterator[None]:
    """Call ``action`` before each step from the ``number``-th, counted from 0. Nothing is synced meanwhile."""
    count = iter(range(10**6))
    plain = {name: getattr(os, name) for name in steps}
    doing = {**plain, "fsync": lambda handle: None}

    def step(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(count) >= number:
                action()
            return doing[name](*arguments, **options)

        return call

    for name in steps:
        setattr(os, name, step(name))
    try:
        yield
    finally:
        for name in steps:
            setattr(os, name, plain[name])


def write_sample(path: Path, kind: str) -> None:
    """Write one of the `SAMPLES`."""
    header, arrays = SAMPLES[kind]
    with StoreWriter(path, header) as writer:
        for segment in writer.pending("street", stems(FRAMES), SIZE):
            frames = slice(segment.start, segment.stop)
            writer.write("street", segment, {name: values[frames] for name, values in arrays.items()})


def write_and_die(path: Path, kind: str, number: int) -> None:
    """Run in a separate process: nothing happens after the step, not even clean-up."""
    with at_step(number, lambda: os._exit(9), CRASHES):
        write_sample(path, kind)


def write_video(path: Path, video: str, ready: Any) -> None:
    ready.wait(30)
    write_predictions(path, prediction_header(), {video: distributions(len(video), 3)})


def dead_process() -> int:
    """The id of a process that has ended."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child
