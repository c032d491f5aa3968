"""Official checkpoints without their numbers: the names and shapes of every tensor.

``fixtures/official_keys.json.gz`` holds those of the three published networks at full size, generated from the official
classes, and of the shrunken ones that the parity fixtures were made with.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path

import torch

FILE = Path(__file__).parent / "fixtures" / "official_keys.json.gz"
INDEX = ("relative_position_index", "rp_bucket", "num_batches_tracked")


@cache
def shapes() -> dict[str, dict[str, list[int]]]:
    return json.loads(gzip.decompress(FILE.read_bytes()))


def official_state(name: str, device: str = "meta") -> dict[str, torch.Tensor]:
    """A state dict of those names and shapes, on a device: ``meta`` costs nothing at any size."""
    return {
        key: torch.zeros(shape, device=device, dtype=torch.int64 if key.endswith(INDEX) else torch.float32)
        for key, shape in shapes()[name].items()
    }
