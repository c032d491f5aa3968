"""Training batches that depend on nothing but (seed, step, slot).

Sample n = step * batch + slot takes the frame that `data.order` tells from seed and n, and draws its augmentation from
generators seeded with (seed, step, slot). So batches are the same for any
number of loader processes, the slots of several training processes make up the batch of one, and training that goes on
at step s sees what it would have seen: there is no loader state to save.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from vsscli.data.augment import TrainAugment, Wanted
from vsscli.data.masks import MaskIds, to_classes
from vsscli.data.order import BLOCK, Address, Order, StepSampler
from vsscli.data.pixels import read_image
from vsscli.data.rare import RareFirst
from vsscli.data.videos import FolderVideo, Frame
from vsscli.data.workers import in_peace_no_more, started_in_peace
from vsscli.errors import VssError

Flag = Any
"""A number that processes share (ctypes, which has no type of its own for it)."""

LabelOf = Callable[[str, int], np.ndarray]


class Frames(Protocol):
    """Frames with labels, by number."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Image (H, W, 3) uint8 and label (H, W) uint8, class index or 255; or (L, H, W), with more maps after it.

        None where there is no label.
        """
        ...


class LabelledFrames:
    """Frames with masks.

    Parameters
    ----------
    videos
        All their frames count.
    ids, num_classes
        What the values of the masks mean.

    Raises
    ------
    VssError
        A frame has no image or no mask; when loaded, a file is damaged, of another size, or has unknown ids.
    """

    def __init__(self, videos: Sequence[FolderVideo], ids: MaskIds, num_classes: int) -> None:
        self._ids, self._num_classes = ids, num_classes
        self._frames: list[tuple[Frame, Path, Path]] = []
        for frame in (frame for video in videos for frame in video.frames):
            if frame.image is None or frame.mask is None:
                what = "image" if frame.image is None else "mask"
                raise VssError(
                    f"training frame {frame.address} has no {what}", "add it, or take the frame out of the split"
                )
            self._frames.append((frame, frame.image, frame.mask))

    def __len__(self) -> int:
        return len(self._frames)

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode a frame and its mask; see `Frames`."""
        frame, image, mask = self._frames[index]
        return _checked(frame, read_image(image), self.label(index), f"mask {mask}")

    def label(self, index: int) -> np.ndarray:
        """Decode a frame's mask alone, (H, W) uint8, class index or 255."""
        mask = self._frames[index][2]
        return to_classes(self._ids.read(mask), self._ids, self._num_classes, mask)


class UnlabelledFrames:
    """Frames whose labels something else knows, or nobody.

    Parameters
    ----------
    videos
        All their frames count.
    label_of
        Gives the label, (H, W) or (L, H, W) uint8, of a video's name and a frame's number in it. Loader processes get
        a copy, by fork or by pickle: what it holds open, it should open when it is first called. None: there are no
        labels, and only padding will be void.
    """

    def __init__(self, videos: Sequence[FolderVideo], label_of: LabelOf | None) -> None:
        self.videos, self._label_of = list(videos), label_of
        self._ends = np.cumsum([len(video) for video in videos])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Decode a frame and ask for its label; see `Frames`."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        video = self.videos[number]
        t = index - int(self._ends[number]) + len(video)
        image = video.read(t)
        if self._label_of is None:
            return image, None
        return _checked(video.frames[t], image, self._label_of(video.name, t), "its pseudo-label")


