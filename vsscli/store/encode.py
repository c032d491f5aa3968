"""Encoding a distribution and decoding it again: the NumPy reference, which the encoding on the device must equal.

Letters: C classes, K kept, H W frame, h w score grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsscli.store.header import MAX_LEVEL, Differences, Encoding
from vsscli.store.record import MAX_SEGMENT

IGNORE = 255
"""Pseudo-label of an unreliable pixel; an empty place of a list; fill value of frames that were never written."""

SMALLEST = 1e-12
"""Smaller probabilities are raised to this, so that their logarithms stay finite, in float16, too."""

SEGMENT_BYTES = 128 * 2**20
"""Most decoded bytes of a segment, so that two of them, one being filled and one being written, fit a small machine."""

COMPRESSION_LEVEL = 4
"""zstd: level 3 takes two thirds of the time and 6 % more space, level 5 a third more time and 1 % less space."""

BLOCK_BYTES = 2**20
"""Size of a block of compression. Blosc's default of 256 KiB at this level takes 1 % more space and no less time."""

SHARE = (np.arange(MAX_LEVEL + 1) / MAX_LEVEL).astype(np.float32)
"""The value of each stored level, for probabilities and entropies."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a video, without its first axis, time.

    Parameters
    ----------
    tail
        Shape of one frame.
    dtype
        NumPy's name of the type.
    dims
        Names of all axes, ``t`` first.
    attributes
        For readers without vss: what the array holds, and a ``scale_factor`` as in the CF conventions.
    fill
        Fill value of frames that were never written. Chosen so as not to look like a prediction; never read as data.
    level, shuffle
        Compression level (zstd), and how bytes are rearranged before it (``noshuffle``, ``shuffle``, ``bitshuffle``).
        Readers accept any.
    differences
        Which differences the file holds instead of values (`store.arrays`).
    """

    tail: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]
    fill: int | float
    level: int = COMPRESSION_LEVEL
    shuffle: str = "noshuffle"
    differences: Differences = "none"

    @property
    def frame_bytes(self) -> int:
        """Decoded bytes of one frame."""
        return int(np.prod(self.tail, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def score_size(encoding: Encoding, size: tuple[int, int]) -> tuple[int, int]:
    """h, w of the score grid for a frame of H, W."""
    return -(-size[0] // encoding.grid), -(-size[1] // encoding.grid)


def arrays_for(
    encoding: Encoding, num_classes: int, size: tuple[int, int], differences: Differences = "down"
) -> dict[str, ArraySpec]:
    """The arrays of a video (H, W) in a store of predictions or of a fusion, by name.

    ``differences`` says what the files of entropies and probabilities hold.
    """
    frame = ("t", "y", "x")
    # On a coarser grid the axes have other lengths, and xarray requires one length for each name.
    grid = ("y", "x") if encoding.grid == 1 else ("score_y", "score_x")
    h, w = score_size(encoding, size)
    # xarray applies the scale factor: it shows numbers in [0, 1].
    share = {"scale_factor": 1 / MAX_LEVEL, "units": "1"}
    entropy = {"long_name": "entropy / log C", **share}
    specs = {
        "label": ArraySpec(size, "uint8", frame, {"long_name": "most likely class"}, IGNORE),
        "entropy": ArraySpec(size, "uint8", frame, entropy, MAX_LEVEL, differences=differences),
    }
    if encoding.keep == "all":
        attributes = {"long_name": "log-probability of every class", "units": "nat"}
        specs["logits"] = ArraySpec(
            (num_classes, h, w), "float16", ("t", "c", *grid), attributes, float("nan"), shuffle="shuffle"
        )
        return specs
    tail, dims = (min(encoding.kept, num_classes), h, w), ("t", "k", *grid)
    classes = {"long_name": f"the most likely classes, most likely first, {IGNORE} behind the last"}
    probability = {"long_name": "their probabilities", **share}
    specs["top_class"] = ArraySpec(tail, "uint8", dims, classes, IGNORE)
    specs["top_probability"] = ArraySpec(tail, "uint8", dims, probability, 0, differences=differences)
    return specs


def pseudo_arrays(size: tuple[int, int]) -> dict[str, ArraySpec]:
    """The one array of a video in a pseudo-label store."""
    attributes = {"long_name": f"class of a reliable pixel, {IGNORE} where unreliable"}
    return {"pseudo_label": ArraySpec(size, "uint8", ("t", "y", "x"), attributes, IGNORE)}


def segment_frames(specs: Mapping[str, ArraySpec]) -> int:
    """Frames of a segment: 64, or the largest power of two whose arrays stay within `SEGMENT_BYTES`."""
    frame = sum(spec.frame_bytes for spec in specs.values())
    frames = MAX_SEGMENT
    while frames > 1 and frames * frame > SEGMENT_BYTES:
        frames //= 2
    return frames


def encode(mean: np.ndarray, grid_mean: np.ndarray, encoding: Encoding) -> dict[str, np.ndarray]:
    """Encode the distribution of one frame as the arrays of `arrays_for`.

    Parameters
    ----------
    mean
        Probabilities at frame size, (C, H, W) float32.
    grid_mean
        Probabilities on the score grid, (C, h, w) float32; ``mean`` itself if the grid has stride 1.
    encoding
        How to keep them. Of equally likely classes the lower one comes first.
    """
    frame = {
        "label": mean.argmax(axis=0).astype(np.uint8),
        "entropy": quantise(normalised_entropy(mean), encoding.entropy_step),
    }
    if encoding.keep == "all":
        frame["logits"] = np.log(np.maximum(grid_mean, SMALLEST)).astype(np.float16)
        return frame
    kept = min(encoding.kept, len(grid_mean))
    order = np.argsort(-grid_mean, axis=0, kind="stable")[:kept]
    frame["top_class"] = order.astype(np.uint8)
    probability = np.take_along_axis(grid_mean, order, axis=0)
    frame["top_probability"] = quantise_list(frame["top_class"], probability, encoding)
    return frame


def normalised_entropy(mean: np.ndarray) -> np.ndarray:
    """-sum p ln p / ln C over the first axis, in [0, 1]; 0 if there is only one class. (C, ...) to (...)."""
    if len(mean) == 1:
        return np.zeros(mean.shape[1:], np.float32)
    # p ln p tends to 0 with p; the floor only keeps ln finite.
    entropy = -(mean * np.log(np.maximum(mean, SMALLEST))).sum(axis=0)
    return np.clip(entropy / np.log(len(mean)), 0.0, 1.0).astype(np.float32)


def quantise(share: np.ndarray, step: int) -> np.ndarray:
    """Numbers in [0, 1] to levels in 255ths, multiples of ``step`` or 255, uint8."""
    level = np.rint(np.clip(share, 0.0, 1.0) * np.float32(MAX_LEVEL / step))
    return np.minimum(level * step, MAX_LEVEL).astype(np.uint8)


def dequantise(level: np.ndarray) -> np.ndarray:
    """Stored levels of probabilities or entropies to numbers in [0, 1], float32."""
    return np.take(SHARE, level)


def quantise_list(top_class: np.ndarray, probability: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Levels of listed probabilities, (K, ...) uint8; classes that are too unlikely are removed from ``top_class``.

    ``top_class`` (K, ...) uint8, changed in place, and ``probability``, float32, are sorted by probability. The most
    likely class is always listed.
    """
    level = quantise(probability, encoding.step)
    level[0] = np.maximum(level[0], encoding.step)
    absent = probability < np.float32(encoding.drop)
    absent[0] = False
    level[absent] = 0
    top_class[level == 0] = IGNORE
    return level


def list_mass(top_class: np.ndarray, top_probability: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the listed classes, (K, ...), and of each class that is not listed, (...), float32.

    The others share evenly what the listed ones lack to 1. Where rounding makes the listed ones exceed 1, or fall short
    of it with no others left, they are scaled to 1.
    """
    listed = dequantise(top_probability)
    total = listed.sum(axis=0)
    others = np.float32(num_classes) - np.add.reduce(top_class != IGNORE, axis=0, dtype=np.uint8)
    each = np.maximum(1.0 - total, 0.0) / np.maximum(others, 1)
    listed /= np.where(others > 0, np.maximum(total, 1.0), total)
    return listed, each


def decode_lists(top_class: np.ndarray, top_probability: np.ndarray, num_classes: int) -> np.ndarray:
    """Rebuild a distribution over all classes, (C, ...) float32 that sums to 1, from stored lists, (K, ...)."""
    listed, each = list_mass(top_class, top_probability, num_classes)
    # An additional class receives the empty places of the lists, and is dropped.
    mean = np.repeat(each[None], num_classes + 1, axis=0)
    np.put_along_axis(mean, np.minimum(top_class, num_classes).astype(np.intp), listed, axis=0)
    return mean[:num_classes]


def decode_logits(logits: np.ndarray) -> np.ndarray:
    """Rebuild a distribution from float16 log-probabilities, (C, ...) to (C, ...) float32 that sums to 1."""
    mean = np.exp(logits.astype(np.float32))
    mean /= mean.sum(axis=0)
    return mean
