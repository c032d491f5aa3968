"""Batches of crops, loaded by processes of their own or by this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader, default_collate

from vsscli.data.batches import Failure, TrainItems
from vsscli.data.order import StepSampler
from vsscli.data.samples import Crops
from vsscli.data.workers import in_peace_no_more, started_in_peace
from vsscli.errors import VssError

Flag = Any
"""A number that processes share (ctypes, which has no type of its own for it)."""


class TrainingLoader:
    """Batches in order, from this process or from loader processes; made by `training_loader`."""

    def __init__(self, loader: DataLoader[Crops | Failure], ending: Flag) -> None:
        self._loader, self._ending = loader, ending

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Crops]:
        with started_in_peace():
            batches = iter(self._loader)
        try:
            while True:
                batch = next(batches, None)
                if batch is None:
                    return
                if isinstance(batch, Failure):
                    raise VssError(batch.message, batch.hint)
                yield batch
        finally:
            self._ending.value = 1  # what does not end by itself is ended by a signal
            # Torch ends its workers when the iterator goes. An error's traceback keeps this frame and would keep the
            # iterator, until a garbage collection that takes it apart in no order and waits seconds for each worker.
            del batches


def training_loader(
    items: TrainItems,
    *,
    batch_size: int,
    seed: int,
    start: int,
    steps: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
    pin: bool = False,
) -> TrainingLoader:
    """Load batches of crops, this process's share of each.

    Parameters
    ----------
    items
        What to load.
    batch_size, start, steps, rank, world
        See `StepSampler`.
    seed
        Of order and augmentation. Two loaders that run side by side should differ in it.
    workers
        Loader processes; 0 loads in this one. Whatever was wrong with a frame is raised while iterating.
    pin
        Put batches into page-locked memory, from which copies to a CUDA device need not wait.
    """
    ending: Flag = multiprocessing.get_context(_start_method()).RawValue("b", 0)
    loader: DataLoader[Crops | Failure] = DataLoader(
        items,
        batch_sampler=StepSampler(items.order(seed), batch_size, start, steps, rank, world),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=partial(_answer_to_training, ending, os.getpid()),
        prefetch_factor=2 if workers else None,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # else torch draws the workers' base seed from the global generator
    )
    return TrainingLoader(loader, ending)


def _collate(items: list[Crops | Failure]) -> Crops | Failure:
    for item in items:
        if isinstance(item, Failure):
            return item
    crops: Crops = _stacked(items)
    return crops


def _stacked(parts: Sequence[Any]) -> Any:
    """Records of tensors as one; where a field is None in one of them, it is so in all."""
    if isinstance(parts[0], tuple):
        return type(parts[0])(*(_stacked(field) for field in zip(*parts, strict=True)))
    # Inside a worker it stacks right into shared memory.
    return None if parts[0] is None else default_collate(list(parts))


def lost_loader(error: RuntimeError) -> VssError | None:
    """The error for a loader process that died, if that is what torch says; it says so at any time, also elsewhere."""
    first = (str(error).splitlines() or [""])[0]
    if not first.startswith("DataLoader worker"):
        return None
    shared = "shared memory" in str(error) or "Bus error" in first
    why = "shared memory ran out, which containers have little of" if shared else "most often memory ran out"
    return VssError(
        f"a loader process died: {first}",
        f"{why}: --set train.workers=0 loads in the training process, a lower train.batch_size takes less",
    )


def _answer_to_training(ending: Flag, parent: int, number: int) -> None:
    """Leave signals to the training process.

    Ctrl-C reaches every process of a terminal, SIGTERM and SIGHUP every process of a job (`timeout`, systemd, SLURM):
    the training process needs its loaders to finish its step, and ends them itself. Torch gives a worker one thread.
    """

    def end(signal_number: int, frame: FrameType | None) -> None:
        if ending.value or os.getppid() != parent:
            os._exit(128 + signal_number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.excepthook = _tell_unless_nobody_listens
    in_peace_no_more()


def _tell_unless_nobody_listens(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # The thread that hands tensors over reports here when the training process ends in the middle of one.
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _start_method() -> str | None:
    """Fork on Linux: workers start in milliseconds and share what is loaded, where others import torch again (seconds).

    That is safe here because workers never touch an accelerator and run torch with one thread.
    """
    return "fork" if sys.platform == "linux" else None
