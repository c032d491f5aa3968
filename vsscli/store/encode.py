"""How a distribution becomes bytes and back: the NumPy reference. The device's encoding must equal it.

Letters: C classes, K kept, H W frame, h w score grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vsscli.store.header import LOG_STEP, MAX_LEVEL, Encoding
from vsscli.store.record import MAX_SEGMENT

IGNORE = 255
"""Pseudo-label of an unreliable pixel; also what an array holds where nothing was written."""

SMALLEST = 1e-12
"""Probabilities below are kept as this one; float16 and 8 bits can't tell them apart."""

SEGMENT_BYTES = 128 * 2**20
"""Decoded bytes of a segment at most, so that one in hand and one being written fit a small machine."""

COMPRESSION_LEVEL = 3
"""zstd: level 5 saves 6 % and takes twice as long, level 1 costs 16 % more."""

PROBABILITY = np.exp(-LOG_STEP * np.arange(MAX_LEVEL + 1)).astype(np.float32)
"""Probability of each stored level."""


@dataclass(frozen=True)
class ArraySpec:
    """One array of a video, without its first axis, time.

    Parameters
    ----------
    tail
        Shape of one frame.
    dtype
        NumPy name of the type.
    dims
        Names of all axes, ``t`` first.
    attributes
        For readers without vss; ``scale_factor`` and ``add_offset`` as in the CF conventions.
    fill
        What stands where nothing was written. Chosen to look like no prediction; never read as data.
    level, shuffle
        Strength of the compression (zstd), and how bytes are put before it (``noshuffle``, ``shuffle``,
        ``bitshuffle``). Readers take any.
    """

    tail: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]
    fill: int | float
    level: int = COMPRESSION_LEVEL
    shuffle: str = "noshuffle"

    @property
    def frame_bytes(self) -> int:
        """Decoded bytes of one frame."""
        return int(np.prod(self.tail, dtype=np.int64)) * np.dtype(self.dtype).itemsize


