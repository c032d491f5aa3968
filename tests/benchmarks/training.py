"""The cost of a training step compared with the bare forward, backward and optimiser step of the same network.

    python tests/benchmarks/training.py --steps 6 --rounds 5

Three variants of a step, alternating in one run, under the same load:

bare     a network, its loss at label size and AdamW, on a normalised batch in memory, written in ten lines of torch
step     the project's own step (`training.step.Stepper`) on 8-bit crops in memory
loader   the same with the project's loader feeding it: decoding, augmentation, one loader process

The figure is the ratio to `bare`, round by round, and its median. Frames are drawn (360x480), the network is the light
one of the CamVid recipes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch.nn import functional

from vsscli.data.augment import TrainAugment
from vsscli.data.batches import TrainItems
from vsscli.data.layouts import open_dataset
from vsscli.data.loader import training_loader
from vsscli.data.samples import Crops, LabelledFrames
from vsscli.models.build import build_network
from vsscli.recipes.schema import Recipe
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper

SCENE = {"videos": 4, "unlabelled_videos": 1, "val_videos": 1, "frames": 6, "size": [360, 480]}


def recipe_for(root: Path) -> Recipe:
    """The CamVid student's network and crops on drawn frames of CamVid's size."""
    return Recipe.model_validate(
        {
            "name": "benchmark",
            "data": {"root": str(root), "classes": "classes.json", "scene": SCENE},
            "model": {"pretrained": "none"},
            "augment": {"crop": [256, 320]},
            "train": {"steps": 10**6, "batch_size": 8, "workers": 1},
        }
    )


def bare_step(recipe: Recipe, num_classes: int, batch: Crops) -> Callable[[], None]:
    """Forward, backward and optimiser step, and nothing else."""
    network = build_network(recipe.model.model_dump(), num_classes, load_pretrained=False)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
    images = network.normalisation(batch.images).contiguous(memory_format=torch.channels_last)
    labels = batch.labels.long()

    def step() -> None:
        values = functional.interpolate(
            network(images).values, size=labels.shape[-2:], mode="bilinear", align_corners=False
        )
        functional.cross_entropy(values, labels, ignore_index=255).backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def project_step(recipe: Recipe, num_classes: int, batches: Iterator[Crops]) -> Callable[[], None]:
    """The project's step on whatever feeds it."""
    network = build_network(recipe.model.model_dump(), num_classes, load_pretrained=False)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    state = TrainingState(build_objectives(recipe, network), build_optimiser(network, recipe.train), None)
    stepper = Stepper(Fabric(accelerator="cpu", devices=1), recipe, state)
    return lambda: stepper.step([(next(batches), None)]) and None


def forever(batch: Crops) -> Iterator[Crops]:
    while True:
        yield batch


def seconds(step: Callable[[], None], steps: int) -> float:
    since = time.perf_counter()
    for _ in range(steps):
        step()
    return (time.perf_counter() - since) / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--steps", type=int, default=6, help="steps of each way per round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vss-benchmark-") as folder:
        recipe = recipe_for(Path(folder) / "data")
        dataset = open_dataset(recipe.data)
        items = TrainItems(
            LabelledFrames(dataset.split("train"), dataset.ids, dataset.table.num_classes), TrainAugment(recipe.augment)
        )
        loader = training_loader(items, batch_size=8, seed=0, start=0, steps=10**6, workers=recipe.train.workers)
        loaded = iter(loader)
        batch = next(loaded)
        classes = dataset.table.num_classes
        ways = {
            "bare": bare_step(recipe, classes, batch),
            "step": project_step(recipe, classes, forever(batch)),
            "loader": project_step(recipe, classes, loaded),
        }
        for step in ways.values():
            seconds(step, 2)
        rounds = [
            {name: seconds(step, arguments.steps) for name, step in ways.items()} for _ in range(arguments.rounds)
        ]
        print(f"{'round':>5} {'bare s':>8} {'step':>7} {'loader':>7}")
        for number, times in enumerate(rounds):
            print(
                f"{number:>5} {times['bare']:8.3f} {times['step'] / times['bare']:7.3f} "
                f"{times['loader'] / times['bare']:7.3f}"
            )
        for name, target in (("step", 1.10), ("loader", 1.25)):
            ratio = statistics.median(times[name] / times["bare"] for times in rounds)
            print(f"{name}: median {ratio:.3f} times the bare step (aim: at most {target})")


if __name__ == "__main__":
    main()
