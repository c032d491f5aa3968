"""Several sources of one scene, for fusion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from store_samples import (
    SIZE,
    distributions,
    prediction_header,
    write_predictions,
)

from vsscli.store.header import Encoding
from vsscli.store.reader import Store

CLASSES = 12


FRAMES = 6


def source(path: Path, seed: int, encoding: Encoding | None = None, size: tuple[int, int] = SIZE) -> Store:
    """Sources of one scene: a common part, and an individual one."""
    videos = {}
    for number, (video, frames) in enumerate({"alley": 3, "street": FRAMES}.items()):
        shared = np.log(distributions(number, frames, CLASSES, size, 2.5))
        own = np.log(distributions(100 * seed + number, frames, CLASSES, size, 1.0))
        videos[video] = np.exp(shared + own)
        videos[video] /= videos[video].sum(axis=1, keepdims=True)
    header = prediction_header(CLASSES, encoding or Encoding(kept=5), weights=f"seed {seed}")
    return write_predictions(path, header, videos)
