"""What a network hands on from frame to frame of a video, for each view and window of it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from vsscli.models.network import VideoNetwork
from vsscli.models.scores import Scores


class Handed:
    """Runs a network that follows videos and keeps what it hands on.

    Everything that is run between two calls of `turn` is of one frame.
    """

    def __init__(self, network: VideoNetwork) -> None:
        self._network = network
        self._known: dict[Hashable, Tensor] = {}
        self._next: dict[Hashable, Tensor] = {}

    def begin(self) -> None:
        """Forget: the next frame is a video's first."""
        self._known, self._next = {}, {}

    def turn(self) -> None:
        """Go on to the next frame."""
        self._known, self._next = self._next, {}

    def __call__(self, images: Tensor, places: Sequence[Hashable]) -> Scores:
        """Score windows (B, 3, H, W) of a frame, each the successor of the one at its place in the frame before."""
        known = [self._known[place] for place in places if place in self._known]
        outputs, handed = self._network.follow(images, torch.stack(known) if len(known) == len(places) else None)
        self._next |= zip(places, handed, strict=True)
        return outputs.scores
