"""Plain ViTs beside the paper's student: operations, time and memory per frame of 480x853, with 124 classes.

    python tests/benchmarks/plain_vit.py                            # L counted, S timed on the CPU
    python tests/benchmarks/plain_vit.py --device cuda --timed S L  # bf16; --compile too

EoMT and PMT as recipes/2026/{teacher,student}.yaml predict, without their flip; ViT-Adapter with Mask2Former as
recipes/student.yaml does, with the paper's eight scales and flip and at one scale. Counted are the operations of a
frame, and the memory to train, in float32 and without the loss, of 16 crops of the recipe for the plain ViTs and 2 for
ViT-Adapter, with and without recomputed activations. Timed is the network alone with random weights, on one window; a
frame takes as many as its read-out needs. Networks over one frozen trunk also predict together, as with `vss pseudo
--models` and in `vss run`.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from bench import Bench, Row

from vsscli.inference.devices import autocast
from vsscli.inference.plans import NONE, PAPER, AugmentationPlan
from vsscli.models.build import build_network
from vsscli.models.config import NetworkConfig
from vsscli.models.cost import Cost, Outline, count_cost, outline
from vsscli.models.network import Network
from vsscli.models.together import Together
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.stages.cost import windows_in

FRAME, CLASSES = (480, 853), 124
WIDTHS = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16)}
BACKBONES = {"S": "small", "B": "base", "L": "large"}


class Case(NamedTuple):
    """A network as a recipe predicts with it."""

    name: str
    recipe: Recipe
    plan: AugmentationPlan
    crops: int


def cases(size: str) -> Iterator[Case]:
    """The networks at a size of ViT."""
    width, depth, heads = WIDTHS[size]
    plain = {"backbone": f"vit_{BACKBONES[size]}_patch14_reg4_dinov2"}
    span = depth // 4
    spans = [[first, first + span - 1] for first in range(0, depth, span)]
    sizes = {"width": width, "depth": depth, "heads": heads, "hidden": 4 * width, "adapter": {"interactions": spans}}
    adapter = {} if size == "L" else {"sizes": sizes, "head": {"layout": "base"}}
    for plan, how in ((PAPER, "eight scales and flip"), (NONE, "one scale")):
        yield Case(f"ViT-Adapter-{size} with Mask2Former, {how}", made("student", adapter), plan, 2)
    yield Case(f"EoMT-{size}", made("2026/teacher", plain), NONE, 16)
    yield Case(f"PMT-{size}", made("2026/student", plain), NONE, 16)


def made(shipped: str, changes: dict[str, Any]) -> Recipe:
    """A shipped recipe with another network, whose weights are random."""
    recipe = load_recipe(f"recipes/{shipped}.yaml")
    values = recipe.model_dump(mode="json")
    values["model"] |= {"pretrained": "none", "checkpointing": False, **changes}
    return Recipe.model_validate(values)


def counted(case: Case, known: dict[str, tuple[Outline, Cost, Cost]]) -> Row:
    """Operations of a frame and memory to train, from shapes alone; what is ``known`` of a network is kept."""
    model, crop, about = case.recipe.model, case.recipe.augment.crop, case.recipe.model.model_dump_json()
    if about not in known:
        again = model.model_copy(update={"checkpointing": True})
        costs = (count_cost(one, CLASSES, crop, case.crops) for one in (model, again))
        known[about] = (outline(model, CLASSES), *costs)
    network, cost, less = known[about]
    windows = windows_in(network, case.recipe, case.plan, FRAME)
    return {
        "M parameters": cost.parameters / 1e6,
        "M trained": cost.learning / 1e6,
        "windows": sum(windows.values()),
        "TFLOP a frame": sum(number * network.flops(size) for size, number in windows.items()) / 1e12,
        "GiB to train": cost.train / 2**30,
        "GiB, recomputed": less.train / 2**30,
    }


def timed(bench: Bench, case: Case, seconds: dict[str, float], *, compiled: bool) -> Row:
    """The time of a frame from that of one window, which is kept: both plans of a network have the same windows."""
    network = outline(case.recipe.model, CLASSES)
    total, windows = 0.0, windows_in(network, case.recipe, case.plan, FRAME)
    for size, number in windows.items():
        about = f"{case.recipe.model.model_dump_json()} {size}"
        if about not in seconds:
            seconds[about] = of_window(bench, case.recipe.model, size, compiled=compiled)
        total += number * seconds[about]
    return {"windows": sum(windows.values()), "s a frame": total, "frames a s": 1 / total, **bench.memory()}


def of_window(bench: Bench, model: NetworkConfig, size: tuple[int, int], *, compiled: bool) -> float:
    """Seconds of a forward pass over one image of a height and width."""
    config = model.model_copy(update={"compile": compiled})
    network = build_network(config, CLASSES, load_pretrained=False).eval().to(bench.device)
    image = torch.randn(1, 3, *size, device=bench.device)

    def forward() -> None:
        with torch.inference_mode(), autocast(bench.device, bench.precision):
            network(image)

    return bench.seconds(forward, warm=1 if bench.device.type == "cpu" else 3)


def counted_together(case: Case, number: int) -> Row:
    """Operations of a frame by so many networks over one frozen trunk, one after another and together."""
    network = outline(case.recipe.model, CLASSES)
    windows = windows_in(network, case.recipe, case.plan, FRAME).items()
    alone, seen = (sum(count * network.flops(size, seen=seen) for size, count in windows) for seen in (False, True))
    return {"TFLOP alone": number * alone / 1e12, "TFLOP together": (alone + (number - 1) * seen) / 1e12}


def timed_together(bench: Bench, case: Case, number: int) -> Row:
    """How many times as long they take one after another as together, on one window."""
    model = case.recipe.model
    (size, *_) = windows_in(outline(model, CLASSES), case.recipe, case.plan, FRAME)
    networks = [build_network(model, CLASSES, load_pretrained=False).eval() for _ in range(number)]
    for network in networks:
        network.trunk_digest = "random"
    joined = Together(networks).to(bench.device)
    image = torch.randn(1, 3, *size, device=bench.device)

    def forward(networks: Sequence[Network]) -> None:
        with torch.inference_mode(), autocast(bench.device, bench.precision):
            for network in networks:
                network(image)

    alone, at_once = (bench.seconds(partial(forward, some), warm=1) for some in (networks, [joined]))
    return {"time alone / together": alone / at_once}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--counted", nargs="*", default=["L"], choices=list(WIDTHS))
    parser.add_argument("--timed", nargs="*", default=["S"], choices=list(WIDTHS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--together", type=int, default=3, help="networks over one trunk")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, help="a JSON file of the rows")
    arguments = parser.parse_args()
    arguments.quick, arguments.minutes = False, math.inf
    bench = Bench(arguments, CLASSES)
    bench.repeats = arguments.repeats
    known: dict[str, tuple[Outline, Cost, Cost]] = {}
    for size in arguments.counted:
        for case in cases(size):
            bench.attempt("counted", case.name, partial(counted, case, known))
        name = f"{arguments.together} {case.name} over one trunk"
        bench.attempt("together", name, partial(counted_together, case, arguments.together))
    seconds: dict[str, float] = {}
    for size in arguments.timed:
        for case in cases(size):
            bench.attempt("timed", case.name, partial(timed, bench, case, seconds, compiled=arguments.compile))
        name = f"{arguments.together} {case.name} over one trunk"
        bench.attempt("together", name, partial(timed_together, bench, case, arguments.together))
    print(bench.machine())


if __name__ == "__main__":
    main()
