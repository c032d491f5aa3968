"""How much faster one pass over a folder of masks is than the published way of scoring it.

    python tests/benchmarks/metrics.py --videos 4 --frames 72

Draws videos of 480x853 masks and predictions into a temporary folder, scores mIoU, weighted IoU, VC8 and VC16 in both
ways, checks that they agree to 1e-12, and prints both times and their ratio.

The published way: three scripts, each of which reads every mask and every prediction (mIoU and weighted IoU; VC8; VC16,
which is the VC8 script with another number), with windows times n comparisons of whole frames. It is reimplemented
here, and does what those scripts do and nothing more, with Pillow and on one core as they do. Source:
VSPW-dataset/VSPW_code, `evaluator_test.py`, `utils.py` and `VC_perclip.py`; ids are mapped as DVIS_Plus does.

Both decode with Pillow, whose cost depends on the kind of PNG: it writes grey ones (L) with filters that are slow to
undo, palette ones (P) without. So each usual combination has a line, ground truth first: L/P as VSPW's
baseline writes predictions, L/L as DVIS and UniVS do, P/P as `vss` does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds
from vsscli.data.png import encode_label
from vsscli.data.videos import FolderVideo, Frame
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import FolderLabels, score

CLASSES = 124
SIZE = (480, 853)
PALETTE = bytes(value * 37 % 256 for value in range(768))

Figures = dict[str, float]


def write_palette_mask(path: Path, label: np.ndarray, palette: bytes | None) -> None:
    """A mask whose palette says nothing of its classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_label(label, palette or b""))


def draw_videos(root: Path, videos: int, frames: int, kinds: str, seed: int = 0) -> list[FolderVideo]:
    """Ground truth in `root`/truth and predictions in `root`/prediction; `kinds` like L/P says what PNGs they are.

    A background of irregular areas, panned; ellipses that move across it; a strip of void. The prediction draws the
    same with outlines that tremble, and with blobs that flicker.
    """
    generator = np.random.default_rng(seed)
    height, width = SIZE
    truth_palette, label_palette = (PALETTE if kind == "P" else None for kind in kinds.split("/"))
    drawn = []
    for video in range(videos):
        name = f"video{video:03d}"
        fields = generator.standard_normal((8, 7, 12)).astype(np.float32)
        margin = 2 * frames + 16
        size = (width + margin, height + 16)
        large = [np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BICUBIC)) for field in fields]
        classes = generator.choice(CLASSES, 8 + 9, replace=False)
        background = classes[np.argmax(large, axis=0)].astype(np.uint8)
        objects = generator.uniform((0, 0, 20, 20, -4, -1), (width, height, 90, 130, 4, 1), (9, 6))
        entries = []
        for index in range(frames):
            stem = f"{index:08d}"
            truth = draw_frame(background, classes[8:], objects, index, (8, 8 + 2 * index))
            tremble = generator.normal(0, 1.0, objects.shape)
            down, right = generator.integers(-1, 2, 2)
            label = draw_frame(background, classes[8:], objects + tremble, index, (8 + down, 8 + 2 * index + right))
            flicker(label, generator)
            raw = truth + 1
            raw[:6] = 0
            raw[-6:] = 255
            mask = root / "truth" / name / f"{stem}.png"
            write_palette_mask(mask, raw, truth_palette)
            write_palette_mask(root / "prediction" / name / f"{stem}.png", label, label_palette)
            entries.append(Frame(name, stem, None, mask))
        drawn.append(FolderVideo(name, tuple(entries)))
    return drawn


def draw_frame(
    background: np.ndarray, classes: np.ndarray, objects: np.ndarray, index: int, corner: tuple[int, int]
) -> np.ndarray:
    """Classes of one frame, (H, W) uint8."""
    height, width = SIZE
    image = Image.fromarray(background[corner[0] : corner[0] + height, corner[1] : corner[1] + width])
    pen = ImageDraw.Draw(image)
    for value, (x, y, half_width, half_height, dx, dy) in zip(classes, objects, strict=True):
        x, y = (x + dx * index) % width, (y + dy * index) % height
        pen.ellipse((x - half_width, y - half_height, x + half_width, y + half_height), fill=int(value))
    return np.array(image)


def flicker(label: np.ndarray, generator: np.random.Generator) -> None:
    """Small wrong blobs that no other frame has."""
    for _ in range(20):
        y, x = generator.integers(0, SIZE[0]), generator.integers(0, SIZE[1])
        height, width = generator.integers(2, 24, 2)
        label[y : y + height, x : x + width] = generator.integers(0, CLASSES)


def official_confusion(videos: Sequence[FolderVideo], prediction: Path) -> Figures:
    """One pass over all files for mIoU and weighted IoU."""
    matrix = np.zeros((CLASSES, CLASSES))
    for video in videos:
        for frame in video.frames:
            truth = np.array(Image.open(str(frame.mask)))
            label = np.array(Image.open(prediction / video.name / f"{frame.stem}.png"))
            truth[truth == 0] = 255
            truth = truth - 1
            truth[truth == 254] = 255
            valid = (truth >= 0) & (truth < CLASSES)
            pairs = CLASSES * truth[valid].astype("int") + label[valid]
            matrix += np.bincount(pairs, minlength=CLASSES**2).reshape(CLASSES, CLASSES)
    rows = matrix.sum(axis=1)
    with np.errstate(invalid="ignore"):
        iou = np.diag(matrix) / (rows + matrix.sum(axis=0) - np.diag(matrix))
    present = rows > 0
    return {"miou": iou[present].mean(), "wiou": (rows[present] / rows.sum() * iou[present]).sum()}


