"""Which ranks make a negative at 124 classes: banks of several windows, and what a network learns from them.

    python tests/benchmarks/negatives.py --windows none 3-124 3-20 20-124 --seeds 1 2 3

A small network is trained on a few labelled frames of drawn videos of 124 classes (`predictions.Patches`), and predicts
many others as a store would keep them. Training then continues on both, once for each window of ranks, as `vss train`
does with `unlabelled.contrast.low_rank` and `high_rank`, and is scored on unseen videos. For each window: the share of
the unreliable cells that are negatives of a class; how many of these belong to that class; the similarity of the banks
of two classes in the end (cosine of their means); and whether the contrast's gradient has the direction of that of the
true labels of the unlabelled frames (cosine of both at the network below its classifier, mean and error over batches).
``--split narrowing`` compares the schedule.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from predictions import CLASSES, IGNORE, Patches
from torch import Tensor, nn
from torch.nn import functional

from vsscli.data.samples import Crops, StoredPixels
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.models.network import Network, Normalisation
from vsscli.models.outputs import MapOutputs
from vsscli.models.scores import ScoreKind, Scores
from vsscli.recipes.schema import Recipe
from vsscli.recipes.training import Contrast, Unlabelled
from vsscli.training.bank import Banks
from vsscli.training.evidence import StoreMeaning, shrink
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.objectives.table import Objectives, build_objectives
from vsscli.training.ranks import rank_window
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper

SIZE = (96, 128)
LISTED = 20
BATCH = 4
BATCHES = 12


class Plain(Network):
    """Eight pixels around each cell of four, and two layers: what these classes look like needs no more."""

    def __init__(self, width: int = 64) -> None:
        super().__init__(CLASSES, 4, 4, Normalisation((127.0,) * 3, (60.0,) * 3))
        self.feature_channels = width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 8, stride=4, padding=2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )
        self.features = nn.Sequential(nn.Conv2d(width, width, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.classify = nn.Conv2d(width, CLASSES, 1)

    def forward(self, images: Tensor) -> Scores:
        return self.outputs(images).scores

    def outputs(self, images: Tensor) -> MapOutputs:
        features = self.features(self.encoder(images))
        return MapOutputs(Scores(self.classify(features), ScoreKind.LOGITS), features)

    def place_of(self, name: str) -> tuple[bool, int]:
        return (True, 1) if name.startswith("encoder") else (False, 0)


def draw(videos: range, frames: int, shift: float) -> Crops:
    """Whole frames, (T, 3, H, W)."""
    images, labels = [], []
    for number in videos:
        video = Patches(number, SIZE, shift)
        for t in range(frames):
            image, label = video.frame(9 * t)
            images.append(torch.from_numpy(image).permute(2, 0, 1))
            labels.append(torch.from_numpy(label))
    label = torch.stack(labels)
    return Crops(torch.stack(images), label, torch.zeros(label.shape, dtype=torch.bool))


def learn(
    network: Network,
    recipe: Recipe,
    labelled: Crops,
    maps: Crops | None = None,
    meaning: StoreMeaning | None = None,
    truth: Tensor | None = None,
) -> None:
    """Train with vss's own step; crops are whole frames, flipped at random."""
    torch.manual_seed(recipe.seed)
    objectives = build_objectives(recipe, network, meaning)
    optimiser = torch.optim.AdamW(objectives.learner.train().parameters(), recipe.train.lr, weight_decay=0.01)
    optimiser.param_groups[0]["base_lr"] = recipe.train.lr
    state = TrainingState(objectives, optimiser, None)
    stepper = Stepper(Fabric(accelerator="cpu", devices=1), recipe, state)
    rng = np.random.default_rng(recipe.seed)
    for _ in range(recipe.train.steps):
        batches = [batch(labelled, rng), batch(maps, rng) if maps is not None else None]
        assert batches[0] is not None
        losses, _ = stepper.step([(batches[0], batches[1])], measure=state.step + 1 == recipe.train.steps)
    shares = {name: round(float(value), 3) for name, value in losses.figures.items()}
    print(f"  {recipe.name}: {shares}", flush=True)
    banks = next((part.memory for part in objectives.parts if isinstance(part.memory, Banks)), None)
    if banks is not None:
        print(f"    {looks(banks)}", flush=True)
        assert maps is not None
        assert truth is not None
        print(f"    {pull(objectives, labelled, maps, truth, rng)}", flush=True)


