"""Encoding a frame's maps on the device, in one pass over bands.

The result equals that of the reference, `vsscli.store.encode`, with its constants and rounding: only values at the
border of two levels, within the error of float32 arithmetic, may round differently.
Letters: C classes, K kept, H W frame, h w score grid.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vsscli.inference.bands import ViewMaps, mean_bands, mean_map
from vsscli.inference.ranking import top_classes
from vsscli.store.encode import IGNORE, SMALLEST, score_size
from vsscli.store.header import MAX_LEVEL, Encoding


@torch.inference_mode()
def encode_frame(views: ViewMaps, encoding: Encoding) -> dict[str, Tensor]:
    """Encode the mean distribution of one frame, on the device: ``label`` and ``entropy`` (H, W) uint8; ``top_class``
    and ``top_probability`` (K, h, w) uint8, or ``logits`` (C, h, w) float16 if every class is kept.

    Label and entropy are those of the dense distribution at frame size, never of the lists. On a score grid of stride 1
    the lists are taken from it, too. On a coarser one the mean is computed on the grid and enlarged to the frame.
    """
    classes, device = views.maps[0].shape[0], views.maps[0].device
    height, width = views.size
    frame = {name: torch.empty(height, width, dtype=torch.uint8, device=device) for name in ("label", "entropy")}
    lists: dict[str, list[Tensor]] = {}
    if encoding.grid > 1:
        grid_mean = mean_map(views, score_size(encoding, views.size))
        _add(lists, _lists(grid_mean.permute(1, 2, 0), encoding))
        views = ViewMaps((grid_mean,), (1.0,), views.size)
    for start, mean in mean_bands(views, views.size):
        band = slice(start, start + len(mean))
        if encoding.grid == 1:
            rows = _lists(mean, encoding)
            _add(lists, rows)
        if encoding.grid == 1 and "top_class" in rows:
            frame["label"][band] = rows["top_class"][0]
        else:
            frame["label"][band] = mean.max(dim=-1).indices
        frame["entropy"][band] = _quantised_entropy(mean, classes, encoding.entropy_step)
    return frame | {name: torch.cat(parts, dim=1) for name, parts in lists.items()}


def _add(lists: dict[str, list[Tensor]], rows: dict[str, Tensor]) -> None:
    for name, part in rows.items():
        lists.setdefault(name, []).append(part)


def _lists(mean: Tensor, encoding: Encoding) -> dict[str, Tensor]:
    """Rows (rows, w, C) of the score grid in stored form."""
    if encoding.keep == "all":
        return {"logits": mean.clamp_min(SMALLEST).log_().half().permute(2, 0, 1)}
    top_class, probability = top_classes(mean, min(encoding.kept, mean.shape[-1]))
    absent = probability < encoding.drop
    level = _levels(probability, encoding.step)
    level.masked_fill_(absent, 0)
    level[0] = _levels(probability[0], encoding.step).clamp_min_(encoding.step)
    return {"top_class": top_class.masked_fill_(level == 0, IGNORE), "top_probability": level}


def _levels(share: Tensor, step: int) -> Tensor:
    """Numbers in [0, 1] to levels in 255ths, multiples of ``step`` or 255, uint8."""
    return share.mul(MAX_LEVEL / step).round_().mul_(step).clamp_max_(MAX_LEVEL).to(torch.uint8)


def _quantised_entropy(mean: Tensor, classes: int, step: int) -> Tensor:
    """Normalised entropy of (rows, W, C), as levels (rows, W) uint8; 0 if there is only one class."""
    if classes == 1:
        return torch.zeros(mean.shape[:-1], dtype=torch.uint8, device=mean.device)
    entropy = mean.clamp_min(SMALLEST).log_().mul_(mean).sum(dim=-1).mul_(-1 / math.log(classes))
    return _levels(entropy.clamp_(0.0, 1.0), step)
