"""Crops that depend only on (seed, step, slot).

Sample n = step * batch + slot takes the frame that `data.order` derives from seed and n, and draws its augmentation
from generators seeded with (seed, step, slot); where frames are learned from in clips, it takes a clip, all of whose
frames have one augmentation. So batches are the same for any number of loader processes, the slots of
several training processes make up the batch of one, and training that resumes at step s sees the same crops: there is
no loader state to save.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from vsscli.data.augment import TrainAugment, Wanted
from vsscli.data.consecutive import Clips
from vsscli.data.order import BLOCK, Address, Order
from vsscli.data.rare import RareFirst
from vsscli.data.samples import Crops, Samples, stacked
from vsscli.errors import VssError


@dataclass(frozen=True)
class Failure:
    """An error passed on from a loader process; torch itself would make its traceback the message."""

    message: str
    hint: str


@dataclass(frozen=True)
class Portion:
    """A part of the training data: its frames, their augmentation, how many of 1000 samples come from it, and what
    chooses its frames by class; `None`: they are taken in turn."""

    frames: Samples
    augment: TrainAugment
    thousandths: int
    rare: RareFirst | None = None


class TrainItems(Dataset[Crops | Failure]):
    """Augmented frames by `Address`, each drawn with its own generators; or clips of frames, with a further axis.

    The main `Portion` is given by its fields and takes the samples that the others leave.
    """

    def __init__(
        self,
        frames: Samples,
        augment: TrainAugment,
        also: Sequence[Portion] = (),
        rare: RareFirst | None = None,
        clip: int = 1,
    ) -> None:
        rest = BLOCK - sum(portion.thousandths for portion in also)
        self.portions = (Portion(frames, augment, rest, rare), *also)
        self.clips = [Clips(portion.frames.lengths, clip) for portion in self.portions] if clip > 1 else None

    def __len__(self) -> int:
        """Number of frames of all parts."""
        return sum(len(portion.frames) for portion in self.portions)

    def __getitem__(self, address: Address) -> Crops | Failure:
        try:
            return self._load(address)
        except VssError as error:
            return Failure(error.message, error.hint)

    def _load(self, address: Address) -> Crops:
        portion = self.portions[address.part]
        if self.clips is not None:
            samples = [portion.frames.load(number) for number in self.clips[address.part].numbers(address.frame)]
            with _generators(address.seed, address.step, address.slot):
                return stacked(portion.augment.clip(samples))
        sample = portion.frames.load(address.frame)
        with _generators(address.seed, address.step, address.slot):
            if address.wanted is None or portion.rare is None:
                return portion.augment(sample)
            return portion.augment(sample, Wanted(address.wanted, portion.rare.settings.pixels / 2))

    def order(self, seed: int) -> Order:
        """The part and frame, or clip, that each sample takes."""
        counted = self.clips if self.clips is not None else [portion.frames for portion in self.portions]
        return Order(
            seed,
            tuple(len(part) for part in counted),
            tuple(portion.thousandths for portion in self.portions),
            tuple(portion.rare for portion in self.portions),
        )


@contextmanager
def _generators(seed: int, step: int, slot: int) -> Iterator[None]:
    """Seed the CPU's global generators from (seed, step, slot) while the block runs, then restore them."""
    # NumPy's global generator, too: libraries may draw from it, although this one does not.
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    words = np.random.SeedSequence([seed, step, slot]).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(int(words[1]))  # noqa: NPY002
    # Not torch.manual_seed, which would also seed the accelerators' generators.
    torch.default_generator.manual_seed(int(words[2]) << 32 | int(words[3]))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002
        torch.set_rng_state(before[2])
