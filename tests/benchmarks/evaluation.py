"""How much faster scoring and threshold sweeps are from a store than from a folder of PNGs.

    python tests/benchmarks/evaluation.py --frames 40
    python tests/benchmarks/evaluation.py --frames 40 --store predictions.zarr

Draws a video of 480x853 masks and predictions (as `metrics.py` does), keeps the predictions as grey and as palette PNGs
and as a store, and scores mIoU, weighted IoU, VC8 and VC16 from each; the figures are the same. Then it sweeps twenty
thresholds of the entropy, with coverage and precision at each: from the store, and from a label and an entropy PNG per
frame, in one pass over the files and in one pass per threshold. The ground-truth masks are palette PNGs in every case,
so reading the predictions is also timed alone. With a given store, its labels and entropies are used instead of drawn
ones, and nearly all of its labels are right. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from metrics import CLASSES, PALETTE, draw_videos, write_palette_mask
from scipy.ndimage import gaussian_filter

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds, read_mask
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import Engine
from vsscli.evaluation.labels import LabelSource
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.fusion.reliability import measure_reliability
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import Store, open_store
from vsscli.store.writer import StoreWriter

TO_CLASS = MaskIds(first=1, void=(0, 255), unknown="void").lookup(CLASSES).astype(np.uint8)
"""Values of the drawn masks to classes."""

THRESHOLDS = np.linspace(0.02, 0.4, 20)


def write_store(
    path: Path, labels: list[np.ndarray], entropies: list[np.ndarray], video: str, stems: list[str]
) -> None:
    """Labels and entropies as a store of predictions that list one class."""
    names = tuple(f"class {index}" for index in range(CLASSES))
    table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(CLASSES)))
    encoding = Encoding(kept=1)
    with StoreWriter(path, Header("prediction", table, "logits", {}, encoding.to_dict())) as writer:
        for segment in writer.pending(video, stems, labels[0].shape):
            part = np.stack(labels[segment.start : segment.stop])
            arrays = {
                "label": part,
                "entropy": np.stack(entropies[segment.start : segment.stop]),
                "top_class": part[:, None],
                "top_probability": np.full_like(part, 255)[:, None],
            }
            writer.write(video, segment, arrays)


def draw_entropies(labels: list[np.ndarray], seed: int = 0) -> list[np.ndarray]:
    """Stored entropies, uint8: high where the label changes, falling off around, uneven by a level or two."""
    generator = np.random.default_rng(seed)
    drawn = []
    for label in labels:
        edge = np.zeros(label.shape, np.float32)
        edge[1:] += label[1:] != label[:-1]
        edge[:, 1:] += label[:, 1:] != label[:, :-1]
        near = 400 * (gaussian_filter(edge, 3) + gaussian_filter(edge, 12))
        drawn.append((near + generator.normal(0, 0.6, label.shape)).clip(0, 200).astype(np.uint8))
    return drawn


Sweep = list[tuple[float, float]]
"""Coverage and precision at each of `THRESHOLDS`."""


def sweep_store(store: Store, video: FolderVideo) -> Sweep:
    """As `vss pseudo --report` does."""

    def truth(name: str, t: int) -> np.ndarray:
        mask = video.frames[t].mask
        assert mask is not None
        return TO_CLASS.take(read_mask(mask))

    counts = measure_reliability(store, truth, engine=Engine(1))
    levels = (THRESHOLDS * 255 + 1e-9).astype(int)
    return list(zip(counts.coverage()[levels].tolist(), counts.precision()[levels].tolist(), strict=True))


def sweep_files(labels: Path, entropies: Path, video: FolderVideo, thresholds: np.ndarray) -> Sweep:
    """Plainly, in one pass: each frame's files are decoded once, then each threshold makes its mask and counts."""
    pixels, counts = 0, np.zeros((len(thresholds), 3), np.int64)
    for frame in video.frames:
        assert frame.mask is not None
        label = read_mask(labels / video.name / f"{frame.stem}.png")
        entropy = read_mask(entropies / video.name / f"{frame.stem}.png")
        truth = TO_CLASS.take(read_mask(frame.mask))
        known, right = truth < CLASSES, truth == label
        pixels += label.size
        for index, threshold in enumerate(thresholds):
            reliable = entropy <= int(threshold * 255 + 1e-9)
            counts[index] += [np.count_nonzero(mask) for mask in (reliable, reliable & known, reliable & right)]
    return [(covered / pixels, right / known) for covered, known, right in counts.tolist()]


