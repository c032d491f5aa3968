"""The cost of ways to store distributions, and what a fusion of two sources loses.

    python tests/benchmarks/predictions.py camvid.pt --checkpoints a.pt b.pt
    python tests/benchmarks/encoding.py camvid.pt --table presets

The reference is the mean of the two dense float32 distributions at frame size, its label, its entropy, and the mask of
the 80 % of its pixels with the lowest entropy. Each setting encodes both sources as a store would and fuses the result:
where both labels agree they are the label, elsewhere the rebuilt mean decides; the entropy is the mean of the stored
ones plus the divergence of the rebuilt distributions. Times are processor seconds for one source, quantising and
compressing after the ranking, which every setting needs; decoding is decompressing.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numcodecs import blosc
from predictions import IGNORE, Predictions, load_predictions

from vsscli.inference.bands import mean_map
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.consistency import VideoConsistency

blosc.use_threads = False
SHUFFLES = {"no": blosc.NOSHUFFLE, "byte": blosc.SHUFFLE, "bit": blosc.BITSHUFFLE}
PERCENTILE = 80.0


@dataclass(frozen=True)
class Setting:
    """One way of keeping a distribution."""

    kept: int = 8
    scale: str = "log"
    """``log``: -ln p in ``steps`` per nat; ``sqrt``, ``linear``: the root of p, or p itself, in ``steps`` levels."""
    steps: int = 32
    bits: int = 8
    drop: float = 0.0
    """Entries behind the first with a probability under this are not kept."""
    grid: int = 1
    entropy_levels: int = 255
    entropy_grid: int = 1
    level: int = 4
    block: int = 2**20
    shuffle: str = "no"
    predictor: str = "up"
    """``up``: of probabilities and entropies, compress each row's difference to the one above."""

    @property
    def top(self) -> int:
        return (1 << self.bits) - 1 if self.scale == "log" else self.steps

    def quantise(self, p: np.ndarray) -> np.ndarray:
        if self.scale == "log":
            value = -np.log(np.maximum(p, 1e-12)) * np.float32(self.steps)
        else:
            value = (np.sqrt(p) if self.scale == "sqrt" else p) * np.float32(self.steps)
        return np.rint(np.clip(value, 0, self.top)).astype(np.uint8 if self.bits == 8 else np.uint16)

    def table(self) -> np.ndarray:
        """Probability of each level, float32."""
        level = np.arange(self.top + 1, dtype=np.float32)
        if self.scale == "log":
            return np.exp(-level / np.float32(self.steps))
        share = level / np.float32(self.steps)
        return share * share if self.scale == "sqrt" else share


@dataclass
class Kept:
    """One frame of one source as it would be stored, all planes (.., y, x), and what it took."""

    label: np.ndarray
    entropy: np.ndarray
    top_class: np.ndarray
    levels: np.ndarray
    bytes: dict[str, int]
    encode: float
    decode: float


def entropy_of(mean: np.ndarray) -> np.ndarray:
    """-sum p ln p over the first axis."""
    return -(mean * np.log(np.maximum(mean, 1e-12))).sum(axis=0)


