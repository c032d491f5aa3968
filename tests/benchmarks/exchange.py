"""Ten thousand frames in and out: seconds a frame, and the most memory that it takes.

Each format is written and read in a process of its own, whose peak memory is read from the system, once for few frames
and once for many: what grows with frames shows as the difference. Frames are in twelve classes, moved from frame
to frame. ``--frames 10000 --size 240 432 --formats coco cvat`` gives the figures in docs/results.md.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from vsscli.data.classes import IGNORE, ClassTable, made_up_colour
from vsscli.data.masks import MaskIds
from vsscli.data.palettes import legend_of
from vsscli.exchange.catalogue import FORMATS, READ, reader_of, writer_of
from vsscli.exchange.items import Choices, Item, Reading
from vsscli.exchange.names import ClassNames
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import open_source_files

CLASSES = 12
TABLE = ClassTable("b", tuple(f"class {k}" for k in range(CLASSES)), tuple(made_up_colour(k) for k in range(CLASSES)))


def items(frames: int, size: tuple[int, int]) -> Iterator[Item]:
    """Frames of labels, 100 a video."""
    generator = np.random.default_rng(0)
    scores = [gaussian_filter(generator.normal(size=size), 24, mode="wrap") for _ in range(CLASSES)]
    label = np.argmax(scores, axis=0).astype(np.uint8)
    label[:8] = IGNORE
    for number in range(frames):
        moved = np.roll(label, (number * 3, number * 5), axis=(0, 1))
        yield Item(f"v{number // 100:03d}", f"{number % 100:05d}", moved, number % 100)


def write(form: str, out: Path, frames: int, size: tuple[int, int]) -> None:
    make, what = writer_of(form)
    with Sink(out, single=what.single) as sink:
        writer = make(sink, TABLE, Choices())
        for item in items(frames, size):
            writer.add(item)
        writer.finish()
        writer.close(None)


def read(form: str, out: Path, frames: int, size: tuple[int, int]) -> None:
    ids = MaskIds((IGNORE,), 0, legend=legend_of(TABLE))
    with open_source_files(out) as source:
        found = 0
        for one in reader_of(form)(Reading(source, ClassNames(TABLE), ids)):
            one.draw(one.size or size)
            found += 1
    assert found == frames


def child(arguments: list[str]) -> tuple[float, float]:
    """Seconds and MiB of a part of the work in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    return seconds, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--few", type=int, default=100)
    parser.add_argument("--formats", nargs="*", default=READ)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 853))
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        what, form, place, frames = arguments.child
        begin = time.process_time()
        (write if what == "write" else read)(form, Path(place), int(frames), tuple(arguments.size))
        print(time.process_time() - begin, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    print(f"{'format':14} {'frames':>7} {'MB':>7} {'write ms':>9} {'MiB':>6} {'read ms':>9} {'MiB':>6}")
    for form in arguments.formats:
        for frames in (arguments.few, arguments.frames):
            with tempfile.TemporaryDirectory() as folder:
                place = Path(folder) / f"a{FORMATS[form].single or '.zip'}"
                shape = ["--size", *map(str, arguments.size)]
                told = [child(["--child", what, form, str(place), str(frames), *shape]) for what in ("write", "read")]
                size = place.stat().st_size / 1e6
            (wrote, most), (took, peak) = told
            line = f"{form:14} {frames:7} {size:7.1f} {1e3 * wrote / frames:9.1f} {most:6.0f}"
            print(f"{line} {1e3 * took / frames:9.1f} {peak:6.0f}", flush=True)


if __name__ == "__main__":
    main()
