"""The cost of fusing two stores compared with averaging dense arrays, and their sizes.

    python tests/benchmarks/predictions.py patches.pt --steps 500 --frames 18
    python tests/benchmarks/fusion.py patches.pt --frames 4

Three ways to the label and entropy of the mean of two sources, from the same predictions: (1) store to store, read,
decoded, fused from the lists, encoded, compressed, synced; (2) float32 in compressed ``.npz``: load, cast, sum, divide,
argmax, save compressed, as nnU-Net's ensembling does, without an entropy; (3) two dense float32 arrays that are already
in memory: mean, argmax, entropy, without reading or writing. One thread each.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from predictions import Predictions, load_predictions

from vsscli.data.classes import ClassTable
from vsscli.engine.engine import Engine
from vsscli.fusion.ensemble import fuse
from vsscli.inference.encode import encode_frame
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store, open_store
from vsscli.store.upkeep import measure
from vsscli.store.writer import StoreWriter


def write_store(path: Path, predictions: Predictions, source: int, frames: int, encoding: Encoding) -> Store:
    """One source as a store."""
    classes = predictions.num_classes
    names = tuple(f"class {index}" for index in range(classes))
    table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(classes)))
    header = Header("prediction", table, "logits", {"source": source}, encoding.to_dict())
    encoded = [encode_frame(views, encoding) for views in predictions.sources[source][:frames]]
    with StoreWriter(path, header) as writer:
        stems = [f"{t:05d}" for t in range(frames)]
        for segment in writer.pending("video", stems, predictions.truth.shape[1:]):
            part = encoded[segment.start : segment.stop]
            writer.write("video", segment, {name: np.stack([f[name].numpy() for f in part]) for name in part[0]})
    return open_store(path)


def average_npz(folder: Path, frames: int) -> None:
    """The way of dense files."""
    for t in range(frames):
        mean = None
        for source in (0, 1):
            with np.load(folder / f"{source}-{t}.npz") as file:
                loaded = file["probabilities"].astype(np.float32)
            mean = loaded if mean is None else mean + loaded
        assert mean is not None
        mean /= 2
        np.savez_compressed(folder / f"fused-{t}.npz", probabilities=mean, label=mean.argmax(0).astype(np.uint8))


def average_in_memory(dense: list[list[np.ndarray]]) -> None:
    """Two arrays a frame, (C, H, W) float32, to label and entropy."""
    for one, other in zip(*dense, strict=True):
        mean = one + other
        mean *= np.float32(0.5)
        mean.argmax(axis=0)
        surprise = np.log(np.maximum(mean, np.float32(1e-12)))
        surprise *= mean
        surprise.sum(axis=0)


def timed(work: Callable[[], object], frames: int) -> tuple[float, float]:
    """Milliseconds a frame: on the clock, and of processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return 1000 * (time.perf_counter() - clock) / frames, 1000 * (time.process_time() - processor) / frames


def main() -> None:
    """Run the three ways in turns and print their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--frames", type=int, default=4, help="(default 4)")
    parser.add_argument("--repeats", type=int, default=3, help="turns of store and memory (default 3)")
    parser.add_argument("--npz-frames", type=int, default=1, help="of the slow way (default 1; 0 leaves it out)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    predictions = load_predictions(arguments.predictions)
    frames, few = arguments.frames, arguments.npz_frames
    dense = [[predictions.dense(source, t).numpy().copy() for t in range(frames)] for source in range(2)]
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as name:
        folder = Path(name)
        stores = [write_store(folder / f"{s}.zarr", predictions, s, frames, Encoding()) for s in range(2)]
        store_bytes = sum(measure(store.path).total for store in stores) / 2 / frames
        turns = []
        for turn in range(arguments.repeats):
            out = folder / f"f{turn}.zarr"
            from_stores = timed(lambda out=out: fuse(stores, [1, 1], out, engine=Engine(1)), frames)  # type: ignore[misc]
            turns.append((from_stores, timed(lambda: average_in_memory(dense), frames)))
        stored, memory = (np.median([turn[way] for turn in turns], axis=0) for way in (0, 1))
        shape = "x".join(map(str, dense[0][0].shape))
        print(f"{os.cpu_count()} cores, {frames} frames of {shape}; milliseconds a frame, clock (processor)")
        print(
            f"  store to store     {stored[0]:9.1f} ({stored[1]:.1f})   {store_bytes / 1e3:.0f} kB a frame and source"
        )
        print(f"  arrays in memory   {memory[0]:9.1f} ({memory[1]:.1f})   {dense[0][0].nbytes / 1e6:.0f} MB")
        ratio = np.median([m[1] / s[1] for s, m in turns])
        print(f"  memory / store     {ratio:9.2f}")
        if few:
            for source in range(2):
                for t in range(few):
                    np.savez_compressed(folder / f"{source}-{t}.npz", probabilities=dense[source][t])
            sizes = [(folder / f"{source}-{t}.npz").stat().st_size for source in range(2) for t in range(few)]
            slow = timed(lambda: average_npz(folder, few), few)
            print(f"  npz to npz         {slow[0]:9.1f} ({slow[1]:.1f})   {np.mean(sizes) / 1e6:.1f} MB")
            print(
                f"  npz / store        {slow[1] / stored[1]:9.1f} in time, {np.mean(sizes) / store_bytes:.0f} in size"
            )


if __name__ == "__main__":
    main()
