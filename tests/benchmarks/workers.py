"""How much faster scoring, fusing and thresholding are with several processes.

    python tests/benchmarks/workers.py --videos 8 --frames 60 --workers 1 2

Draws videos of 480x853 masks and predictions (as `metrics.py` does) as two stores, then scores mIoU, weighted IoU, VC8
and VC16, fuses the two, and makes pseudo-labels, with each number of workers; figures and bytes are compared. A process
takes as long to start as scoring hundreds of frames, so short runs gain nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from pathlib import Path

import numpy as np
from evaluation import write_store
from metrics import CLASSES, draw_videos

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds, read_mask
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import StoreLabels, score
from vsscli.fusion.ensemble import fuse
from vsscli.fusion.threshold import threshold_from_percentile, write_pseudo
from vsscli.store.reader import open_store

COMMANDS = ["eval", "ensemble", "pseudo"]


def write_sources(folder: Path, count: int, frames: int) -> list[FolderVideo]:
    """Drawn videos with masks, and their predictions in ``a.zarr`` and ``b.zarr``."""
    videos = draw_videos(folder, count, frames, "L/L")
    for number, video in enumerate(videos):
        stems = list(video.stems)
        labels = [read_mask(folder / "prediction" / video.name / f"{stem}.png") for stem in stems]
        entropies = [
            np.random.default_rng((number, t)).integers(0, 256, labels[0].shape, np.uint8) for t in range(frames)
        ]
        for store in ("a.zarr", "b.zarr"):
            write_store(folder / store, labels, entropies, video.name, stems)
    return videos


def digest(folder: Path) -> str:
    """SHA-256 of all files of a folder."""
    files = [path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()]
    return hashlib.sha256(b"".join(files)).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    arguments = parser.parse_args()
    table = ClassTable("benchmark", tuple(f"class {k}" for k in range(CLASSES)), ((0, 0, 0),) * CLASSES)
    ids = MaskIds(first=1, void=(0, 255), unknown="void")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = write_sources(folder, arguments.videos, arguments.frames)
        stores = [open_store(folder / store) for store in ("a.zarr", "b.zarr")]
        frames, first = arguments.videos * arguments.frames, {}
        print(f"{arguments.videos} videos of {arguments.frames} frames; frames per second")
        for workers in arguments.workers:
            engine, out = Engine(workers), folder / str(workers)
            turns = {
                "eval": lambda engine=engine: str(score(videos, StoreLabels(stores[0]), table, ids, engine=engine)),
                "ensemble": lambda engine=engine, out=out: digest(fuse(stores, [1, 1], out / "f.zarr", engine=engine)),
                "pseudo": lambda engine=engine, out=out: digest(
                    write_pseudo(
                        stores[0],
                        out / "p.zarr",
                        threshold_from_percentile(stores[0], 80, engine=engine),
                        engine=engine,
                    ).path
                ),
            }
            for what in arguments.commands:
                work = turns[what]
                began = time.perf_counter()
                result = work()  # type: ignore[no-untyped-call]
                seconds = time.perf_counter() - began
                result_first, seconds_first = first.setdefault(what, (result, seconds))
                assert result == result_first, f"{what} depends on the number of workers"
                print(
                    f"{what:9} {workers:3} workers {frames / seconds:8.1f}  x {seconds_first / seconds:.2f}", flush=True
                )


if __name__ == "__main__":
    main()
