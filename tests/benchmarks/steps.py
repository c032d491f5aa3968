"""Training steps of the paper's recipe for any network, on crops in memory, on any device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vsscli.data.samples import Crops, StoredPixels, present_labels
from vsscli.inference.processes import launch
from vsscli.models.build import build_network, read_config
from vsscli.models.catalogue import find_listed
from vsscli.models.cost import outline
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.training.evidence import StoreMeaning
from vsscli.training.objectives.table import build_objectives
from vsscli.training.optimiser import build_optimiser
from vsscli.training.state import TrainingState
from vsscli.training.step import Stepper

RANKED = 8


def config_for(name: str, size: tuple[int, int]) -> dict[str, Any]:
    """A named network's configuration for images of a size, without weights."""
    config = find_listed(name).config(pretrained="none")
    return config if read_config(config).fixed_crop is None else config | {"crop": list(size)}


def operations(name: str, size: tuple[int, int], classes: int) -> tuple[int, int]:
    """Operations of a named network's forward pass over one image, at test and in training."""
    counted = outline(config_for(name, size), classes)
    return counted.flops(size), counted.training(size)[0]


class DrawnOnTheCpu(TorchFunctionMode):
    """Random numbers come from the CPU's generator whatever the device, so that two devices draw the same."""

    FACTORIES = (torch.rand, torch.randint, torch.randperm, torch.rand_like)
    IN_PLACE = (Tensor.bernoulli_, Tensor.uniform_, Tensor.normal_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.rand_like:
            return torch.rand(args[0].shape, dtype=args[0].dtype).to(args[0].device)
        if func in self.FACTORIES:
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        if func in self.IN_PLACE:
            target, *rest = args
            return target.copy_(func(torch.empty(target.shape, dtype=target.dtype), *rest, **kwargs))
        return func(*args, **kwargs)


class TrainingStep:
    """Steps of a recipe on the same crops in memory; ``keep`` keeps the gradient of the first."""

    def __init__(self, recipe: Recipe, device: torch.device, classes: int, *, keep: bool = False) -> None:
        torch.manual_seed(0)
        fabric = launch(str(device), 1, recipe.train.precision)
        network = build_network(recipe.model.model_dump(), classes, load_pretrained=False)
        network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        meaning = StoreMeaning((127,), RANKED) if recipe.unlabelled else None
        objectives = build_objectives(recipe, network, meaning, fabric.autocast)
        objectives.learner.train()
        optimiser = build_optimiser(network, recipe.train, objectives.learner.projection)
        state = TrainingState(objectives, optimiser, None, precision=fabric.strategy.precision)
        self.stepper = Stepper(fabric, recipe, state)
        self.labelled, self.unlabelled = (crops.to(device) for crops in self._crops(recipe, classes))
        if recipe.unlabelled is None:
            self.unlabelled = None
        self.gradient: Tensor | None = None
        if keep:
            optimiser.register_step_pre_hook(self._keep)

    def _keep(self, optimiser: torch.optim.Optimizer, *call: Any) -> None:
        """Keep the gradient of the first step."""
        if self.gradient is None:
            weights = [weight for group in optimiser.param_groups for weight in group["params"]]
            self.gradient = torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None])

    def __call__(self) -> dict[str, float]:
        losses, _ = self.stepper.step([(self.labelled, self.unlabelled)])
        return {name: float(value) for name, value in losses.figures.items() if name.startswith("loss")}

    def run(self) -> None:
        """Take a step without reading its losses."""
        self.stepper.step([(self.labelled, self.unlabelled)])

    @staticmethod
    def _crops(recipe: Recipe, classes: int) -> Iterator[Crops]:
        for _ in range(2):
            number, (height, width) = recipe.train.batch_size, recipe.augment.crop
            blocks = torch.randint(min(classes, 20), (number, height // 32, width // 32), dtype=torch.uint8)
            label = blocks.repeat_interleave(32, 1).repeat_interleave(32, 2)
            images = (label[:, None] * 9 + torch.randint(60, (number, 3, height, width))).to(torch.uint8)
            level = torch.randint(255, label.shape, dtype=torch.uint8)
            ranked = torch.stack([(label + shift) % classes for shift in range(RANKED)], dim=1)
            stored = StoredPixels(level, 255 - level, ranked)
            padding = torch.zeros(label.shape, dtype=torch.bool)
            yield Crops(images, label, padding, stored, present=present_labels(label))


def paper_recipe(name: str, crop: tuple[int, int], kind: str, *, precision: str, batch: int, **model: float) -> Recipe:
    """The paper's training for a network, with changes to what it has.

    ``kind``: on ``labels`` alone, with pseudo-labels too (``pseudo``), or with these and the contrast (``semi``).
    """
    paper = load_recipe(Path(__file__).parents[2] / "recipes/pvuw2024/semi.yaml").model_dump()
    config = config_for(name, crop)
    fields = type(read_config(config)).model_fields
    config |= {name: value for name, value in model.items() if name in fields}
    paper |= {"model": config, "augment": {**paper["augment"], "crop": list(crop)}}
    paper["train"] |= {"batch_size": batch, "precision": precision, "init": None, "layer_decay": 0.9, "warmup": 0}
    paper["unlabelled"] |= {"batch_size": batch}
    if kind == "labels":
        paper["unlabelled"] = None
    elif kind == "pseudo":
        paper["unlabelled"]["contrast"] = None
    return Recipe.model_validate(paper)
