"""The gain of choosing crops by class on CamVid, 46 labelled frames of 367.

    CAMVID_ROOT=… python tests/benchmarks/rare.py --out runs/rare --seeds 1 2 3

Trains the student of recipes/camvid/student.yaml with crops in turn, or chosen by class (`train.rare`) with each
temperature and share; scored on `val` with the last checkpoint, without test-time augmentation. Finished runs are kept:
running it again continues, and prints the table so far.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import time
from collections.abc import Collection
from pathlib import Path

import torch
from unreliable import METRICS, Printed

from vsscli.context import Context
from vsscli.data.config import Data
from vsscli.data.layouts import open_dataset
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import Engine
from vsscli.evaluation.score import score
from vsscli.inference.plans import NONE
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.recipes.load import load_recipe, recipe_from_dict
from vsscli.training.begun import begun_run
from vsscli.training.inputs import training_inputs
from vsscli.training.run import train
from vsscli.training.validation import LiveLabels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/rare"))
    parser.add_argument("--recipe", default="recipes/camvid/student.yaml")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--temperatures", nargs="+", type=float, default=[0.01, 0.1])
    parser.add_argument("--shares", nargs="+", type=float, default=[0.5, 1.0])
    parser.add_argument("--pixels", type=int, default=500, help="of a class in a frame of 360x480")
    arguments = parser.parse_args()
    root = Path(os.environ["CAMVID_ROOT"])
    rows = {"in turn": ["train.rare=null"]}
    for temperature in arguments.temperatures:
        for share in arguments.shares:
            rows[f"by class, T {temperature:g}, {share:.0%} of the crops"] = [
                f"train.rare.temperature={temperature}",
                f"train.rare.share={share}",
                f"train.rare.pixels={arguments.pixels}",
            ]
    figures: dict[str, list[list[float]]] = {}
    for seed in arguments.seeds:
        for number, (row, changes) in enumerate(rows.items()):
            name = f"rare-{number}-{seed}-{arguments.steps}"
            recipe = load_recipe(
                arguments.recipe,
                [
                    f"name={name}",
                    f"seed={seed}",
                    f"train.steps={arguments.steps}",
                    f"train.warmup={min(40, arguments.steps // 4)}",
                    "train.validate_every=0",
                    *changes,
                ],
            )
            folder = arguments.out / name
            begun = begun_run(folder, recipe, training_inputs(recipe, None, None))
            since = time.process_time()
            context = Context(arguments.out, root, talk=Printed())
            last = train(recipe, folder, context=context, resume=begun is True, force=begun is False, check=False).last
            figures.setdefault(row, []).append(scored(last, root))
            print(
                f"{row}, seed {seed}: mIoU {figures[row][-1][0]:.2f}, {time.process_time() - since:.0f} s", flush=True
            )
    names = open_dataset(recipe.data, root).table.names
    print(f"| crops | mIoU | wIoU | VC8 | VC16 | {' | '.join(names)} |")
    print(f"| --- |{' ---: |' * (len(METRICS) + len(names))}")
    for row, of_seeds in figures.items():
        means = [statistics.mean(values) for values in zip(*of_seeds, strict=True)]
        spread = f" ± {statistics.stdev(values[0] for values in of_seeds):.2f}" if len(of_seeds) > 1 else ""
        cells = [f"{means[0]:.2f}{spread}", *(f"{mean:.2f}" for mean in means[1:4]), *(f"{m:.1f}" for m in means[4:])]
        print(f"| {row} | {' | '.join(cells)} |")


def scored(
    path: Path, root: Path, data: Data | None = None, split: str = "val", without: Collection[str] = ()
) -> list[float]:
    """The four metrics and each class's IoU, per cent; on the data set that was trained on where no other is named, and
    on a split of it, apart from some frames."""
    checkpoint = load_checkpoint(path)
    recipe = recipe_from_dict(checkpoint.recipe, str(path))
    dataset = open_dataset(data or recipe.data, root)
    how = ReadOut(recipe.predict.size, recipe.predict.window, recipe.predict.step, NONE)
    predictor = Predictor(restore_network(checkpoint), checkpoint.normalisation, how, torch.device("cpu"))
    left = [
        (video.name, tuple(frame for frame in video.frames if frame.address not in without))
        for video in dataset.split(split)
    ]
    videos = [FolderVideo(name, frames) for name, frames in left if frames]
    found = score(videos, LiveLabels(predictor, videos), dataset.table, dataset.ids, metrics=METRICS, engine=Engine(1))
    by_class = [0.0 if math.isnan(row["iou"]) else row["iou"] for row in found.per_class.values()]
    return [100 * value for value in (*(found.values[name] for name in METRICS), *by_class)]


if __name__ == "__main__":
    main()
