"""Small stores for the tests of store and fusion."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.data.classes import ClassTable
from vsscli.store.encode import encode
from vsscli.store.files import SEAL, group_bytes
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter

SIZE = (5, 6)
CLASSES = 5


def class_table(num_classes: int = CLASSES) -> ClassTable:
    names = tuple(f"class {i}" for i in range(num_classes))
    return ClassTable("sample", names, tuple((i, 2 * i % 256, 7) for i in range(num_classes)))


def prediction_header(num_classes: int = CLASSES, encoding: Encoding | None = None, **source: Any) -> Header:
    return Header(
        kind="prediction",
        table=class_table(num_classes),
        scores="logits",
        source={"weights": "0123", "scales": [0.75, 1.0], "flip": True, "numerics": 1, **source},
        encoding=(encoding or Encoding(kept=3)).to_dict(),
        data={"name": "sample", "split": "val", "root": "somewhere"},
    )


def distributions(
    seed: int, frames: int, num_classes: int = CLASSES, size: tuple[int, int] = SIZE, sharpness: float = 3.0
) -> np.ndarray:
    """Random softmax, (T, C, H, W) float32; more certain with larger ``sharpness``."""
    scores = np.random.default_rng(seed).normal(size=(frames, num_classes, *size)) * sharpness
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)


def stems(frames: int) -> list[str]:
    return [f"{i:05d}" for i in range(frames)]


def shrink(mean: np.ndarray, grid: int) -> np.ndarray:
    """Area mean of (C, H, W) on the score grid; H and W are multiples of ``grid``."""
    c, h, w = mean.shape
    return mean.reshape(c, h // grid, grid, w // grid, grid).mean(axis=(2, 4))


def write_predictions(path: Path, header: Header, videos: Mapping[str, np.ndarray]) -> Store:
    """Write dense distributions (T, C, H, W) of some videos as a store."""
    encoding = header.parsed_encoding()
    with StoreWriter(path, header) as writer:
        for video, means in videos.items():
            for segment in writer.pending(video, stems(len(means)), means.shape[2:]):
                writer.write(video, segment, encoded(means[segment.start : segment.stop], encoding))
    return open_store(path)


def encoded(means: np.ndarray, encoding: Encoding) -> dict[str, np.ndarray]:
    """The arrays of a store for dense distributions (T, C, H, W)."""
    frames = [encode(mean, shrink(mean, encoding.grid), encoding) for mean in means]
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


def change_group(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a store or the record of a video in its ``zarr.json``, and seal it again."""
    values = json.loads(path.read_text(encoding="utf-8"))["attributes"]["vss"]
    values.pop(SEAL, None)
    change(values)
    path.write_bytes(group_bytes(values))


def snapshot(path: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}