def official_consistency(videos: Sequence[FolderVideo], prediction: Path, window: int) -> Figures:
    """One pass over all files for one n; every window compares its first frame with the n - 1 that follow."""
    accuracies: list[float] = []
    for video in videos:
        if len(video.frames) <= window:
            continue
        truths, labels = [], []
        for frame in video.frames:
            truths.append(np.array(Image.open(str(frame.mask))))
            labels.append(np.array(Image.open(prediction / video.name / f"{frame.stem}.png")))
        for start in range(len(truths) - window):
            truth_constant = np.ones(truths[start].shape)
            label_constant = np.ones(truths[start].shape)
            for later in range(start + 1, start + window):
                truth_constant = np.logical_and(truth_constant, truths[start] == truths[later])
                label_constant = np.logical_and(label_constant, labels[start] == labels[later])
            accuracies.append((label_constant * truth_constant).sum() / truth_constant.sum())
    return {f"vc{window}": float(np.nanmean(accuracies))}


def official(videos: Sequence[FolderVideo], prediction: Path) -> Figures:
    """Everything, the published way."""
    return (
        official_confusion(videos, prediction)
        | official_consistency(videos, prediction, 8)
        | official_consistency(videos, prediction, 16)
    )


def ours(videos: Sequence[FolderVideo], prediction: Path, workers: int | None) -> Figures:
    """Everything, in one pass."""
    names = tuple(f"class {index}" for index in range(CLASSES))
    table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(CLASSES)))
    figures = score(videos, FolderLabels(prediction), table, MaskIds(), engine=Engine(workers))
    return dict(figures.values)


@dataclass(frozen=True)
class Spent:
    """What a call cost: seconds on the clock, and seconds of processor in all threads."""

    clock: float
    processor: float


def timed(work: Callable[[], Figures]) -> tuple[Spent, Figures]:
    """What a call costs, and what it returns."""
    clock, processor = time.perf_counter(), time.process_time()
    figures = work()
    return Spent(time.perf_counter() - clock, time.process_time() - processor), figures


@dataclass(frozen=True)
class Row:
    """A line of the table: medians, in milliseconds per frame."""

    kinds: str
    kilobytes: float
    milliseconds: dict[str, float]
    processor: dict[str, float]
    figures: Figures

    def ratio(self, way: str) -> float:
        """How many times as fast as the official way."""
        return self.milliseconds["official"] / self.milliseconds[way]


def compare(kinds: str, videos: int, frames: int, repeats: int) -> Row:
    """Draw a data set and score it both ways, in turns."""
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as folder:
        root = Path(folder)
        drawn = draw_videos(root, videos, frames, kinds)
        sizes = [path.stat().st_size for path in root.rglob("*.png")]
        prediction = root / "prediction"
        ways: dict[str, Callable[[], Figures]] = {
            "official": lambda: official(drawn, prediction),
            "ours": lambda: ours(drawn, prediction, None),
            "ours, one thread": lambda: ours(drawn, prediction, 1),
        }
        spent: dict[str, list[Spent]] = {way: [] for way in ways}
        results: dict[str, Figures] = {}
        for _ in range(repeats):
            for way, work in ways.items():
                cost, results[way] = timed(work)
                spent[way].append(cost)
        for metric, value in results["official"].items():
            if not abs(value - results["ours"][metric]) <= 1e-12:
                sys.exit(f"{metric}: official {value!r}, ours {results['ours'][metric]!r}")

    def middle(what: str) -> dict[str, float]:
        each = 1000 / (videos * frames)
        return {way: each * statistics.median(getattr(cost, what) for cost in costs) for way, costs in spent.items()}

    return Row(kinds, statistics.mean(sizes) / 1000, middle("clock"), middle("processor"), results["ours"])


def main() -> None:
    """Run for each mix of PNGs and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4, help="videos to draw (default 4)")
    parser.add_argument("--frames", type=int, default=72, help="frames of each, above 16 (default 72: VSPW's mean)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each way, in turns; medians count (default 3)")
    parser.add_argument(
        "--kinds", nargs="+", choices=("L/P", "L/L", "P/P"), default=("L/P", "L/L", "P/P"), help="truth/prediction"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    arguments = parser.parse_args()
    if arguments.frames <= 16:
        parser.error("--frames must be above 16, or there is no VC16")
    rows = [compare(kinds, arguments.videos, arguments.frames, arguments.repeats) for kinds in arguments.kinds]
    machine = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "numpy": version("numpy"),
        "pillow": version("pillow"),
    }
    if arguments.json:
        runs = [asdict(row) | {"ratio": row.ratio("ours")} for row in rows]
        print(json.dumps({"machine": machine, "videos": arguments.videos, "frames": arguments.frames, "runs": runs}))
        return
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    print(f"{arguments.videos} videos of {arguments.frames} frames of {SIZE[0]}x{SIZE[1]}; milliseconds per frame,")
    print("on the clock (of processor, in all threads); the ratio is of the clock")
    for row in rows:
        print(f"{row.kinds} PNGs of {row.kilobytes:.1f} kB")
        for way, spent in row.milliseconds.items():
            print(f"  {way:17} {spent:6.2f} ({row.processor[way]:5.2f})   ratio {row.ratio(way):5.1f}")


if __name__ == "__main__":
    main()
