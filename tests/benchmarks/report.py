"""Reports of few and of many frames: seconds a frame, the size of the folder, and the most memory that it takes.

Each report is written in a process of its own, whose peak memory is read from the system: what grows with the frames
shows as the difference. The frames of one long clip have labels, masks and two dozen different contents in turn.

    python tests/benchmarks/report.py --few 500 --frames 10000 --size 360 480
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from vsscli.context import Context
from vsscli.data.classes import ClassTable, made_up_colour
from vsscli.data.layouts import plain_data
from vsscli.pipeline.report import write_report
from vsscli.store.encode import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.writer import StoreWriter

DIFFERENT = 24
VIDEO = "clip"


def make_store(home: Path, frames: int, size: tuple[int, int], classes: int) -> Path:
    """A clip with masks, in VSPW's layout, and a prediction of it."""
    generator = np.random.default_rng(0)
    root = home / "data"
    fields = [gaussian_filter(generator.normal(size=size), 24, mode="wrap") for _ in range(classes)]
    scores = np.stack(fields).astype(np.float32) / np.std(fields)
    grain = gaussian_filter(generator.normal(size=(*size, 3)), (1, 1, 0)) * 60
    palette = generator.integers(40, 215, (classes, 3))
    table = ClassTable("b", tuple(f"class {k}" for k in range(classes)), tuple(map(made_up_colour, range(classes))))
    for folder in ("origin", "mask"):
        (root / "data" / VIDEO / folder).mkdir(parents=True)
    encoding, kept = Encoding(kept=3), []
    for t in range(DIFFERENT):
        moved = np.roll(scores, (3 * t, 5 * t), axis=(1, 2))
        truth = moved.argmax(0)
        image = np.clip(palette[truth] + grain, 0, 255).astype(np.uint8)
        Image.fromarray(image).save(root / f"{t}.jpg", quality=90)
        Image.fromarray((truth + 1).astype(np.uint8)).save(root / f"{t}.png")
        mean = np.exp(4 * (moved + 0.3 * np.roll(moved, t % 7, axis=0)))
        kept.append(encode(mean / mean.sum(0), mean / mean.sum(0), encoding))
    stems = [f"{t:05d}" for t in range(frames)]
    for t, stem in enumerate(stems):
        for folder, ending in (("origin", "jpg"), ("mask", "png")):
            os.link(root / f"{t % DIFFERENT}.{ending}", root / "data" / VIDEO / folder / f"{stem}.{ending}")
    (root / "classes.json").write_text(json.dumps(table.to_dict()))
    (root / "val.txt").write_text(f"{VIDEO}\n")
    section = plain_data(root).model_dump(mode="json")
    data = {"name": "b", "split": "val", "root": str(root), "section": section}
    header = Header(
        kind="prediction",
        table=table,
        scores="logits",
        source={"weights": "b"},
        encoding=encoding.to_dict(),
        data=data,
        summary={"model": "b", "plan": "none"},
    )
    place = home / "runs" / "b.zarr"
    with StoreWriter(place, header) as writer:
        for segment in writer.pending(VIDEO, stems, size):
            rows = [kept[t % DIFFERENT] for t in range(segment.start, segment.stop)]
            writer.write(VIDEO, segment, {name: np.stack([row[name] for row in rows]) for name in rows[0]})
    return place


def report(store: Path) -> None:
    """Write a report, and say how long it took, how large it is, and what memory it took."""
    begin = time.process_time()
    done = write_report([store], context=Context(store.parent))
    took = time.process_time() - begin
    # Not ru_maxrss, which begins with that of the parent.
    peak = int(re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text())[1]) / 1024  # type: ignore[index]
    size = sum(path.stat().st_size for path in done.folder.rglob("*")) / 1e6
    print(took, peak, size, done.page.stat().st_size / 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--few", type=int, default=300)
    parser.add_argument("--classes", type=int, default=12)
    parser.add_argument("--size", type=int, nargs=2, default=(360, 480))
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        report(arguments.child)
        return
    print(f"{'frames':>7} {'CPU ms/frame':>13} {'MiB':>6} {'MB':>8} {'page kB':>8}")
    for frames in (arguments.few, arguments.frames):
        with tempfile.TemporaryDirectory() as home:
            store = make_store(Path(home), frames, tuple(arguments.size), arguments.classes)
            command = [sys.executable, __file__, "--child", str(store)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            took, peak, size, page = map(float, done.stdout.split())
            print(f"{frames:7} {1e3 * took / frames:13.1f} {peak:6.0f} {size:8.1f} {page:8.1f}", flush=True)


if __name__ == "__main__":
    main()
