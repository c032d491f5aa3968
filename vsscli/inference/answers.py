"""What a predictor answers: values of frames, perhaps still on their way to the host."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from torch import Tensor

from vsscli.inference.transfer import Transfer


class Answers:
    """Named values of some frames, with the sums that say whether the scores behind them are finite.

    Parameters
    ----------
    transfer
        What brings them to the host.
    sums
        (N,) float32, what ``require_finite`` checks before any value is given out.
    frames
        The values of each frame, on the device.
    """

    def __init__(
        self,
        transfer: Transfer,
        sums: Tensor,
        frames: Sequence[Mapping[str, Tensor]],
        require_finite: Callable[[np.ndarray], None],
    ) -> None:
        self._names = [tuple(frame) for frame in frames]
        self._coming = transfer.down([sums, *(values for frame in frames for values in frame.values())])
        self._require_finite = require_finite

    @property
    def here(self) -> bool:
        """Whether they have arrived for certain, so that there is nothing to do before `frames`."""
        return self._coming.here

    def frames(self) -> list[dict[str, np.ndarray]]:
        """The values of each frame; waits for them, and raises `VssError` if the scores are not finite."""
        sums, *values = self._coming.arrays()
        self._require_finite(sums)
        left = iter(values)
        return [{name: next(left) for name in names} for names in self._names]