def pull(objectives: Objectives, labelled: Crops, maps: Crops, truth: Tensor, rng: Any) -> str:
    """Whether the contrast pulls where the true labels of the unlabelled frames would."""
    network = objectives.learner.network
    assert isinstance(network, Plain)
    parameters = [*network.encoder.parameters(), *network.features.parameters()]
    assert maps.stored is not None
    # The true labels go along as one more class than a store lists, which no rank looks at.
    with_truth = maps._replace(
        stored=maps.stored._replace(ranked=torch.cat([maps.stored.ranked, truth[:, None]], dim=1))
    )
    found = []
    for _ in range(BATCHES):
        some, others = batch(labelled, rng), batch(with_truth, rng)
        assert others.stored is not None
        true = others.stored.ranked[:, LISTED]
        terms = objectives(objectives.learner, some, others, 0.5).terms
        contrast = flat(terms["contrast"], parameters)
        told = network(network.normalisation(others.images))
        found.append(
            float(functional.cosine_similarity(contrast, flat(cross_entropy_sum(told, true)[0], parameters), dim=0))
        )
    error = statistics.stdev(found) / len(found) ** 0.5
    return f"cosine with the gradient of true labels {statistics.mean(found):+.3f} ± {error:.3f}"


def flat(loss: Tensor, parameters: list[nn.Parameter]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in torch.autograd.grad(loss, parameters)])


def batch(frames: Crops, rng: np.random.Generator) -> Crops:
    chosen = torch.from_numpy(rng.integers(len(frames.images), size=BATCH))
    mirrored = rng.random() < 0.5

    def taken(tensor: Tensor) -> Tensor:
        return tensor[chosen].flip(-1) if mirrored else tensor[chosen]

    return frames.each(taken, taken)


@torch.no_grad()
def predicted(network: Network, frames: Crops, drop: float) -> Crops:
    """The frames with what a store would say of them; it lists no less likely class."""
    network.eval()
    said = []
    for image in frames.images.split(8):
        values = network(network.normalisation(image)).values
        shares = functional.interpolate(values, size=SIZE, mode="bilinear", align_corners=False).softmax(1)
        entropy = -(shares * (shares + 1e-10).log()).sum(1) / np.log(CLASSES)
        top = shares.topk(LISTED, dim=1)
        level = (top.values[:, 0] * 255).round()
        listed = torch.where((top.values >= drop) | (torch.arange(LISTED)[:, None, None] == 0), top.indices, IGNORE)
        said.append((top.indices[:, 0], (entropy * 255).round(), level, listed))
    labels, entropy, level, listed = (torch.cat(parts).byte() for parts in zip(*said, strict=True))
    return frames._replace(labels=labels, stored=StoredPixels(entropy, level, listed))


@torch.no_grad()
def score(network: Network, frames: Crops) -> float:
    network.eval()
    lookup = np.arange(256, dtype=np.uint8)
    lookup[CLASSES:] = IGNORE
    confusion = ConfusionMatrix(CLASSES, lookup)
    for image, label in zip(frames.images.split(8), frames.labels.split(8), strict=True):
        values = network(network.normalisation(image)).values
        found = functional.interpolate(values, size=SIZE, mode="bilinear", align_corners=False).argmax(1)
        confusion.update(label.numpy(), found.byte().numpy())
    return 100 * confusion.miou


def looks(banks: Banks) -> str:
    """How alike the banks of two classes are."""
    means = [banks.content(number).mean(0) for number in range(CLASSES) if banks.lengths[number] > 50]
    unit = functional.normalize(torch.stack(means), dim=1)
    alike = (unit @ unit.T)[~torch.eye(len(unit), dtype=torch.bool)].mean()
    return f"banks of {len(means)} classes, cosine of two of them {alike:.3f}"