def ranked(mean: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    top = torch.from_numpy(mean).topk(kept, dim=0)
    return top.indices.to(torch.uint8).numpy(), top.values.numpy()


def keep(setting: Setting, mean: np.ndarray, top: tuple[np.ndarray, np.ndarray]) -> Kept:
    """Keep one frame; ``top`` are its classes and probabilities on the score grid, most likely first."""
    label = mean.argmax(axis=0).astype(np.uint8)
    entropy = entropy_of(mean) / np.log(len(mean))
    if setting.entropy_grid > 1:
        image = torch.from_numpy(entropy)[None, None]
        small = [-(-side // setting.entropy_grid) for side in entropy.shape]
        entropy = F.interpolate(image, small, mode="bilinear", align_corners=False, antialias=True)[0, 0].numpy()
    began = time.process_time()
    classes, p = top[0][: setting.kept].copy(), top[1][: setting.kept]
    levels = setting.quantise(p)
    nothing = setting.top if setting.scale == "log" else 0
    if setting.drop:
        absent = p < setting.drop
        absent[0] = False
        classes[absent] = IGNORE
        levels[absent] = nothing
    planes = {
        "label": label,
        "entropy": np.rint(np.clip(entropy, 0, 1) * setting.entropy_levels).astype(np.uint8),
        "top_class": classes,
        "top_logit": levels,
    }
    packed = {
        name: blosc.compress(
            predicted(name, plane) if setting.predictor == "up" else plane,
            b"zstd",
            setting.level,
            SHUFFLES[setting.shuffle],
            setting.block,
            typesize=plane.itemsize,
        )
        for name, plane in planes.items()
    }
    encode = time.process_time() - began
    began = time.process_time()
    for chunk in packed.values():
        blosc.decompress(chunk)
    decode = time.process_time() - began
    sizes = {name: len(chunk) for name, chunk in packed.items()}
    return Kept(label, planes["entropy"], classes, levels, sizes, encode, decode)


def predicted(name: str, plane: np.ndarray) -> np.ndarray:
    """What is compressed of a plane (.., y, x)."""
    if name in ("label", "top_class"):
        return plane
    return np.ascontiguousarray(np.diff(plane, axis=-2, prepend=np.zeros_like(plane[..., :1, :])))


def rebuild(setting: Setting, one: Kept, num_classes: int) -> np.ndarray:
    """The distribution that is kept, (C, h, w): what the entries lack to 1 is spread over the other classes."""
    p = setting.table()[one.levels]
    there = one.top_class != IGNORE
    p = np.where(there, p, 0)
    total = p.sum(axis=0)
    others = num_classes - there.sum(axis=0)
    each = np.maximum(1 - total, 0) / np.maximum(others, 1)
    p /= np.where(others > 0, np.maximum(total, 1), total)
    mean = np.empty((num_classes + 1, *total.shape), np.float32)
    mean[:] = each
    np.put_along_axis(mean, np.where(there, one.top_class, num_classes).astype(np.intp), p, axis=0)
    return mean[:num_classes]


def enlarge(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(.., h, w) to (.., H, W), bilinear."""
    if values.shape[-2:] == tuple(size):
        return values
    flat = torch.from_numpy(values.reshape(1, -1, *values.shape[-2:]))
    return F.interpolate(flat, size, mode="bilinear", align_corners=False).numpy().reshape(*values.shape[:-2], *size)


def fuse_kept(setting: Setting, kept: list[Kept], num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Label (H, W) and normalised entropy (H, W) of the fusion of what was kept."""
    size = kept[0].label.shape
    rebuilt = [rebuild(setting, one, num_classes) for one in kept]
    mean = sum(rebuilt) / np.float32(len(rebuilt))
    divergence = entropy_of(mean) - sum(map(entropy_of, rebuilt)) / len(rebuilt)
    label = np.where(kept[0].label == kept[1].label, kept[0].label, enlarge(mean, size).argmax(axis=0))
    stored = sum(enlarge(one.entropy.astype(np.float32), size) for one in kept) / len(kept) / setting.entropy_levels
    return label.astype(np.uint8), stored + enlarge(divergence, size) / np.log(num_classes)


class Scored:
    """mIoU, VC8 and VC16 of labels that come frame by frame, and masks of their sure pixels."""

    def __init__(self, predictions: Predictions) -> None:
        self.truth = predictions.truth
        lookup = np.arange(256, dtype=np.uint8)
        lookup[predictions.num_classes :] = IGNORE
        self.confusion = ConfusionMatrix(predictions.num_classes, lookup)
        self.consistency = VideoConsistency([n for n in (8, 16) if n < len(self.truth)], "vspw")
        self.consistency.start_video(len(self.truth))
        self.labels: list[np.ndarray] = []
        self.entropies: list[np.ndarray] = []

    def add(self, label: np.ndarray, entropy: np.ndarray) -> None:
        truth = self.truth[len(self.labels)]
        self.confusion.update(truth, label)
        self.consistency.update(truth, label)
        self.labels.append(label)
        self.entropies.append(entropy.astype(np.float32))

    def figures(self) -> dict[str, float]:
        if len(self.consistency.windows) and not self.consistency.videos:
            self.consistency.end_video("video")
        scores = self.consistency.figures()
        return {"miou": self.confusion.miou, **scores}

    def reliable(self) -> np.ndarray:
        """The `PERCENTILE` % of pixels of lowest entropy, as the fused store's 255 levels tell them apart."""
        entropy = np.stack(self.entropies)
        return entropy <= np.percentile(entropy, PERCENTILE)


def measure(predictions: Predictions, settings: list[Setting]) -> list[dict[str, object]]:
    """A row of figures for each setting, in one pass over the frames."""
    classes = predictions.num_classes
    reference = Scored(predictions)
    scored = [Scored(predictions) for _ in settings]
    sizes: list[list[dict[str, int]]] = [[] for _ in settings]
    times = np.zeros((len(settings), 2))
    most = min(max(setting.kept for setting in settings), classes)
    for t in range(len(predictions.truth)):
        dense = [predictions.dense(source, t).numpy() for source in range(2)]
        mean = (dense[0] + dense[1]) / 2
        reference.add(mean.argmax(axis=0).astype(np.uint8), entropy_of(mean) / np.log(classes))
        tops = {}
        for index, setting in enumerate(settings):
            if setting.grid not in tops:
                small = tuple(-(-side // setting.grid) for side in mean.shape[1:])
                views = [predictions.sources[source][t] for source in range(2)]
                on_grid = dense if setting.grid == 1 else [mean_map(view, small).numpy() for view in views]
                tops[setting.grid] = [ranked(one, most) for one in on_grid]
            kept = [keep(setting, one, top) for one, top in zip(dense, tops[setting.grid], strict=True)]
            scored[index].add(*fuse_kept(setting, kept, classes))
            sizes[index] += [one.bytes for one in kept]
            times[index] += [sum(one.encode for one in kept), sum(one.decode for one in kept)]
    right = reference.figures()
    sure = reference.reliable()
    rows = []
    for setting, one, size, (encode, decode) in zip(settings, scored, sizes, times, strict=True):
        planes = {name: round(sum(s[name] for s in size) / len(size)) for name in size[0]}
        figures = one.figures()
        agree = np.mean([np.mean(a == b) for a, b in zip(reference.labels, one.labels, strict=True)])
        rows.append(
            {
                "setting": asdict(setting),
                "bytes": sum(planes.values()),
                "planes": planes,
                "encode_ms": 1000 * encode / len(size),
                "decode_ms": 1000 * decode / len(size),
                "agree": 100 * float(agree),
                **{name: (100 if name == "miou" else 1) * (figures[name] - right[name]) for name in right},
                "flips": 100 * float((one.reliable() != sure).mean()),
            }
        )
    return rows


def tables() -> dict[str, list[Setting]]:
    """Settings to compare: each table changes one thing."""
    base = Setting(kept=6, scale="linear", steps=255, drop=0.008)  # the default
    plain = Setting(predictor="none", level=3, block=0)
    return {
        "presets": [
            base,
            replace(base, kept=8, drop=0.004),  # fine
            replace(base, kept=3, steps=31, drop=0.06, entropy_levels=63),  # compact
            replace(plain, scale="linear", steps=85, drop=0.015),  # format 2
            plain,  # format 1
        ],
        "grid": [replace(base, grid=grid) for grid in (1, 2, 4)],
        "kept": [replace(base, kept=kept) for kept in (3, 4, 5, 6, 8, 12)],
        "scale": [
            replace(base, scale=scale, steps=steps, bits=bits)
            for scale, steps, bits in (
                ("log", 8, 8),
                ("log", 16, 8),
                ("log", 32, 8),
                ("log", 256, 16),
                ("linear", 63, 8),
                ("linear", 85, 8),
                ("linear", 127, 8),
                ("linear", 255, 8),
                ("sqrt", 63, 8),
                ("sqrt", 127, 8),
                ("sqrt", 255, 8),
            )
        ],
        "drop": [replace(base, drop=drop) for drop in (0.0, 0.002, 0.004, 0.008, 0.015, 0.03, 0.05)],
        "entropy": [
            replace(base, entropy_levels=levels, entropy_grid=grid)
            for levels, grid in ((255, 1), (127, 1), (63, 1), (31, 1), (255, 2), (63, 2))
        ],
        "compression": [
            replace(base, level=level, block=block, shuffle=shuffle, predictor=predictor)
            for level, block, shuffle, predictor in (
                (4, 2**20, "no", "none"),
                (1, 2**20, "no", "up"),
                (3, 2**20, "no", "up"),
                (4, 0, "no", "up"),
                (4, 2**20, "no", "up"),
                (5, 2**20, "no", "up"),
                (7, 2**20, "no", "up"),
                (4, 2**20, "bit", "up"),
            )
        ],
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("--table", nargs="+", default=["presets"], choices=sorted(tables()))
    parser.add_argument("--frames", type=int, help="only the first so many")
    parser.add_argument("--set", help="JSON list of settings instead of a table")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    predictions = load_predictions(arguments.predictions)
    if arguments.frames:
        predictions = Predictions(predictions.sources, predictions.truth[: arguments.frames])
    chosen = [setting for name in arguments.table for setting in tables()[name]]
    if arguments.set:
        chosen = [Setting(**values) for values in json.loads(arguments.set)]
    rows = measure(predictions, list(dict.fromkeys(chosen)))
    if arguments.json:
        print(json.dumps(rows))
        return
    print("kB a frame = label + entropy + classes + levels | ms encode, decode | agree | mIoU VC8 VC16 | flips % | how")
    for row in rows:
        planes = " + ".join(f"{size / 1000:.1f}" for size in row["planes"].values())  # type: ignore[attr-defined]
        scores = " ".join(f"{row[name]:+.4f}" for name in ("miou", "vc8", "vc16") if name in row)
        setting = " ".join(f"{name}={value}" for name, value in row["setting"].items())  # type: ignore[attr-defined]
        print(
            f"{row['bytes'] / 1000:7.1f} = {planes} | {row['encode_ms']:.0f} {row['decode_ms']:.0f} | "
            f"{row['agree']:.3f} | {scores} | {row['flips']:.3f} | {setting}"
        )


if __name__ == "__main__":
    main()
