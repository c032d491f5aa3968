"""How a network predicts a frame: size, windows and views, and how many images pass through it for that."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vsscli.inference.plans import AugmentationPlan
from vsscli.inference.windows import Size, chosen_window, window_corners, window_step
from vsscli.models.scores import Missing


@dataclass(frozen=True)
class ReadOut:
    """How a network predicts a frame.

    Parameters
    ----------
    size
        Short side at scale 1; `None`: the frame's own.
    window, step
        Height and width of a sliding window, and its step (`None`: two thirds of it). Without a window, frames are
        predicted whole, or in windows of the size of the network's crop if it takes only that. A view smaller than the
        window is padded with 0 as in training, and the padding is cut off.
    plan
        The views.
    precision
        ``32``, ``bf16`` or ``16``.
    missing
        Which classes get what mask scores lack to 1; see `to_probabilities`.
    """

    size: int | None
    window: tuple[int, int] | None
    step: tuple[int, int] | None
    plan: AugmentationPlan
    precision: str = "32"
    missing: Missing = "spread"


def view_size(frame: tuple[int, int], size: int | None, scale: float, divisor: int) -> tuple[int, int]:
    """Height and width of a view.

    The short side is ``size`` times ``scale``, rounded; the other keeps the aspect ratio, rounded; then both are
    rounded up to a multiple of the divisor (by resizing, like mmsegmentation's ResizeToMultiple, not by padding).

    Examples
    --------
    >>> view_size((480, 853), 896, 1.0, 32)
    (896, 1600)
    """
    short = min(frame)
    factor = max(math.floor((size or short) * scale + 0.5), 1) / short
    height, width = (-(-max(math.floor(side * factor + 0.5), 1) // divisor) * divisor for side in frame)
    return height, width


def count_windows(
    frame: tuple[int, int], read_out: ReadOut, crop: tuple[int, int] | None, divisor: int, stride: int
) -> dict[Size, int]:
    """Number of images by size that go through a network of this crop, divisor and stride for one frame.

    Examples
    --------
    >>> paper = AugmentationPlan("paper", (1.0,), flip=False)
    >>> count_windows((480, 853), ReadOut(896, (896, 896), (512, 512), paper), None, divisor=32, stride=4)
    {(896, 896): 3}
    """
    window = chosen_window(read_out.window, crop)
    step = None if window is None else window_step(window, read_out.step, stride, divisor)
    counted: dict[Size, int] = {}
    for view in read_out.plan.views():
        size = view_size(frame, read_out.size, view.scale, divisor)
        counted[window or size] = counted.get(window or size, 0) + len(
            window_corners(size, window or size, step or size)
        )
    return counted
