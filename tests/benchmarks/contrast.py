"""The cost of the contrastive loss: compared with a plain loop over classes, and within a semi-supervised step.

    python tests/benchmarks/contrast.py --classes 124 --crops 4 --rounds 5

The loop is the definition class by class, as in published code: boolean indexing, banks that are concatenated and cut,
cosine similarity of all negatives at once. Both get the same cells, features and full banks, draw 256 anchors and 50
negatives for each, and backpropagate to the features. The loop pushes all keys; `vss` does so too, or 512 per class, as
in its recipes.

The step is that of the CamVid recipe on crops in memory; its bare forward and backward passes are the student's over
all crops with both cross-entropies, and the teacher's over the crops that it labels.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional

from vsscli.data.samples import Crops, StoredPixels
from vsscli.models.build import build_network
from vsscli.recipes.load import load_recipe
from vsscli.recipes.training import Contrast
from vsscli.training.bank import Banks
from vsscli.training.contrast import Cells, contrastive_loss, plan_step
from vsscli.training.evidence import StoreMeaning
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper


def plain_loop(features: Tensor, teacher: Tensor, cells: Cells, banks: list[Tensor], settings: Contrast) -> Tensor:
    """The loss of one step, class by class."""
    anchors, centres, valid = [], [], []
    for number in range(len(banks)):
        trusted = cells.trusted[:, number]
        anchors.append(features[trusted & cells.sure[:, number]])
        centres.append(teacher[trusted].mean(0, keepdim=True))
        keys = teacher[cells.negative[:, number]]
        banks[number] = torch.cat([banks[number], keys])[-settings.queue :]
        if trusted.any():
            valid.append(number)
    loss = features.sum() * 0
    for number in valid:
        if len(anchors[number]) == 0 or len(banks[number]) == 0:
            continue
        chosen = anchors[number][torch.randint(len(anchors[number]), (settings.anchors,))]
        row = torch.randint(len(banks[number]), (settings.anchors * settings.negatives,))
        negative = banks[number][row].view(settings.anchors, settings.negatives, -1)
        positive = centres[number].expand(settings.anchors, 1, -1)
        logits = torch.cosine_similarity(chosen[:, None], torch.cat([positive, negative], 1), dim=2)
        target = torch.zeros(settings.anchors, dtype=torch.int64)
        loss = loss + functional.cross_entropy(logits / settings.temperature, target)
    return loss / len(valid)


def scene(classes: int, crops: int, side: int, present: int, channels: int) -> tuple[Cells, Tensor]:
    """Cells of as many labelled as unlabelled crops, in blocks of one class, and features of a teacher."""
    blocks = torch.randint(present, (crops, side // 8, side // 8)) * (classes // present)
    label = blocks.repeat_interleave(8, 1).repeat_interleave(8, 2).flatten()
    cells = len(label)
    unlabelled = torch.arange(cells) >= cells // 2
    own = label[:, None] == torch.arange(classes)
    entropy = torch.rand(cells)
    place = torch.rand(cells, classes).argsort(1).argsort(1)
    window = torch.where(unlabelled[:, None], place >= 3, (place < 3) & ~own)
    negative = window & (~unlabelled | (entropy > 0.8))[:, None]
    trusted = own & (~unlabelled | (entropy < 0.2))[:, None]
    return Cells(trusted, torch.ones_like(own), negative), torch.randn(cells, channels)


def compare_losses(arguments: argparse.Namespace) -> None:
    """A step of vss's contrastive loss, and of the loop's."""
    for present in sorted({min(20, arguments.classes), arguments.classes}):
        for keys in (512, None):
            settings = Contrast(queue=arguments.queue, keys=keys)
            cells, teacher = scene(arguments.classes, arguments.crops, arguments.side, present, settings.channels)
            full = torch.randn(settings.queue, settings.channels)
            banks = Banks([settings.queue] * arguments.classes, settings.channels)
            lists = [full.clone() for _ in range(arguments.classes)]
            lengths = torch.full((arguments.classes,), settings.queue)
            banks.load_state_dict({"features": full.repeat(arguments.classes, 1), "lengths": lengths})
            features = torch.randn_like(teacher).requires_grad_()

            def ours(
                teacher: Tensor = teacher,
                cells: Cells = cells,
                banks: Banks = banks,
                settings: Contrast = settings,
                features: Tensor = features,
            ) -> None:
                plan = plan_step(teacher, cells, banks, settings)
                contrastive_loss(features[plan.anchors], plan, banks, settings).backward()

            def loop(
                teacher: Tensor = teacher,
                cells: Cells = cells,
                lists: list[Tensor] = lists,
                settings: Contrast = settings,
                features: Tensor = features,
            ) -> None:
                plain_loop(features, teacher, cells, lists, settings).backward()

            times = alternate({"vss": ours, "loop": loop}, arguments.rounds, 1)
            ratio = statistics.median(a / b for a, b in zip(times["loop"], times["vss"], strict=True))
            print(
                f"{arguments.classes} classes, {present} in the batch, {len(teacher)} cells, keys {keys or 'all'}: "
                f"loop {statistics.median(times['loop']):.3f} s, vss {statistics.median(times['vss']):.3f} s, "
                f"median ratio {ratio:.1f} (aim: at least 5)",
                flush=True,
            )


def compare_steps(arguments: argparse.Namespace) -> None:
    """A whole semi-supervised step, and its forward and backward passes alone."""
    recipe = load_recipe("recipes/camvid/semi.yaml", ["model.pretrained=none"])
    classes = 11
    network = build_network(recipe.model.model_dump(), classes, load_pretrained=False)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    objectives = build_objectives(recipe, network, StoreMeaning((60,), 2))
    learner, teacher = objectives.learner.train(), objectives.viewer.teacher
    state = TrainingState(objectives, build_optimiser(network, recipe.train, learner.projection), None)
    stepper = Stepper(Fabric(accelerator="cpu", devices=1), recipe, state)
    images = torch.randint(256, (4, 3, 256, 320), dtype=torch.uint8)
    label = torch.randint(classes, (4, 16, 20), dtype=torch.uint8).repeat_interleave(16, 1).repeat_interleave(16, 2)
    entropy = torch.randint(75, label.shape, dtype=torch.uint8)
    stored = StoredPixels(entropy, torch.zeros_like(label), torch.stack([label, (label + 1) % classes], dim=1))
    crops = Crops(images, label, torch.zeros(label.shape, dtype=torch.bool))
    both = network.normalisation(torch.cat([images, images])).contiguous(memory_format=torch.channels_last)
    target = torch.cat([label, label]).long()

    def passes() -> None:
        assert teacher is not None
        with torch.no_grad():
            teacher.learner.network(both)
        values = functional.interpolate(network(both).values, size=(256, 320), mode="bilinear", align_corners=False)
        functional.cross_entropy(values, target, ignore_index=255).backward()
        state.optimiser.zero_grad(set_to_none=True)

    def step() -> None:
        stepper.step([(crops, crops._replace(stored=stored))])

    times = alternate({"passes": passes, "step": step}, arguments.rounds, arguments.steps)
    ratios = [a / b for a, b in zip(times["step"], times["passes"], strict=True)]
    print(
        f"semi-supervised step {statistics.median(times['step']):.3f} s, its passes "
        f"{statistics.median(times['passes']):.3f} s, median ratio {statistics.median(ratios):.3f}, "
        f"{min(ratios):.3f} to {max(ratios):.3f} (aim: at most 1.25)"
    )


def alternate(ways: dict[str, Callable[[], None]], rounds: int, times: int) -> dict[str, list[float]]:
    """Seconds of each variant, alternating, after one warm-up run."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            since = time.perf_counter()
            for _ in range(times):
                way()
            if number:
                taken[name].append((time.perf_counter() - since) / times)
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--classes", type=int, default=124)
    parser.add_argument("--crops", type=int, default=4)
    parser.add_argument("--side", type=int, default=120, help="cells per side of a crop: 480 pixels at stride 4")
    parser.add_argument("--queue", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--only", choices=["losses", "steps"])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    if arguments.only != "steps":
        compare_losses(arguments)
    if arguments.only != "losses":
        compare_steps(arguments)


if __name__ == "__main__":
    main()
