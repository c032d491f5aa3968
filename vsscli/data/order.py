"""Which frame each training sample takes: a stateless function of the seed and the sample's number.

The frames of one data set come in epochs, each in the order of a permutation drawn from (seed, epoch). With several
data sets, each thousand samples hold a fixed number from each, by its share, in an order drawn for each thousand.
So the number of samples that a data set had before sample n can be computed, and its frames come in epochs, too: none
is repeated before all have come.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler

from vsscli.data.rare import RareFirst
from vsscli.errors import VssError

BLOCK = 1000
"""Number of samples in which the shares of several data sets are exact."""

MIXING = 2**32 - 1
"""Distinguishes the draws of mixtures from those of permutations: no epoch or part has this number."""


class Address(NamedTuple):
    """The position of an item in training, the part of the data and the frame that it takes, and the class that its
    crop should hold, if any."""

    seed: int
    step: int
    slot: int
    frame: int
    part: int = 0
    wanted: int | None = None


@dataclass(frozen=True)
class Order:
    """The order of frames: for each part of the data, its number of frames, how many of `BLOCK` samples come from it,
    and what chooses its frames by class, if anything."""

    seed: int
    lengths: tuple[int, ...]
    shares: tuple[int, ...] = (BLOCK,)
    rare: tuple[RareFirst | None, ...] = ()

    def __post_init__(self) -> None:
        if 0 in self.lengths:
            raise VssError("there are no frames to train on", "check the recipe's splits (`vss doctor --data ROOT`)")
        if len(self.lengths) != len(self.shares) or sum(self.shares) != BLOCK or min(self.shares) < 1:
            raise ValueError(f"the shares of {len(self.lengths)} parts must sum to {BLOCK}, not {self.shares}")

    def at(self, sample: int) -> tuple[int, int, int | None]:
        """Part and frame of a sample, and the class that its crop is chosen for, if any."""
        part, place = 0, sample
        if len(self.lengths) > 1:
            block, within = divmod(sample, BLOCK)
            parts, before = _mixture(self.shares, self.seed, block)
            part = int(parts[within])
            place = block * self.shares[part] + int(before[within])
        rare = self.rare[part] if self.rare else None
        drawn = rare.draw(self.seed, sample, part) if rare is not None else None
        if drawn is not None:
            return part, *drawn
        epoch, index = divmod(place, self.lengths[part])
        return part, int(_permutation(self.lengths[part], self.seed, epoch, part)[index]), None


class StepSampler(Sampler[list[Address]]):
    """This process's addresses of batches ``start`` to ``steps - 1``: of ``batch_size`` samples over all processes it
    takes slots rank, rank + world, …"""

    def __init__(self, order: Order, batch_size: int, start: int, steps: int, rank: int = 0, world: int = 1) -> None:
        if batch_size % world:
            raise VssError(
                f"a batch of {batch_size} can't be divided evenly among {world} processes",
                f"make batch_size a multiple of {world}",
            )
        self._order, self._batch_size = order, batch_size
        self._start, self._steps, self._slots = start, steps, range(rank, batch_size, world)

    def __len__(self) -> int:
        return max(self._steps - self._start, 0)

    def __iter__(self) -> Iterator[list[Address]]:
        for step in range(self._start, self._steps):
            yield [self._address(step, slot) for slot in self._slots]

    def _address(self, step: int, slot: int) -> Address:
        part, frame, wanted = self._order.at(step * self._batch_size + slot)
        return Address(self._order.seed, step, slot, frame, part, wanted)


@lru_cache(maxsize=16)
def _permutation(length: int, seed: int, epoch: int, part: int) -> np.ndarray:
    # NumPy ignores trailing zeros of seeds: with part 0 the draws are those of a single data set.
    return np.random.default_rng([seed, epoch, part]).permutation(length)


@lru_cache(maxsize=4)
def _mixture(shares: tuple[int, ...], seed: int, block: int) -> tuple[np.ndarray, np.ndarray]:
    """For each sample of a block, its part, and how many earlier samples of the block come from that part."""
    parts = np.random.default_rng([seed, block, MIXING]).permutation(np.repeat(np.arange(len(shares)), shares))
    before = np.empty(BLOCK, np.int64)
    for part, share in enumerate(shares):
        before[parts == part] = np.arange(share)
    return parts, before
