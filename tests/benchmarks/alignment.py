"""How predicted labels are aligned with the masks of CamVid's `val`, at several sizes, without augmentation.

    CAMVID_ROOT=… python tests/benchmarks/alignment.py runs/camvid-teacher/last.pt --sizes 360 480 540

Prints mIoU and VC8, and how many pixels labels are too low and too far right: the vertex of the parabola through the
accuracies with labels shifted by -1, 0 and 1 pixels, on every ninth frame.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import torch

from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.masks import read_mask
from vsscli.evaluation.score import score
from vsscli.inference.plans import NONE
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.models.checkpoints import restore_network
from vsscli.pipeline.source import open_model, take_classes, with_weights
from vsscli.recipes.load import recipe_from_dict
from vsscli.training.validation import LiveLabels

EVERY = 9
SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


def shifts(predictor: Predictor, dataset: Dataset) -> tuple[float, float]:
    """How many pixels labels are too low, and too far right."""
    lookup, void = dataset.ids.lookup(dataset.table.num_classes), dataset.table.num_classes
    right = dict.fromkeys(SHIFTS, 0)
    for video in dataset.split("val"):
        for number in range(0, len(video), EVERY):
            truth = lookup[read_mask(video.frames[number].mask)][1:-1, 1:-1]
            label = predictor.label(video.read(number))
            for down, across in SHIFTS:
                moved = np.roll(label, (-down, -across), (0, 1))[1:-1, 1:-1]
                right[down, across] += int(((moved == truth) & (truth < void)).sum())
    here = right[0, 0]
    sides = ((right[-1, 0], right[1, 0]), (right[0, -1], right[0, 1]))
    low, across = (0.5 * (less - more) / (less - 2 * here + more) for less, more in sides)
    return low, across


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--sizes", nargs="+", type=int, default=[360, 480, 540], help="short sides at scale 1")
    arguments = parser.parse_args()
    root = Path(os.environ["CAMVID_ROOT"])
    print("| checkpoint | read out at | mIoU | VC8 | too low | too far right |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for path in arguments.checkpoints:
        checkpoint = open_model(path, data_root=root)
        dataset = open_dataset(recipe_from_dict(checkpoint.recipe, str(path)).data, root)
        take_classes(checkpoint, dataset)
        network, videos = restore_network(with_weights(checkpoint)), dataset.split("val")
        for size in arguments.sizes:
            how = ReadOut(size, None, None, NONE)
            predictor = Predictor(network, checkpoint.normalisation, how, torch.device("cpu"), batch_size=1)
            scored = score(videos, LiveLabels(predictor, videos), dataset.table, dataset.ids, metrics=("miou", "vc8"))
            low, across = shifts(predictor, dataset)
            miou, vc8 = (f"{100 * value:.2f}" for value in scored.values.values())
            figures = f"{miou} | {vc8} | {low:+.2f} | {across:+.2f}"
            print(f"| {path.parent.name} | {size} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
