"""Batches of crops, loaded by loader processes or by this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from traceback import clear_frames
from types import FrameType, TracebackType
from typing import Any

import torch
from torch.utils.data import DataLoader

from vsscli.data.batches import Failure, TrainItems
from vsscli.data.order import StepSampler
from vsscli.data.samples import Crops, present_labels, stacked
from vsscli.engine.signals import signals_blocked, unblock_signals
from vsscli.errors import VssError

Flag = Any
"""A number shared between processes (ctypes has no type for it)."""


class TrainingLoader:
    """Batches in order, from this process or from loader processes; made by `training_loader`."""

    def __init__(self, loader: DataLoader[Crops | Failure], ending: Flag) -> None:
        self._loader, self._ending = loader, ending

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Crops]:
        with signals_blocked(), _no_news_of_children():
            batches = iter(self._loader)
        try:
            while True:
                batch = _next(batches)
                if batch is None:
                    return
                if isinstance(batch, Failure):
                    raise VssError(batch.message, batch.hint)
                yield batch
        except LostLoader as error:
            clear_frames(error.__traceback__)
            if error.__cause__ is not None:
                clear_frames(error.__cause__.__traceback__)
            raise
        finally:
            self._ending.value = 1  # workers that do not end by themselves may be ended by a signal
            # Torch ends its workers when the iterator is deleted. An error's traceback keeps this frame, and those that
            # were cleared, alive and would keep the iterator, as long as somebody keeps the error.
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
    """Load this process's share of batches of crops.

    Parameters
    ----------
    items
        The frames and their augmentation.
    batch_size, start, steps, rank, world
        See `StepSampler`.
    seed
        Seed of order and augmentation. Two loaders that run side by side should have different ones.
    workers
        Number of loader processes; 0 loads in this one. Errors in frames are raised while iterating.
    pin
        Whether to put batches into page-locked memory, so that copies to a CUDA device are asynchronous.
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
        generator=torch.Generator(),  # otherwise torch draws the workers' base seed from the global generator
    )
    return TrainingLoader(loader, ending)


@contextmanager
def _no_news_of_children() -> Iterator[None]:
    """Take back the handler with which torch raises an error in the middle of anything when a loader process ends, even
    while it ends them itself. Without it the error comes where a batch is waited for, within five seconds."""
    known = hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGCHLD) if known else None
    yield
    if before is not None:
        signal.signal(signal.SIGCHLD, before)


class LostLoader(VssError):
    """A loader process died."""


def _next(batches: Iterator[Crops | Failure]) -> Crops | Failure | None:
    """The next batch, `None` after the last one.

    Raises
    ------
    LostLoader
        A loader process died: torch notices that it is gone, or its half-sent batch can't be received.
    """
    try:
        return next(batches, None)
    except (RuntimeError, OSError, EOFError) as error:
        processes: Sequence[BaseProcess] = getattr(batches, "_workers", ())
        # What can't be received may come from a process that is about to end.
        ended = wait([process.sentinel for process in processes], timeout=1) if processes else []
        for process in processes:
            if process.sentinel in ended:
                raise _lost(process) from error
        raise


def _lost(process: BaseProcess) -> LostLoader:
    process.join()
    code = process.exitcode or 0
    how = f"was killed by signal {signal.strsignal(-code)}" if code < 0 else f"ended with code {code}"
    why = "memory probably ran out"
    if code == -getattr(signal, "SIGBUS", 0):
        why = "shared memory ran out, of which containers have little"
    return LostLoader(
        f"a loader process died: process {process.pid} {how}",
        f"{why}: --set train.workers=0 loads in the training process, a lower train.batch_size needs less",
    )


def _collate(items: list[Crops | Failure]) -> Crops | Failure:
    for item in items:
        if isinstance(item, Failure):
            return item
    crops: Crops = stacked(items)
    if crops.images.ndim == 5:  # clips: frames one after another
        crops = crops.each(partial(torch.flatten, end_dim=1), partial(torch.flatten, end_dim=1))
    return crops._replace(present=present_labels(crops.labels))


def _answer_to_training(ending: Flag, parent: int, number: int) -> None:
    """Leave signals to the training process.

    Ctrl-C reaches every process of a terminal, SIGTERM and SIGHUP every process of a job (`timeout`, systemd, SLURM).
    The training process needs its loaders to finish its step, and ends them itself.
    """

    def end(signal_number: int, frame: FrameType | None) -> None:
        if ending.value or os.getppid() != parent:
            os._exit(128 + signal_number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    sys.excepthook = _report_unless_disconnected
    unblock_signals()


def _report_unless_disconnected(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    # The thread that passes tensors on fails like this if the training process ends in the middle of one.
    if not isinstance(error, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _start_method() -> str | None:
    """Fork on Linux: workers start in milliseconds and share loaded modules; others import torch again (seconds).

    That is safe here because workers never use an accelerator and run torch with one thread.
    """
    return "fork" if sys.platform == "linux" else None
