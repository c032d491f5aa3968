"""Clips: consecutive frames of a video that a network learns from together.

A clip begins at every frame of a video that has enough frames after it. A video shorter than a clip is one clip, in
which its frames are repeated evenly, so that images make clips too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Clips:
    """The clips of some videos, by number.

    Parameters
    ----------
    lengths
        Frames of each video; their numbers count on from video to video.
    frames
        Frames of a clip.
    """

    def __init__(self, lengths: Sequence[int], frames: int) -> None:
        self._lengths, self._frames = list(lengths), frames
        self._until = np.cumsum([max(length - frames + 1, min(length, 1)) for length in lengths])
        self._first = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        return int(self._until[-1]) if len(self._until) else 0

    def numbers(self, clip: int) -> list[int]:
        """The numbers of a clip's frames, in order."""
        video = int(np.searchsorted(self._until, clip, side="right"))
        length, wanted = self._lengths[video], self._frames
        if length < wanted:
            places = [place * length // wanted for place in range(wanted)]
        else:
            start = clip - (int(self._until[video - 1]) if video else 0)
            places = list(range(start, start + wanted))
        return [int(self._first[video]) + place for place in places]

    @property
    def short(self) -> int:
        """Number of videos whose frames are repeated."""
        return sum(length < self._frames for length in self._lengths)
