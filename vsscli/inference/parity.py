"""Predicting exactly as the published programs do, only to compare results with theirs.

Mask2Former's scores are averaged unchanged, windows at pixel size, and resized to the frame; mmsegmentation then
applies a softmax to them, whose results test-time augmentation averages (specs: vit_adapter.md, Data, Score path). That
flattens every distribution: 95 % for one of 124 classes becomes 2 %. For predictions use `Predictor`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vsscli.inference.windows import Size, window_corners, window_step
from vsscli.models.network import Network, VideoNetwork
from vsscli.models.outputs import MaskOutputs


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
        Height and width of a sliding window, and its step; `None`: whole images.
    size
        Height and width to resize the result to; `None`: those of the images.
    double_softmax
        Apply a softmax over the classes at the end, as mmsegmentation does although the scores are not logits.

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
    """Mean over views of mmsegmentation's softmax of mask scores, (B, C, *size); views are images and whether mirrored.

    See `official_scores`.
    """
    total = torch.zeros(())
    for images, mirrored in views:
        one = official_scores(network, images, window=window, step=step, size=size, double_softmax=True)
        total = total.to(one) + (one.flip(-1) if mirrored else one)
    return total / len(views)


@torch.inference_mode()
def official_clip_scores(network: VideoNetwork, frames: Tensor, *, size: Size, cut: Size | None = None) -> Tensor:
    """Scores of a video as VidEoMT and PMT read it out: with one mean of each query's class logits over all frames.

    Parameters
    ----------
    network
        In evaluation mode, with ``model.clip`` above 1.
    frames
        (T, 3, H, W), all of the video, normalised, and padded with 0 as they were published (specs: videomt.md).
    size
        Height and width of the result.
    cut
        Height and width of the frames without their padding; `None`: they have none.

    Returns
    -------
    Tensor
        (T, C, *size).
    """
    seen, queries = [], None
    for frame in frames:
        outputs, queries = network.follow(frame[None], queries)
        assert isinstance(outputs, MaskOutputs)
        seen.append(outputs.layers[-1])
    shares = torch.cat([layer.class_logits for layer in seen]).mean(dim=0).softmax(dim=-1)[:, :-1]
    height, width = cut or (frames.shape[-2], frames.shape[-1])
    scores = []
    for layer in seen:
        masks = _resized(layer.mask_logits, (frames.shape[-2], frames.shape[-1]))[..., :height, :width]
        scores.append(torch.einsum("qc,bqhw->bchw", shares, _resized(masks.sigmoid(), size)))
    return torch.cat(scores)


def _slide(network: Network, images: Tensor, window: Size, step: Size) -> Tensor:
    """Average over the windows that contain each pixel."""
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
