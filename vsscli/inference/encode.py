"""From a frame's maps to the bytes that are kept, on the device, in one pass over bands.

The same as `vsscli.store.encode`, which is the reference, to the last level: constants and rounding are its own, and
only a value that lies within the error of float32 arithmetic of the border of two levels can fall to either side.
Letters: C classes, K kept, H W frame, h w score grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vsscli.inference.bands import ViewMaps, mean_bands, mean_map
from vsscli.inference.ranking import top_classes
from vsscli.store.encode import SMALLEST, score_size
from vsscli.store.header import LOG_STEP, MAX_LEVEL, Encoding


@torch.inference_mode()
def encode_frame(views: ViewMaps, encoding: Encoding, *, band_bytes: int | None = None) -> dict[str, Tensor]:
    """Encode the mean distribution of one frame.

    Label and entropy are those of the dense distribution at frame size, never of the lists. On a score grid of stride
    1 the lists are taken from it as well. On a coarser one the mean is formed there, and then enlarged to the frame.

    Parameters
    ----------
    views
        What the views of the frame say.
    encoding
        How it is kept.
    band_bytes
        As for `mean_bands`.

    Returns
    -------
    dict
        By name, on the device: ``label`` and ``entropy`` (H, W) uint8; ``top_class`` and ``top_logit`` (K, h, w)
        uint8, or ``logits`` (C, h, w) float16 where everything is kept.
    """
    classes, device = views.maps[0].shape[0], views.maps[0].device
    height, width = views.size
    frame = {name: torch.empty(height, width, dtype=torch.uint8, device=device) for name in ("label", "entropy")}
    lists: dict[str, list[Tensor]] = {}
    if encoding.grid > 1:
        grid_mean = mean_map(views, score_size(encoding, views.size))
        _add(lists, _lists(grid_mean.permute(1, 2, 0), encoding))
        views = ViewMaps((grid_mean,), (1.0,), views.size)
    for start, mean in mean_bands(views, views.size, band_bytes=band_bytes):
        band = slice(start, start + len(mean))
        if encoding.grid == 1:
            rows = _lists(mean, encoding)
            _add(lists, rows)
        if encoding.grid == 1 and "top_class" in rows:
            frame["label"][band] = rows["top_class"][0]
        else:
            frame["label"][band] = mean.max(dim=-1).indices
        frame["entropy"][band] = _quantised_entropy(mean, classes)
    return frame | {name: torch.cat(parts, dim=1) for name, parts in lists.items()}


def _add(lists: dict[str, list[Tensor]], rows: dict[str, Tensor]) -> None:
    for name, part in rows.items():
        lists.setdefault(name, []).append(part)


def _lists(mean: Tensor, encoding: Encoding) -> dict[str, Tensor]:
    """Rows (rows, w, C) of the score grid as they are kept."""
    if encoding.keep == "all":
        return {"logits": mean.clamp_min(SMALLEST).log_().half().permute(2, 0, 1)}
    top_class, probability = top_classes(mean, min(encoding.kept, mean.shape[-1]))
    level = probability.clamp_min_(SMALLEST).log_().mul_(-1 / LOG_STEP).round_().clamp_(0, MAX_LEVEL)
    return {"top_class": top_class, "top_logit": level.to(torch.uint8)}


def _quantised_entropy(mean: Tensor, classes: int) -> Tensor:
    """Normalised entropy of (rows, W, C), as levels (rows, W) uint8. One class leaves no doubt."""
    if classes == 1:
        return torch.zeros(mean.shape[:-1], dtype=torch.uint8, device=mean.device)
    entropy = mean.clamp_min(SMALLEST).log_().mul_(mean).sum(dim=-1).mul_(-1 / math.log(classes))
    return entropy.clamp_(0.0, 1.0).mul_(MAX_LEVEL).round_().to(torch.uint8)