def score_size(encoding: Encoding, size: tuple[int, int]) -> tuple[int, int]:
    """h, w of the score grid of a frame of H, W."""
    return -(-size[0] // encoding.grid), -(-size[1] // encoding.grid)


def arrays_for(encoding: Encoding, num_classes: int, size: tuple[int, int]) -> dict[str, ArraySpec]:
    """The arrays of a video in a store of predictions or of a fusion.

    Parameters
    ----------
    encoding
        How distributions are kept.
    num_classes
        C.
    size
        H, W.

    Returns
    -------
    dict
        `ArraySpec` by name, in the order in which they are written.
    """
    frame = ("t", "y", "x")
    # On a coarser grid the axes have other lengths, and xarray wants one length per name.
    grid = ("y", "x") if encoding.grid == 1 else ("score_y", "score_x")
    h, w = score_size(encoding, size)
    log = {"scale_factor": -LOG_STEP, "add_offset": 0.0, "units": "nat"}
    specs = {
        "label": ArraySpec(size, "uint8", frame, {"long_name": "most likely class"}, IGNORE),
        "entropy": ArraySpec(
            size,
            "uint8",
            frame,
            {"long_name": "entropy / log C", "scale_factor": 1 / MAX_LEVEL, "add_offset": 0.0, "units": "1"},
            MAX_LEVEL,
        ),
    }
    if encoding.keep == "all":
        attributes = {"long_name": "log-probability of every class", "units": "nat"}
        specs["logits"] = ArraySpec(
            (num_classes, h, w), "float16", ("t", "c", *grid), attributes, float("nan"), shuffle="shuffle"
        )
        return specs
    kept = min(encoding.kept, num_classes)
    dims = ("t", "k", *grid)
    classes = {"long_name": "the most likely classes, most likely first"}
    specs["top_class"] = ArraySpec((kept, h, w), "uint8", dims, classes, IGNORE)
    specs["top_logit"] = ArraySpec(
        (kept, h, w), "uint8", dims, {"long_name": "their log-probabilities", **log}, MAX_LEVEL
    )
    return specs


def pseudo_arrays(size: tuple[int, int]) -> dict[str, ArraySpec]:
    """The one array of a video in a pseudo-label store."""
    attributes = {"long_name": f"class of a reliable pixel, {IGNORE} where unreliable"}
    return {"pseudo_label": ArraySpec(size, "uint8", ("t", "y", "x"), attributes, IGNORE)}


def segment_frames(specs: Mapping[str, ArraySpec]) -> int:
    """Frames of a segment: 64, or the largest power of two whose arrays stay under `SEGMENT_BYTES`."""
    frame = sum(spec.frame_bytes for spec in specs.values())
    frames = MAX_SEGMENT
    while frames > 1 and frames * frame > SEGMENT_BYTES:
        frames //= 2
    return frames


def encode(mean: np.ndarray, grid_mean: np.ndarray, encoding: Encoding) -> dict[str, np.ndarray]:
    """Encode the distribution of one frame.

    Parameters
    ----------
    mean
        Probabilities at frame size, (C, H, W) float32.
    grid_mean
        Probabilities on the score grid, (C, h, w) float32; ``mean`` itself when the grid has stride 1.
    encoding
        How to keep them.

    Returns
    -------
    dict
        Of each array of `arrays_for`, one frame. Of classes equally likely the lower comes first.
    """
    frame = {
        "label": mean.argmax(axis=0).astype(np.uint8),
        "entropy": quantise_entropy(normalised_entropy(mean)),
    }
    if encoding.keep == "all":
        frame["logits"] = np.log(np.maximum(grid_mean, SMALLEST)).astype(np.float16)
        return frame
    kept = min(encoding.kept, len(grid_mean))
    order = np.argsort(-grid_mean, axis=0, kind="stable")[:kept]
    frame["top_class"] = order.astype(np.uint8)
    frame["top_logit"] = quantise_probability(np.take_along_axis(grid_mean, order, axis=0))
    return frame


def normalised_entropy(mean: np.ndarray) -> np.ndarray:
    """-sum p ln p / ln C over the first axis, in [0, 1]; 0 where there is one class only. (C, ...) to (...)."""
    if len(mean) == 1:
        return np.zeros(mean.shape[1:], np.float32)
    # p ln p goes to 0 with p; the floor only keeps ln finite.
    entropy = -(mean * np.log(np.maximum(mean, SMALLEST))).sum(axis=0)
    return np.clip(entropy / np.log(len(mean)), 0.0, 1.0).astype(np.float32)


def quantise_entropy(entropy: np.ndarray) -> np.ndarray:
    """Normalised entropy to 256 levels, uint8."""
    return np.rint(np.clip(entropy, 0.0, 1.0) * MAX_LEVEL).astype(np.uint8)


def dequantise_entropy(level: np.ndarray) -> np.ndarray:
    """Stored levels to normalised entropy, float32."""
    return level.astype(np.float32) / np.float32(MAX_LEVEL)


def quantise_probability(probability: np.ndarray) -> np.ndarray:
    """Probabilities to levels of -ln p, `LOG_STEP` nats each, uint8; what is under e^-7.98 is kept as e^-7.97."""
    level = np.rint(np.log(np.maximum(probability, SMALLEST)) * np.float32(-1 / LOG_STEP))
    return np.clip(level, 0, MAX_LEVEL).astype(np.uint8)


def dequantise_log_probability(level: np.ndarray) -> np.ndarray:
    """Stored levels to log-probabilities, float32."""
    return level.astype(np.float32) * np.float32(-LOG_STEP)


def list_mass(top_logit: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of the listed classes, and of each class that is not listed.

    What the listed ones lack to 1 is spread evenly over the others; rounding can make them exceed 1 (or lack
    something where no others are), then they are scaled to 1.

    Parameters
    ----------
    top_logit
        Stored levels, (K, ...) uint8.
    num_classes
        C.

    Returns
    -------
    tuple
        (K, ...) and (...) float32; the first summed plus C - K times the second is 1.
    """
    listed = np.take(PROBABILITY, top_logit)
    total = listed.sum(axis=0)
    others = num_classes - len(top_logit)
    if others == 0:
        return listed / total, np.zeros_like(total)
    each = np.maximum(1.0 - total, 0.0) / np.float32(others)
    listed /= np.maximum(total, 1.0)
    return listed, each


def decode_lists(top_class: np.ndarray, top_logit: np.ndarray, num_classes: int) -> np.ndarray:
    """Rebuild a distribution over all classes from the stored lists.

    Parameters
    ----------
    top_class, top_logit
        As stored, (K, ...) uint8.
    num_classes
        C.

    Returns
    -------
    ndarray
        (C, ...) float32, sums to 1.
    """
    listed, each = list_mass(top_logit, num_classes)
    mean = np.repeat(each[None], num_classes, axis=0)
    np.put_along_axis(mean, top_class.astype(np.intp), listed, axis=0)
    return mean


def decode_logits(logits: np.ndarray) -> np.ndarray:
    """Rebuild a distribution from float16 log-probabilities, (C, ...) to (C, ...) float32, sums to 1."""
    mean = np.exp(logits.astype(np.float32))
    mean /= mean.sum(axis=0)
    return mean