def _checked(frame: Frame, image: np.ndarray, label: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    if label.shape[-2:] != image.shape[:2]:
        raise VssError(
            f"frame {frame.address} is {image.shape[1]}x{image.shape[0]}, but {what} is "
            f"{label.shape[-1]}x{label.shape[-2]} (width x height)",
            "labels must have the size of their frames; `vss doctor --data ROOT` lists every fault",
        )
    return image, label


@dataclass(frozen=True)
class _Failure:
    """An error on its way from a loader process; torch itself would hand on its traceback as the message."""

    message: str
    hint: str


@dataclass(frozen=True)
class Portion:
    """A part of the training data: its frames, what to do with them, and how much they count.

    Parameters
    ----------
    frames
        What to take.
    augment
        What to do with it.
    thousandths
        Of 1000 samples, how many come from this part.
    rare
        What chooses its frames by class; none: they come in turn.
    """

    frames: Frames
    augment: TrainAugment
    thousandths: int
    rare: RareFirst | None = None


class TrainItems(Dataset[tuple[Tensor, Tensor] | _Failure]):
    """Augmented frames by `Address`, each drawn with generators of its own.

    Parameters
    ----------
    frames, augment
        The main part; it takes the samples that no other does.
    also
        The other parts, each with its share of the samples.
    rare
        What chooses the main part's frames by class; none: they come in turn.
    """

    def __init__(
        self, frames: Frames, augment: TrainAugment, also: Sequence[Portion] = (), rare: RareFirst | None = None
    ) -> None:
        rest = BLOCK - sum(portion.thousandths for portion in also)
        self.portions = (Portion(frames, augment, rest, rare), *also)

    def __len__(self) -> int:
        """Frames of all parts together."""
        return sum(len(portion.frames) for portion in self.portions)

    def __getitem__(self, address: Address) -> tuple[Tensor, Tensor] | _Failure:
        portion = self.portions[address.part]
        try:
            image, label = portion.frames.load(address.frame)
        except VssError as error:
            return _Failure(error.message, error.hint)
        with _generators(address.seed, address.step, address.slot):
            if address.wanted is None or portion.rare is None:
                return portion.augment(image, label)
            return portion.augment(image, label, Wanted(address.wanted, portion.rare.settings.pixels / 2))

    def order(self, seed: int) -> Order:
        """Which part and frame each sample takes."""
        return Order(
            seed,
            tuple(len(portion.frames) for portion in self.portions),
            tuple(portion.thousandths for portion in self.portions),
            tuple(portion.rare for portion in self.portions),
        )


@contextmanager
def _generators(seed: int, step: int, slot: int) -> Iterator[None]:
    """Seed the CPU's global generators from (seed, step, slot) for a while, then put them back as they were."""
    # NumPy's global generator too: libraries may draw from it, though this one does not.
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    words = np.random.SeedSequence([seed, step, slot]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    # Not torch.manual_seed: it would seed the accelerators' generators too.
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])


class TrainingLoader:
    """Batches in order, from this process or from loader processes; made by `training_loader`."""

    def __init__(self, loader: DataLoader[tuple[Tensor, Tensor] | _Failure], ending: Flag) -> None:
        self._loader, self._ending = loader, ending

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        with started_in_peace():
            batches = iter(self._loader)
        try:
            while True:
                batch = next(batches, None)
                if batch is None:
                    return
                if isinstance(batch, _Failure):
                    raise VssError(batch.message, batch.hint)
                yield batch
        except RuntimeError as error:
            lost = lost_loader(error)
            if lost is None:
                raise
            raise lost from error
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
    """Load batches.

    Parameters
    ----------
    items
        What to load.
    batch_size, start, steps, rank, world
        See `StepSampler`.
    seed
        Of order and augmentation. Two loaders that run side by side should differ in it.
    workers
        Loader processes; 0 loads in this one.
    pin
        Put batches into page-locked memory, from which copies to a CUDA device need not wait.

    Returns
    -------
    TrainingLoader
        Yields images (b, 3, h, w) uint8 and labels (b, h, w) uint8, 255 void; b is this process's share.

    Raises
    ------
    VssError
        As `StepSampler`; while iterating, whatever was wrong with a frame or its label.
    """
    ending: Flag = multiprocessing.get_context(_start_method()).RawValue("b", 0)
    loader: DataLoader[tuple[Tensor, Tensor] | _Failure] = DataLoader(
        items,
        batch_sampler=StepSampler(items.order(seed), batch_size, start, steps, rank, world),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=partial(_start_worker, ending, os.getpid()),
        prefetch_factor=2 if workers else None,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # else torch draws the workers' base seed from the global generator
    )
    return TrainingLoader(loader, ending)


def _collate(items: list[tuple[Tensor, Tensor] | _Failure]) -> tuple[Tensor, Tensor] | _Failure:
    for item in items:
        if isinstance(item, _Failure):
            return item
    images, labels = default_collate(items)  # inside a worker it stacks right into shared memory
    return images, labels


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


def _start_worker(ending: Flag, parent: int, number: int) -> None:
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
