"""Crops that depend on nothing but (seed, step, slot).

Sample n = step * batch + slot takes the frame that `data.order` says from seed and n, and draws its augmentation from
generators seeded with (seed, step, slot). So batches are the same for any number of loader processes, the slots of
several training processes make up the batch of one, and training that goes on at step s sees what it would have seen:
there is no loader state to save.
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
from vsscli.data.order import BLOCK, Address, Order
from vsscli.data.rare import RareFirst
from vsscli.data.samples import Crops, Samples
from vsscli.errors import VssError


@dataclass(frozen=True)
class Failure:
    """An error on its way from a loader process; torch itself would hand on its traceback as the message."""

    message: str
    hint: str


@dataclass(frozen=True)
class Portion:
    """A part of the training data: its frames, what is done with them, how many of 1000 samples come from it, and what
    chooses its frames by class; None: they come in turn."""

    frames: Samples
    augment: TrainAugment
    thousandths: int
    rare: RareFirst | None = None


class TrainItems(Dataset[Crops | Failure]):
    """Augmented frames by `Address`, each drawn with generators of its own.

    The main `Portion` is named in its parts and takes the samples that no other does.
    """

    def __init__(
        self, frames: Samples, augment: TrainAugment, also: Sequence[Portion] = (), rare: RareFirst | None = None
    ) -> None:
        rest = BLOCK - sum(portion.thousandths for portion in also)
        self.portions = (Portion(frames, augment, rest, rare), *also)

    def __len__(self) -> int:
        """Frames of all parts together."""
        return sum(len(portion.frames) for portion in self.portions)

    def __getitem__(self, address: Address) -> Crops | Failure:
        portion = self.portions[address.part]
        try:
            sample = portion.frames.load(address.frame)
        except VssError as error:
            return Failure(error.message, error.hint)
        with _generators(address.seed, address.step, address.slot):
            if address.wanted is None or portion.rare is None:
                return portion.augment(sample)
            return portion.augment(sample, Wanted(address.wanted, portion.rare.settings.pixels / 2))

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
