"""The mean distribution at frame size, a band of rows at a time.

Views of different sizes have maps of different sizes. Enlarged to the frame, each would be C x H x W, too much memory
at 124 classes; here only one band exists at a time. Letters: C classes, H W frame, h w map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_BAND_BYTES = 2 * 2**20
"""Size of a band of float32 probabilities. On a CPU it should fit the caches: of 0.5 to 32 MiB, 2 was the fastest."""

GPU_BAND_BYTES = 64 * 2**20
"""On a GPU a band should be large enough that the time to launch kernels is negligible."""


@dataclass(frozen=True)
class ViewMaps:
    """Maps of the views of one frame of ``size`` (H, W), whose weighted sum, enlarged to the frame, is the mean
    distribution.

    Maps are probabilities (C, h, w) float32, each with its own h and w and any strides; channels innermost are fastest.
    A map that is the sum of n distributions counts n times, so weights times counts sum to 1.
    """

    maps: tuple[Tensor, ...]
    weights: tuple[float, ...]
    size: tuple[int, int]


def mean_bands(views: ViewMaps, size: tuple[int, int]) -> Iterator[tuple[int, Tensor]]:
    """Yield the mean distribution, enlarged to the frame or the score grid, by bands from the top: the first row, and
    probabilities (rows, W, C) float32, contiguous.

    Equal to enlarging every map with ``F.interpolate(..., size, mode="bilinear", align_corners=False)`` and summing.
    A band is as large as suits the device, but has at least one row.
    """
    height, width = size
    classes, device = views.maps[0].shape[0], views.maps[0].device
    most = CPU_BAND_BYTES if device.type == "cpu" else GPU_BAND_BYTES
    step = max(1, most // (classes * width * 4))
    # With channels innermost, interpolation is vector arithmetic, 6 times faster at 124 classes.
    maps = [map_.permute(1, 2, 0).contiguous() for map_ in views.maps]  # (h, w, C)
    rows = [_source_rows(map_.shape[0], height, device) for map_ in maps]
    for start in range(0, height, step):
        stop = min(start + step, height)
        mean: Tensor | None = None  # (rows, W, C)
        for map_, weight, (above, below, share) in zip(maps, views.weights, rows, strict=True):
            band = slice(start, stop)
            # Rows first: the intermediate result is as narrow as the map.
            narrow = torch.lerp(
                map_.index_select(0, above[band]), map_.index_select(0, below[band]), share[band, None, None]
            )
            wide = _widen(narrow, width)
            mean = wide.mul_(weight) if mean is None else mean.add_(wide, alpha=weight)
        assert mean is not None
        yield start, mean.contiguous()


def mean_map(views: ViewMaps, size: tuple[int, int]) -> Tensor:
    """The mean distribution as one map (C, *size) float32, for sizes that fit into memory."""
    return torch.cat([mean for _, mean in mean_bands(views, size)]).permute(2, 0, 1)


@torch.inference_mode()
def label_map(views: ViewMaps) -> Tensor:
    """Most likely class of every pixel of the frame, (H, W) uint8; of equally likely classes the lowest."""
    label = torch.empty(views.size, dtype=torch.uint8, device=views.maps[0].device)
    for start, mean in mean_bands(views, views.size):
        label[start : start + len(mean)] = mean.max(dim=-1).indices
    return label


def read_labels(views: ViewMaps) -> dict[str, Tensor]:
    """`label_map`, as a predictor's answer."""
    return {"label": label_map(views)}


def _source_rows(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every target row the two source rows around its centre, and the weight of the second.

    As in torch's bilinear interpolation with ``align_corners=False``: row r has its centre at
    (r + 0.5) * source / target - 0.5, and beyond the centres of the outer rows these are repeated.
    """
    centre = (torch.arange(target, dtype=torch.float32, device=device) + 0.5) * (source / target) - 0.5
    centre.clamp_(min=0)
    above = centre.long().clamp_(max=source - 1)
    below = (above + 1).clamp_(max=source - 1)
    return above, below, centre - above


def _widen(narrow: Tensor, width: int) -> Tensor:
    """Interpolate (rows, w, C) to (rows, width, C). The caller may change the result."""
    rows, there, _ = narrow.shape
    if there == width:
        return narrow
    # (1, C, rows, w), channels_last. Adding the 1 first gives it the stride by which torch recognises the layout.
    image = narrow[None].permute(0, 3, 1, 2)
    return F.interpolate(image, size=(rows, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)[0]
