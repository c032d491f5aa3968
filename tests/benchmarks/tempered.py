"""What lists lose with temperatures: pixels that change between reliable and unreliable, compared with dense arrays.

    python tests/benchmarks/predictions.py patches.pt --steps 240 --frames 4
    python tests/benchmarks/tempered.py patches.pt --frames 2

Compares fusions of one source and of two, store to store, with the dense distributions raised to the power of 1 / T,
normalised and averaged in float64. Flips are shares of all pixels, with each side's own 80th percentile of the entropy
as the threshold, and with that of the dense side for both; also the mean difference of the entropies, in levels of 255.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from fusion import write_store
from predictions import Predictions, load_predictions

from vsscli.fusion.ensemble import fuse
from vsscli.store.header import COMPACT, FINE, Encoding
from vsscli.store.reader import Store, open_store

HEATS = (0.3, 0.5, 0.8, 1.0, 1.25, 2.0, 3.0)
KEPT = {"default": Encoding(), "fine": FINE, "compact": COMPACT}


def dense_entropy(predictions: Predictions, weights: list[float], heat: float, frames: int) -> np.ndarray:
    """Normalised entropies of the mean of the tempered distributions, (T, H, W)."""
    found = []
    for t in range(frames):
        mean = np.zeros(())
        for source, weight in enumerate(weights):
            power = predictions.dense(source, t).numpy().astype(np.float64) ** (1 / heat)
            mean = mean + weight * power / power.sum(0)
        found.append(-(mean * np.log(np.maximum(mean, 1e-30))).sum(0) / np.log(len(mean)))
    return np.stack(found)


def fused_entropy(stores: list[Store], weights: list[float], heat: float, out: Path) -> np.ndarray:
    """The same from stores."""
    fused = open_store(fuse(stores, weights, out, temperatures=[heat] * len(stores)))
    (video,) = fused.videos()
    return np.stack([fused.entropy(video, t) for t in range(len(fused.stems(video)))])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--frames", type=int, default=2)
    arguments = parser.parse_args()
    predictions = load_predictions(arguments.predictions)
    print(f"| sources | kept |{''.join(f' T = {heat:g} |' for heat in HEATS)}\n| --- | --- |{' ---: |' * len(HEATS)}")
    with tempfile.TemporaryDirectory() as folder:
        stores = {
            name: [
                write_store(Path(folder) / f"{name}{s}.zarr", predictions, s, arguments.frames, kept) for s in (0, 1)
            ]
            for name, kept in KEPT.items()
        }
        for weights in ([1.0], [0.6, 0.4]):
            right = [dense_entropy(predictions, weights, heat, arguments.frames) for heat in HEATS]
            for name, pair in stores.items():
                cells = []
                for heat, dense in zip(HEATS, right, strict=True):
                    out = Path(folder) / f"{name}-{len(weights)}-{heat}.zarr"
                    kept = fused_entropy(pair[: len(weights)], weights, heat, out)
                    limit, own = np.quantile(dense, 0.8), np.quantile(kept, 0.8)
                    flips = [((dense <= limit) != (kept <= bound)).mean() for bound in (own, limit)]
                    cells.append(f"{flips[0]:.1%}, {flips[1]:.1%}, {255 * np.abs(dense - kept).mean():.1f}")
                print(f"| {len(weights)} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
