"""Reading out a network exactly as the published programs do, to compare numbers with theirs; nothing else uses it.

Mask2Former's scores are averaged as they are, windows at pixel size, and resized to the frame; mmsegmentation then
takes a softmax of them, of which test-time augmentation averages (specs: vit_adapter.md, Data, Score path). That
flattens every distribution: a pixel that is 95 % sure comes out at 2 % of 124 classes. `Predictor` is what predicts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vsscli.inference.windows import Size, window_corners, window_step
from vsscli.models.network import Network


@torch.inference_mode()
def official_scores(
    network: Network,
    images: Tensor,
    *,
    window: Size | None = None,
    step: Size | None = None,
    size: Size | None = None,
    double_softmax: bool = False,
) -> Tensor:
    """Scores of images at pixel size.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        (B, 3, H, W), normalised, on the network's device.
    window, step
        Height and width of a sliding window, and from one to the next; none: whole images.
    size
        Height and width to resize the result to; none: those of the images.
    double_softmax
        Take a softmax over the classes at the end, as mmsegmentation does although these are no logits.

    Returns
    -------
    Tensor
        (B, C, *size).

    Raises
    ------
    VssError
        The network can't take such images or windows.
    """
    if window is None:
        scores = _at_pixels(network, images)
    else:
        scores = _slide(network, images, window, window_step(window, step, network.stride, network.divisor))
    if size is not None:
        scores = _resized(scores, size)
    return scores.softmax(dim=1) if double_softmax else scores


def official_mean(
    network: Network,
    views: Sequence[tuple[Tensor, bool]],
    *,
    size: Size,
    window: Size | None = None,
    step: Size | None = None,
) -> Tensor:
    """Mean over views of mmsegmentation's softmax of mask scores, (B, C, *size); each view with whether it is mirrored.

    See `official_scores`.
    """
    total = torch.zeros(())
    for images, mirrored in views:
        one = official_scores(network, images, window=window, step=step, size=size, double_softmax=True)
        total = total.to(one) + (one.flip(-1) if mirrored else one)
    return total / len(views)


def _slide(network: Network, images: Tensor, window: Size, step: Size) -> Tensor:
    """Average of the windows that hold a pixel."""
    height, width = images.shape[-2:]
    total = images.new_zeros(len(images), network.num_classes, height, width)
    count = images.new_zeros(height, width)
    for top, left in window_corners((height, width), window, step):
        inside = (..., slice(top, top + window[0]), slice(left, left + window[1]))
        total[inside] += _at_pixels(network, images[inside])
        count[inside] += 1
    return total / count


def _at_pixels(network: Network, images: Tensor) -> Tensor:
    return _resized(network(images).values, (images.shape[-2], images.shape[-1]))


def _resized(scores: Tensor, size: Size) -> Tensor:
    return F.interpolate(scores, size=size, mode="bilinear", align_corners=False)
