"""A share of the videos of a job that others take the rest of, without any communication: job arrays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from vsscli.errors import VssError

Item = TypeVar("Item")

EXAMPLE = "the first of four is --part 1/4, the last --part 4/4"


@dataclass(frozen=True)
class Part:
    """The ``number``-th of ``count`` shares, counted from 1.

    Videos are dealt out one by one, the longest first, so that shares take about as long. The rule depends on names and
    lengths alone: jobs that see the same videos agree.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise VssError(f"there is no part {self.number} of {self.count}", EXAMPLE)

    @classmethod
    def parse(cls, text: str) -> Part:
        """``2/4``. `VssError` for anything else."""
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if found is None:
            raise VssError(f"--part {text} is not a share", EXAMPLE)
        return cls(int(found[1]), int(found[2]))

    def of(self, videos: Sequence[Item], lengths: Sequence[int]) -> list[Item]:
        """This share of the videos, in their order."""
        longest_first = sorted(range(len(videos)), key=lambda index: -lengths[index])
        return [videos[index] for index in sorted(longest_first[self.number - 1 :: self.count])]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


WHOLE = Part()
"""All videos."""