def sweep_again_and_again(labels: Path, entropies: Path, video: FolderVideo) -> Sweep:
    """As a script that takes one threshold, called for each."""
    return [point for threshold in THRESHOLDS for point in sweep_files(labels, entropies, video, np.array([threshold]))]


def milliseconds(work: Callable[[], object], frames: int) -> float:
    """Milliseconds of processor time per frame."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / frames


def main() -> None:
    """Print milliseconds a frame and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--store", type=Path, help="take labels and entropies from here; frames of 480x853 or not")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as name:
        root = Path(name)
        videos = draw_videos(root, 1, arguments.frames, "P/P")
        (video,) = videos
        stems = list(video.stems)
        labels = [read_mask(root / "prediction" / video.name / f"{stem}.png") for stem in stems]
        entropies = draw_entropies(labels)
        if arguments.store:
            given = open_store(arguments.store)
            name = given.videos()[0]
            labels = [given.label(name, t) for t in range(len(stems))]
            entropies = [given.read(name, "entropy", t) for t in range(len(stems))]
            for frame, label in zip(video.frames, labels, strict=True):
                assert frame.mask is not None
                truth = np.where(np.arange(label.shape[1]) % 9 == 0, 0, label + 1)  # nothing more to it: it is read
                write_palette_mask(frame.mask, truth.astype(np.uint8), PALETTE)
        for kind, planes, palette in (
            ("grey", labels, None),
            ("palette", labels, PALETTE),
            ("entropy", entropies, None),
        ):
            for stem, plane in zip(stems, planes, strict=True):
                write_palette_mask(root / kind / video.name / f"{stem}.png", plane, palette)
        write_store(root / "a.zarr", labels, entropies, video.name, stems)
        names = tuple(f"class {index}" for index in range(CLASSES))
        table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(CLASSES)))
        ids = MaskIds(first=1, void=(0, 255), unknown="void")
        sources: dict[str, LabelSource] = {
            "grey PNG": FolderLabels(root / "grey"),
            "palette PNG": FolderLabels(root / "palette"),
            "store": StoreLabels(open_store(root / "a.zarr")),
        }
        whole, reading, figures = {}, {}, {}
        for kind, source in sources.items():
            figures[kind] = score(videos, source, table, ids, engine=Engine(1)).to_json()
            whole[kind] = statistics.median(
                milliseconds(lambda source=source: score(videos, source, table, ids, engine=Engine(1)), len(stems))  # type: ignore[misc]
                for _ in range(arguments.repeats)
            )
            reading[kind] = statistics.median(
                milliseconds(
                    lambda source=source: [source.label(video.name, t, stem) for t, stem in enumerate(stems)],  # type: ignore[misc]
                    len(stems),
                )
                for _ in range(arguments.repeats)
            )
        assert figures["store"] == figures["grey PNG"] == figures["palette PNG"]
        print("predictions as | reading, ms | ratio to store | scoring, ms | ratio to store")
        for kind in sources:
            print(
                f"{kind:14} | {reading[kind]:.2f} | {reading[kind] / reading['store']:.1f} "
                f"| {whole[kind]:.2f} | {whole[kind] / whole['store']:.1f}"
            )

        store = open_store(root / "a.zarr")
        palettes, greys = root / "palette", root / "entropy"
        ways: dict[str, Callable[[], Sweep]] = {
            "store": lambda: sweep_store(store, video),
            "PNGs, one pass": lambda: sweep_files(palettes, greys, video, THRESHOLDS),
            "PNGs, a pass each": lambda: sweep_again_and_again(palettes, greys, video),
        }
        points = {way: work() for way, work in ways.items()}
        for way in points:
            assert np.allclose(points[way], points["store"])
        took = {
            way: statistics.median(milliseconds(work, len(stems)) for _ in range(arguments.repeats))
            for way, work in ways.items()
        }
        reading_both = {
            "store": lambda: [[store.read(video.name, a, t) for a in ("label", "entropy")] for t in range(len(stems))],
            "PNGs": lambda: [[read_mask(f / video.name / f"{stem}.png") for f in (palettes, greys)] for stem in stems],
        }
        print(f"sweep of {len(THRESHOLDS)} thresholds from | ms | ratio to store")
        for way, time_taken in took.items():
            print(f"{way:18} | {time_taken:.2f} | {time_taken / took['store']:.1f}")
        both = {
            way: statistics.median(milliseconds(work, len(stems)) for _ in range(arguments.repeats))
            for way, work in reading_both.items()
        }
        print(f"label and entropy, read alone: store {both['store']:.2f}, PNGs {both['PNGs']:.2f} ms")


if __name__ == "__main__":
    main()
