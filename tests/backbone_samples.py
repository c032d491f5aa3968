"""Helpers for the tests of backbones: official numbers, and comparisons of maps and gradients."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

FIXTURES = Path(__file__).parent / "fixtures"


def official_numbers(name: str) -> dict[str, Any]:
    """A fixture of the official code."""
    return torch.load(FIXTURES / f"{name}.pt", weights_only=True)


def backbone_shapes(keys: str, *, but: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the backbone of an official checkpoint, without buffers with these endings."""
    shapes = json.loads((FIXTURES / f"{keys}.json").read_text())
    return {
        name.removeprefix("backbone."): tuple(shape)
        for name, shape in shapes.items()
        if name.startswith("backbone.") and not name.endswith(but)
    }


def shapes_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def without(state: dict[str, Tensor], ending: str) -> dict[str, Tensor]:
    """The tensors of an official backbone, without the index that ours compute."""
    return {name: tensor for name, tensor in state.items() if not name.endswith(ending)}


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def assert_maps(maps: list[Tensor], expected: list[Tensor]) -> None:
    """Equal to the precision of float32: the official maps themselves have errors of 1.6e-5 at values of 27."""
    for map_, official in zip(maps, expected, strict=True):
        torch.testing.assert_close(map_, official, atol=2e-5, rtol=1e-6)


def assert_training(network: nn.Module, official: dict[str, Any]) -> None:
    """Compare a training step with the official one: maps from batch statistics, loss, gradients."""
    maps = network.train()(official["input"])
    assert_maps(maps, official["train_outputs_bn_batch_stats"])
    waves = [torch.cos(0.01 * torch.arange(map_.numel(), dtype=torch.float32)).view_as(map_) for map_ in maps]
    loss = sum((map_ * wave).sum() for map_, wave in zip(maps, waves, strict=True))
    torch.testing.assert_close(loss, official["train_loss_value"], atol=1e-3, rtol=1e-5)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    assert gradients.keys() == official["grad_norms"].keys()
    for name, norm in official["grad_norms"].items():
        assert abs(gradients[name].norm().item() - norm) <= 1e-4 * max(1.0, norm), name
    for name, gradient in official.get("grads", {}).items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-4 * gradient.abs().max().item(), rtol=1e-4)
