"""Positions of sliding windows that cover an image of any size."""

from __future__ import annotations

from vsscli.errors import VssError

Size = tuple[int, int]


def window_starts(length: int, window: int, step: int) -> tuple[int, ...]:
    """Where windows begin along one side.

    There are ``max(length - window + step - 1, 0) // step + 1`` of them, every ``step`` from 0 on; the last one is
    shifted back to end with the side (specs/vit_adapter.md, "slide crop"). A window longer than the side begins at 0.

    Examples
    --------
    >>> window_starts(1600, 896, 512)
    (0, 512, 704)
    """
    count = max(length - window + step - 1, 0) // step + 1
    return tuple(max(min(number * step, length - window), 0) for number in range(count))


def window_corners(size: Size, window: Size, step: Size) -> list[tuple[int, int]]:
    """Top and left of every window over an image of ``size`` (height, width), row by row."""
    tops = window_starts(size[0], window[0], step[0])
    lefts = window_starts(size[1], window[1], step[1])
    return [(top, left) for top in tops for left in lefts]


def chosen_window(window: Size | None, crop: Size | None) -> Size | None:
    """The window for a network's predictions: the one given, which must be the network's crop if it takes only images
    of that size; if `None`, the crop; if that is `None`, too, frames are predicted whole."""
    if window is not None and crop is not None and window != crop:
        raise VssError(
            f"a window of {window[0]}x{window[1]} does not fit a network made for {crop[0]}x{crop[1]}",
            "leave predict.window out, or convert or train the network for another crop (model.crop)",
        )
    return window or crop


def window_step(window: Size, step: Size | None, stride: int, divisor: int) -> Size:
    """The step of a window, down and across: the one given, or two thirds of the window, rounded down to the stride.

    Windows are averaged on the network's score map, so they must begin on one of its cells and leave out no pixel.
    `VssError` if window or step do not fit the network's divisor and stride.
    """
    if any(side <= 0 or side % divisor for side in window):
        fits = tuple(max(-(-side // divisor), 1) * divisor for side in window)
        raise VssError(
            f"a window of {window[0]}x{window[1]} does not fit this network: its sides must be multiples of {divisor}",
            f"predict.window: [{fits[0]}, {fits[1]}] for example",
        )
    if step is None:
        down, across = (max(side * 2 // 3 // stride, 1) * stride for side in window)
        return down, across
    if any(not 0 < there <= side or there % stride for there, side in zip(step, window, strict=True)):
        raise VssError(
            f"a step of {step[0]}x{step[1]} does not fit windows of {window[0]}x{window[1]}",
            f"set predict.step to multiples of {stride}, at most the window; the default is two thirds of the window",
        )
    return step
