"""How much faster scoring reads labels from a store than from a folder of PNGs.

    python tests/benchmarks/evaluation.py --frames 40

Draws a video of 480x853 masks and predictions (as `metrics.py` does), keeps the predictions as grey and as palette PNGs
and as a store, and scores mIoU, weighted IoU, VC8 and VC16 from each; the figures are the same. The masks of the ground
truth are PNGs in every case, so beside the whole it times the reading of the predictions alone. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from metrics import CLASSES, PALETTE, SIZE, draw_videos

from vsscli.data.classes import ClassTable
from vsscli.data.masks import MaskIds, read_mask, write_mask
from vsscli.evaluation.labels import LabelSource
from vsscli.evaluation.score import FolderLabels, StoreLabels, score
from vsscli.store.encode import encode
from vsscli.store.header import Encoding, Header
from vsscli.store.reader import open_store
from vsscli.store.writer import StoreWriter


def write_store(path: Path, labels: list[np.ndarray], video: str, stems: list[str]) -> None:
    """Labels as a store of predictions that are sure of them."""
    names = tuple(f"class {index}" for index in range(CLASSES))
    table = ClassTable("benchmark", names, tuple((index, index, index) for index in range(CLASSES)))
    encoding = Encoding(kept=1)
    with StoreWriter(path, Header("prediction", table, "logits", {}, encoding.to_dict())) as writer:
        for segment in writer.pending(video, stems, SIZE):
            part = np.stack(labels[segment.start : segment.stop])
            sure = encode(np.array([0.001, 0.999], np.float32)[:, None, None], np.ones((1, 1, 1), np.float32), encoding)
            arrays = {
                "label": part,
                "entropy": np.full_like(part, sure["entropy"].item()),
                "top_class": part[:, None],
                "top_probability": np.full_like(part, 255)[:, None],
            }
            writer.write(video, segment, arrays)


def milliseconds(work: Callable[[], object], frames: int) -> float:
    """Of processor, a frame."""
    began = time.process_time()
    work()
    return 1000 * (time.process_time() - began) / frames


def main() -> None:
    """Print milliseconds a frame and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as name:
        root = Path(name)
        videos = draw_videos(root, 1, arguments.frames, "P/P")
        (video,) = videos
        stems = list(video.stems)
        labels = [read_mask(root / "prediction" / video.name / f"{stem}.png") for stem in stems]
        for kind, palette in (("grey", None), ("palette", PALETTE)):
            for stem, label in zip(stems, labels, strict=True):
                write_mask(root / kind / video.name / f"{stem}.png", label, palette)
        write_store(root / "a.zarr", labels, video.name, stems)
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
            figures[kind] = score(videos, source, table, ids, workers=1).to_json()
            whole[kind] = statistics.median(
                milliseconds(lambda source=source: score(videos, source, table, ids, workers=1), len(stems))  # type: ignore[misc]
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


if __name__ == "__main__":
    main()
