"""Pixels that a mask classifier's queries leave unclaimed: three ways to a distribution, measured.

    python tests/benchmarks/missing.py teacher/last.pt student/last.pt --data ROOT --every 3

Mask scores are sums over queries and need not sum to 1. First, the accuracy of labels by that sum, one view per frame.
Then, for each kind of distribution, without and with test-time augmentation: the accuracy of the 80 % of the pixels
with the lowest entropy, the expected calibration error of the likeliest class's probability (15 bins of equal width),
the mean negative logarithm of the true class's probability in nats, mIoU, and the share of the pixels with scores that
sum to less than 0.6 (in one view) that are among those 80 %; on the split that the recipe validates on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.masks import read_mask
from vsscli.inference.bands import mean_map
from vsscli.inference.plans import NONE, AugmentationPlan
from vsscli.inference.predictor import Predictor
from vsscli.inference.readout import ReadOut
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.models.network import Network
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.load import recipe_from_dict

TWO = AugmentationPlan("two", (0.75, 1.0), True)
BOUNDS = (0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1, np.inf)
BINS = 15
FAINT = 0.6

Way = Callable[[Tensor], Tensor]


def normalised(values: Tensor) -> Tensor:
    """Mask scores (B, C, h, w) divided by their sum."""
    return values / values.sum(1, keepdim=True).clamp_min(1e-6)


def spread(values: Tensor, prior: Tensor) -> Tensor:
    """What lacks to 1 given out as the prior (C,) says; where the sum is above 1, divided by it."""
    total = values.sum(1, keepdim=True)
    return values / total.clamp_min(1) + (1 - total).clamp_min(0) * prior[:, None, None]


def scaled(values: Tensor) -> Tensor:
    """Mask scores of which only those lack something whose sum is below `FAINT`."""
    return values / values.sum(1, keepdim=True).clamp(FAINT, 1)


class Read:
    """A network's distributions of labelled frames, each way."""

    def __init__(self, network: Network, dataset: Dataset, size: int | None, every: int) -> None:
        self.network, self.size = network, size
        self._forward = network.forward
        lookup = dataset.ids.lookup(dataset.table.num_classes)
        self.frames = [
            (video.read(t), lookup[read_mask(frame.mask)])
            for video in dataset.split("val")
            for t, frame in enumerate(video.frames)
            if frame.mask is not None
        ][::every]

    def maps(self, way: Way, plan: AugmentationPlan) -> list[np.ndarray]:
        """Of each frame the mean over the views, (C, H, W) float32."""
        self.network.forward = lambda images: Scores(way(self._forward(images).values), ScoreKind.PROBABILITIES)
        how = ReadOut(self.size, None, None, plan)
        predictor = Predictor(self.network, self.network.normalisation, how, torch.device("cpu"), batch_size=4)
        found = [predictor.maps([image])[0] for image, _ in self.frames]
        return [mean_map(views, views.size).numpy() for views in found]

    def truth(self) -> np.ndarray:
        """True classes of all pixels, (P,)."""
        return np.concatenate([mask.reshape(-1) for _, mask in self.frames])


def flat(maps: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([one.reshape(len(one), -1) for one in maps], axis=1)


def figures(mean: np.ndarray, truth: np.ndarray, faint: np.ndarray) -> tuple[float, float, float, float, float]:
    """Precision of the surest 80 %, calibration error, loss, mIoU of distributions (C, P), and how many of the faint
    pixels (P,) are among the surest."""
    known = truth < len(mean)
    mean, truth, faint = mean[:, known], truth[known], faint[known]
    label, sure = mean.argmax(0), mean.max(0)
    right = label == truth
    entropy = -(mean * np.log(np.maximum(mean, 1e-12))).sum(0)
    surest = np.argsort(entropy, kind="stable")[: round(0.8 * len(entropy))]
    place = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = [abs(right[place == b].mean() - sure[place == b].mean()) * (place == b).mean() for b in np.unique(place)]
    loss = -np.log(np.maximum(np.take_along_axis(mean, truth[None].astype(int), 0)[0], 1e-4)).mean()
    confusion = ConfusionMatrix(len(mean), np.arange(256, dtype=np.uint8))
    confusion.update(truth.astype(np.uint8)[None], label.astype(np.uint8)[None])
    kept = faint[surest].sum() / max(faint.sum(), 1)
    return float(right[surest].mean()), float(sum(gaps)), float(loss), float(confusion.miou), float(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("checkpoints", nargs="+", type=Path)
    parser.add_argument("--data", type=Path, help="the data set's folder, where it is not the recipe's")
    parser.add_argument("--every", type=int, default=1, help="of the labelled frames, every so many")
    arguments = parser.parse_args()
    for path in arguments.checkpoints:
        checkpoint = load_checkpoint(path)
        recipe = recipe_from_dict(checkpoint.recipe, str(path))
        dataset = open_dataset(recipe.data, arguments.data)
        read = Read(restore_network(checkpoint).eval(), dataset, recipe.predict.size, arguments.every)
        truth, classes = read.truth(), dataset.table.num_classes
        known = truth < classes
        raw = flat(read.maps(lambda values: values, NONE))
        total, right = raw.sum(0)[known], (raw.argmax(0) == truth)[known]
        print(f"\n{path.parent.name}: sums {np.quantile(total, [0.05, 0.5, 0.95]).round(2).tolist()} at 5, 50, 95 %")
        print("| sum of the scores | of the pixels | right |\n| --- | ---: | ---: |")
        for low, high in pairwise(BOUNDS):
            here = (total >= low) & (total < high)
            if here.any():
                print(f"| {low:g} to {high:g} | {here.mean():.2%} | {right[here].mean():.1%} |")
        # As the network itself predicts them: no label needed.
        prior = torch.from_numpy((raw / raw.sum(0)).mean(1))
        even = torch.full((classes,), 1 / classes)
        ways: dict[str, Way] = {
            "divided by their sum": normalised,
            "the rest spread evenly": lambda values, prior=even: spread(values, prior),
            "spread, only what lacks to 0.6": lambda values, prior=even: spread(scaled(values), prior),
            "the rest as classes are frequent": lambda values, prior=prior: spread(values, prior),
        }
        print("| way | views | surest 80 % right | calibration error | loss | mIoU | faint ones among the surest |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for plan in (NONE, TWO):
            for name, way in ways.items():
                precise, gap, loss, miou, kept = figures(flat(read.maps(way, plan)), truth, raw.sum(0) < FAINT)
                cells = f"{precise:.2%} | {gap:.3f} | {loss:.3f} | {miou:.2%} | {kept:.0%}"
                print(f"| {name} | {len(plan.views())} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