def window_facts(maps: Crops, truth: Tensor, level: int, low: int, high: int) -> str:
    """Of the unreliable cells: how many are negatives of a class, and how many of these are of it."""
    assert maps.stored is not None
    entropy, _, ranked = (shrink(some, (SIZE[0] // 4, SIZE[1] // 4)) for some in maps.stored)
    unreliable = entropy.flatten() > level
    inside = rank_window(ranked.movedim(1, 0).flatten(1).T.long()[unreliable], low, high, CLASSES)
    own = shrink(truth, (SIZE[0] // 4, SIZE[1] // 4)).flatten()[unreliable].long()
    wrong = inside[torch.arange(len(own)), own]
    return f"{inside.float().mean():.1%} of unreliable cells, wrong {wrong.sum() / inside.sum():.2%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", nargs="+", default=["none", "3-124", "3-20", "3-6", "6-20", "20-124"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--steps", type=int, default=300, help="with unlabelled frames")
    parser.add_argument("--base", type=int, default=600, help="steps with labels alone, before")
    parser.add_argument("--labelled", type=int, default=120, help="videos with labels, one frame each")
    parser.add_argument("--unlabelled", type=int, default=120, help="videos without, one frame each")
    parser.add_argument("--shift", type=float, default=7.0, help="of a class's colour, by video")
    parser.add_argument("--weight", type=float, default=0.1, help="of the contrast")
    parser.add_argument("--split", nargs="+", choices=["store", "narrowing"], default=["store"])
    parser.add_argument("--drop", type=float, default=0.0, help="probability under which a store lists no class")
    parser.add_argument("--anchors", type=int, default=32)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gained: dict[str, list[float]] = {}
    for seed in arguments.seeds:
        first = 1000 * seed
        labelled = draw(range(first, first + arguments.labelled), 1, arguments.shift)
        unlabelled = draw(range(first + 300, first + 300 + arguments.unlabelled), 1, arguments.shift)
        val = draw(range(first + 600, first + 660), 1, arguments.shift)
        common = {"steps": arguments.steps, "power": 1.0, "warmup": 10}
        torch.manual_seed(seed)
        network = Plain()
        begin = {**common, "lr": 5e-3, "steps": arguments.base}
        learn(network, Recipe(name="base", seed=seed, train=begin), labelled)
        weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        maps = predicted(network, unlabelled, arguments.drop)
        assert maps.stored is not None
        level = int(torch.quantile(maps.stored.entropy.flatten()[::7].float(), 0.8))
        right = (maps.labels == unlabelled.labels).float()
        sure = maps.stored.entropy <= level
        print(
            f"seed {seed}: base {score(network, val):.2f} mIoU, {right.mean():.1%} of pixels right, "
            f"{right[sure].mean():.1%} of reliable ones, {right[~sure].mean():.1%} of the others",
            flush=True,
        )
        for split in arguments.split:
            for window in ["labels", *arguments.windows]:
                section: Unlabelled | None = None
                if window != "labels":
                    contrast = None
                    if window != "none":
                        low, high = map(int, window.split("-"))
                        contrast = Contrast(
                            weight=arguments.weight,
                            low_rank=low,
                            high_rank=high,
                            anchors=arguments.anchors,
                            queue=2048,
                            keys=256,
                            channels=64,
                        )
                        print(
                            f"  ranks {window}: {window_facts(maps, unlabelled.labels, level, low, high)}", flush=True
                        )
                    section = Unlabelled(batch_size=BATCH, contrast=contrast, split=split)
                network.load_state_dict(weights)
                name = f"{window}-{split}"
                recipe = Recipe(name=name, seed=seed + 50, unlabelled=section, train={**common, "lr": 2e-3})
                shown = maps if window != "labels" else None
                meaning = StoreMeaning((level,), LISTED) if shown is not None else None
                if shown is not None and section is not None and section.contrast is None and split == "store":
                    # As `vss train` has it: pseudo-labels alone.
                    reliable = torch.where(sure, maps.labels, IGNORE)
                    shown, meaning = maps._replace(labels=reliable, stored=None), None
                since = time.process_time()
                learn(network, recipe, labelled, shown, meaning, unlabelled.labels)
                figure = score(network, val)
                gained.setdefault(name, []).append(figure)
                print(f"seed {seed} {name}: {figure:.2f} mIoU, {time.process_time() - since:.0f} s", flush=True)
    print("| ranks and split | mIoU | by seed |\n| --- | ---: | --- |")
    for name, figures in gained.items():
        spread = f" ± {statistics.stdev(figures):.2f}" if len(figures) > 1 else ""
        print(f"| {name} | {statistics.mean(figures):.2f}{spread} | {', '.join(f'{one:.2f}' for one in figures)} |")


if __name__ == "__main__":
    main()
