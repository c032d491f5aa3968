"""What storing entropies and probabilities as differences saves, with different codecs of Zarr.

    python tests/benchmarks/differences.py STORE --frames 12

All are measured on the same frames in turn: kB and milliseconds of processor time per frame, one thread, the shortest
of five rounds for reading. `up` is format 3, which has no standard codec; `down` is format 4 (`vsscli.store.arrays`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numcodecs import blosc, zstd

from vsscli.store.arrays import decode_chunk, encode_chunk, specs_of
from vsscli.store.encode import ArraySpec
from vsscli.store.reader import open_store

ROUNDS = 5
Pack = Callable[[np.ndarray], bytes]


def packed(values: np.ndarray, shuffle: int = blosc.NOSHUFFLE) -> bytes:
    return bytes(blosc.compress(np.ascontiguousarray(values), b"zstd", 4, shuffle, 2**20, typesize=1))


def up(values: np.ndarray) -> np.ndarray:
    return np.diff(values, axis=-2, prepend=np.uint8(0))


def flat(values: np.ndarray) -> np.ndarray:
    return np.diff(values.reshape(-1), prepend=np.uint8(0)).reshape(values.shape)


def columns(values: np.ndarray) -> np.ndarray:
    return flat(np.ascontiguousarray(np.swapaxes(values, -1, -2)))


def ways(spec: ArraySpec) -> dict[str, Pack]:
    return {
        "values": packed,
        "values, bits shuffled": partial(packed, shuffle=blosc.BITSHUFFLE),
        "delta": lambda values: packed(flat(values)),
        "transpose, delta": lambda values: packed(columns(values)),
        "transpose, delta, bits shuffled": lambda values: packed(columns(values), blosc.BITSHUFFLE),
        "up (format 3)": lambda values: packed(up(values)),
        "up, zstd 4 without Blosc": lambda values: bytes(zstd.compress(up(values), 4)),
        "down (format 4)": partial(encode_chunk, replace(spec, differences="down")),
    }


def reading(spec: ArraySpec, frames: Sequence[np.ndarray]) -> dict[str, float]:
    """Milliseconds a frame by what a chunk holds, decompressed by what vss reads with."""
    out, best = np.empty(spec.tail, np.uint8), {"none": 1e9, "up": 1e9, "down": 1e9}
    plain = replace(spec, differences="none")
    chunks = {
        "none": [encode_chunk(plain, frame) for frame in frames],
        "up": [encode_chunk(plain, up(frame)) for frame in frames],
        "down": [encode_chunk(replace(spec, differences="down"), frame) for frame in frames],
    }
    for _ in range(ROUNDS):
        for name in best:
            start = time.process_time()
            for chunk in chunks[name]:
                decode_chunk(replace(spec, differences=name), chunk, out)  # type: ignore[arg-type]
            best[name] = min(best[name], (time.process_time() - start) / len(frames) * 1e3)
            assert (out == frames[-1]).all()
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--frames", type=int, default=12)
    chosen = parser.parse_args()
    store = open_store(chosen.store)
    video = store.videos()[0]
    specs = specs_of(store.header, store.size(video))
    for name, spec in specs.items():
        frames = store.read(video, name, slice(0, chosen.frames))
        print(f"{name} {spec.tail}, {len(frames)} frames")
        if name not in ("entropy", "top_probability"):
            print(f"  {'as it is':34}{sum(len(packed(frame)) for frame in frames) / len(frames) / 1e3:9.2f} kB")
            continue
        for way, pack in ways(spec).items():
            start = time.process_time()
            size = sum(len(pack(frame)) for frame in frames) / len(frames) / 1e3
            print(f"  {way:34}{size:9.2f} kB {(time.process_time() - start) / len(frames) * 1e3:9.2f} ms to write")
        for way, milliseconds in reading(spec, frames).items():
            print(f"  {way:34}{milliseconds:22.2f} ms to read")


if __name__ == "__main__":
    main()
