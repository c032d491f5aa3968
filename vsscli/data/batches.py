"""Training batches that depend on nothing but (seed, step, slot).

Sample n = step * batch + slot takes the frame that a permutation, drawn anew for each epoch from (seed, epoch), has at
place n, and draws its augmentation from generators seeded with (seed, step, slot). So batches are the same for any
number of loader processes, the slots of several training processes make up the batch of one, and training that goes on
at step s sees what it would have seen: there is no loader state to save.
"""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from vsscli.data.augment import TrainAugment
from vsscli.data.masks import MaskIds, read_image, to_classes
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError

LabelOf = Callable[[str, int], np.ndarray]


class Address(NamedTuple):
    """Where an item stands in training, and which frame it takes."""

    seed: int
    step: int
    slot: int
    frame: int


class Frames(Protocol):
    """Frames with labels, by number."""

    def __len__(self) -> int: ...

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) uint8 and label (H, W) uint8, class index or 255; or (L, H, W), with more maps after it."""
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
        label = to_classes(self._ids.read(mask), self._ids, self._num_classes, mask)
        return _checked(frame, read_image(image), label, f"mask {mask}")


class UnlabelledFrames:
    """Frames whose labels something else knows, or nobody.

    Parameters
    ----------
    videos
        All their frames count.
    label_of
        Gives the label, (H, W) or (L, H, W) uint8, of a video's name and a frame's number in it. Loader processes get
        a copy, by fork or by pickle: what it holds open, it should open when it is first called. None: labels are 0,
        so that only padding is void.
    """

    def __init__(self, videos: Sequence[FolderVideo], label_of: LabelOf | None) -> None:
        self._videos, self._label_of = list(videos), label_of
        self._ends = np.cumsum([len(video) for video in videos])

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def load(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Decode a frame and ask for its label; see `Frames`."""
        number = int(np.searchsorted(self._ends, index, side="right"))
        video = self._videos[number]
        t = index - int(self._ends[number]) + len(video)
        image = video.read(t)
        if self._label_of is None:
            return image, np.zeros(image.shape[:2], np.uint8)
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


class TrainItems(Dataset[tuple[Tensor, Tensor] | _Failure]):
    """Augmented frames by `Address`, each drawn with generators of its own.

    Parameters
    ----------
    frames
        What to take.
    augment
        What to do with it.
    """

    def __init__(self, frames: Frames, augment: TrainAugment) -> None:
        self.frames, self.augment = frames, augment

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, address: Address) -> tuple[Tensor, Tensor] | _Failure:
        try:
            image, label = self.frames.load(address.frame)
        except VssError as error:
            return _Failure(error.message, error.hint)
        with _generators(address.seed, address.step, address.slot):
            return self.augment(image, label)


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


class StepSampler(Sampler[list[Address]]):
    """This process's addresses of each batch.

    Parameters
    ----------
    length
        How many frames there are.
    batch_size
        Samples per batch over all processes.
    seed
        Of order and augmentation. Two loaders that run side by side should differ in it.
    start, steps
        First batch, and the one before which to stop, counted from the beginning of training.
    rank, world
        This process takes slots rank, rank + world, …

    Raises
    ------
    VssError
        There are no frames, or the batch can't be shared out evenly.
    """

    def __init__(
        self, length: int, batch_size: int, seed: int, start: int, steps: int, rank: int = 0, world: int = 1
    ) -> None:
        if length == 0:
            raise VssError("there are no frames to train on", "check the recipe's splits (`vss doctor --data ROOT`)")
        if batch_size % world:
            raise VssError(
                f"a batch of {batch_size} can't be shared out evenly among {world} processes",
                f"make batch_size a multiple of {world}",
            )
        self._length, self._batch_size, self._seed = length, batch_size, seed
        self._start, self._steps, self._slots = start, steps, range(rank, batch_size, world)

    def __len__(self) -> int:
        return max(self._steps - self._start, 0)

    def __iter__(self) -> Iterator[list[Address]]:
        for step in range(self._start, self._steps):
            yield [Address(self._seed, step, slot, self._index(step, slot)) for slot in self._slots]

    def _index(self, step: int, slot: int) -> int:
        epoch, place = divmod(step * self._batch_size + slot, self._length)
        return int(_permutation(self._length, self._seed, epoch)[place])


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(length)


class TrainingLoader:
    """Batches in order, from this process or from loader processes; made by `training_loader`."""

    def __init__(self, loader: DataLoader[tuple[Tensor, Tensor] | _Failure]) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
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
            if not str(error).startswith("DataLoader worker"):
                raise
            raise VssError(
                f"a loader process died: {str(error).splitlines()[0]}",
                "most often memory ran out: set train.workers lower (0 loads in the training process)",
            ) from error
        finally:
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
    batch_size, seed, start, steps, rank, world
        See `StepSampler`.
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
    loader: DataLoader[tuple[Tensor, Tensor] | _Failure] = DataLoader(
        items,
        batch_sampler=StepSampler(len(items), batch_size, seed, start, steps, rank, world),
        num_workers=workers,
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        prefetch_factor=2 if workers else None,
        multiprocessing_context=_start_method() if workers else None,
        pin_memory=pin,
        generator=torch.Generator(),  # else torch draws the workers' base seed from the global generator
    )
    return TrainingLoader(loader)


def _collate(items: list[tuple[Tensor, Tensor] | _Failure]) -> tuple[Tensor, Tensor] | _Failure:
    for item in items:
        if isinstance(item, _Failure):
            return item
    images, labels = default_collate(items)  # inside a worker it stacks right into shared memory
    return images, labels


def _start_worker(number: int) -> None:
    # Ctrl-C reaches every process of the terminal; the training process ends its workers, they need not say anything.
    # Torch itself gives a worker one thread.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _start_method() -> str | None:
    """Fork on Linux: workers start in milliseconds and share what is loaded, where others import torch again (seconds).

    That is safe here because workers never touch an accelerator and run torch with one thread.
    """
    return "fork" if sys.platform == "linux" else None
