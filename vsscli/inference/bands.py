"""The mean distribution at frame size, a band of rows at a time.

Views of different sizes leave maps of different sizes. Enlarged to the frame they would be C x H x W each, which is
where memory runs out at 124 classes; here no more than a band exists at once. Letters: C classes, H W frame, h w map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CPU_BAND_BYTES = 2 * 2**20
"""Of float32 probabilities. On a CPU a band should stay in its caches: 2 MiB was the fastest of 0.5 to 32 MiB."""

GPU_BAND_BYTES = 64 * 2**20
"""On a GPU a band should be large enough that starting kernels costs nothing beside running them."""


@dataclass(frozen=True)
class ViewMaps:
    """What the views of one frame, (H, W) in size, say: the mean distribution is the weighted sum of the maps, enlarged
    to the frame.

    Maps are probabilities (C, h, w) float32, each of its own h and w, any strides; fastest if channels are innermost.
    One that is a sum of n distributions counts n times, so weights times counts add up to 1.
    """

    maps: tuple[Tensor, ...]
    weights: tuple[float, ...]
    size: tuple[int, int]


def mean_bands(
    views: ViewMaps, size: tuple[int, int], *, band_bytes: int | None = None
) -> Iterator[tuple[int, Tensor]]:
    """Yield the mean distribution band by band, top to bottom: first row, and probabilities (rows, W, C) float32,
    contiguous, enlarged to the frame or the score grid.

    Equal to enlarging every map with ``F.interpolate(..., size, mode="bilinear", align_corners=False)`` and adding up.
    A band has ``band_bytes``, or what suits the device, but at least one row.
    """
    height, width = size
    classes, device = views.maps[0].shape[0], views.maps[0].device
    if band_bytes is None:
        band_bytes = CPU_BAND_BYTES if device.type == "cpu" else GPU_BAND_BYTES
    step = max(1, band_bytes // (classes * width * 4))
    # Channels innermost: interpolation is then arithmetic on whole vectors, 6 times faster at 124 classes.
    maps = [map_.permute(1, 2, 0).contiguous() for map_ in views.maps]  # (h, w, C)
    rows = [_source_rows(map_.shape[0], height, device) for map_ in maps]
    for start in range(0, height, step):
        stop = min(start + step, height)
        mean: Tensor | None = None  # (rows, W, C)
        for map_, weight, (above, below, share) in zip(maps, views.weights, rows, strict=True):
            band = slice(start, stop)
            # Rows first: the result is as narrow as the map, and only the last step is as wide as the frame.
            narrow = torch.lerp(
                map_.index_select(0, above[band]), map_.index_select(0, below[band]), share[band, None, None]
            )
            wide = _widen(narrow, width)
            mean = wide.mul_(weight) if mean is None else mean.add_(wide, alpha=weight)
        assert mean is not None
        yield start, mean.contiguous()


def mean_map(views: ViewMaps, size: tuple[int, int]) -> Tensor:
    """The mean distribution as one map (C, *size) float32, where that is small enough to be held."""
    return torch.cat([mean for _, mean in mean_bands(views, size)]).permute(2, 0, 1)


@torch.inference_mode()
def label_map(views: ViewMaps) -> Tensor:
    """Most likely class of every pixel of the frame, (H, W) uint8; of classes equally likely the lowest."""
    label = torch.empty(views.size, dtype=torch.uint8, device=views.maps[0].device)
    for start, mean in mean_bands(views, views.size):
        label[start : start + len(mean)] = mean.max(dim=-1).indices
    return label


def _source_rows(source: int, target: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For every row of the target the two rows of the source around its centre, and the share of the second.

    As in torch's bilinear interpolation with ``align_corners=False``: row r has its centre at
    (r + 0.5) * source / target - 0.5, and beyond the centre of an outer row that row goes on.
    """
    centre = (torch.arange(target, dtype=torch.float32, device=device) + 0.5) * (source / target) - 0.5
    centre.clamp_(min=0)
    above = centre.long().clamp_(max=source - 1)
    below = (above + 1).clamp_(max=source - 1)
    return above, below, centre - above


def _widen(narrow: Tensor, width: int) -> Tensor:
    """Interpolate (rows, w, C) to (rows, width, C). The result is the caller's to change."""
    rows, there, _ = narrow.shape
    if there == width:
        return narrow
    # (1, C, rows, w), channels_last. Put in front first, the 1 gets the stride by which torch knows it as that.
    image = narrow[None].permute(0, 3, 1, 2)
    return F.interpolate(image, size=(rows, width), mode="bilinear", align_corners=False).permute(0, 2, 3, 1)[0]
