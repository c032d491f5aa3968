"""Checks gradients: those of float32 against float64, those of float64 against finite differences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

STEP = 1e-7
Losses = Callable[[nn.Module, Tensor], dict[str, Tensor]]


def assert_true_gradients(network: nn.Module, images: Tensor, losses: Losses, parts: int = 2) -> None:
    """Compare the gradients of all parameters with the change of the losses when the parameters change.

    Parameters
    ----------
    network
        Its dropout must be off; it is left in float64.
    images
        (B, 3, H, W) float32.
    losses
        From network and images to losses by name; equal for equal parameters, and of the images' type.
    parts
        Words of a parameter's name that tell the parts of the network: all parameters of one are moved together.
    """
    single, _ = _gradients(network, losses(network, images))
    with _double():
        network.double()
        images = images.double()
        exact, here = _gradients(network, losses(network, images))
        members = defaultdict(list)
        for name in learning(network):
            members[".".join(name.split(".")[:parts])].append(name)
        parameters = dict(network.named_parameters())
        for loss, gradients in exact.items():
            largest = max(float(gradient.norm()) for gradient in gradients.values())
            for name, gradient in gradients.items():
                error = float((single[loss][name] - gradient).norm())
                assert error <= 0.01 * float(gradient.norm()) + 1e-5 * largest, f"{loss}: {name} in float32"
        for part, names in members.items():
            moves = {name: _directions(exact, name) for name in names}
            with torch.no_grad():
                ahead = _moved(network, images, losses, parameters, moves)
            for loss, gradients in exact.items():
                slope = (ahead[loss] - here[loss]) / STEP
                told = sum(float((gradients[name] * move).sum()) for name, move in moves.items())
                largest = max(float(gradient.norm()) for gradient in gradients.values())
                assert abs(slope - told) <= 1e-3 * abs(told) + 1e-6 * largest, f"{loss}: {part}: {slope}, not {told}"


def learning(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn."""
    return {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}


def _gradients(network: nn.Module, losses: dict[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    """The gradient of each loss by each parameter, and the losses."""
    names, parameters = zip(*learning(network).items(), strict=True)
    found = {}
    for number, (loss, value) in enumerate(losses.items(), start=1):
        gradients = torch.autograd.grad(value, parameters, retain_graph=number < len(losses), allow_unused=True)
        found[loss] = {
            name: torch.zeros_like(parameter, dtype=torch.float64) if gradient is None else gradient.double()
            for name, parameter, gradient in zip(names, parameters, gradients, strict=True)
        }
    return found, {loss: value.item() for loss, value in losses.items()}


def _directions(gradients: dict[str, dict[str, Tensor]], name: str) -> Tensor:
    """Ascending for every loss, and slightly off: this also shows gradients of a wrong length or direction."""
    uphill = [by_name[name] / by_name[name].norm().clamp_min(1e-12) for by_name in gradients.values()]
    aside = torch.randn(uphill[0].shape, generator=torch.Generator().manual_seed(len(name)), dtype=torch.float64)
    return torch.stack(uphill).sum(dim=0) + aside / aside.norm()


def _moved(
    network: nn.Module,
    images: Tensor,
    losses: Losses,
    parameters: dict[str, nn.Parameter],
    moves: dict[str, Tensor],
) -> dict[str, float]:
    before = {name: parameters[name].clone() for name in moves}
    for name, move in moves.items():
        parameters[name].add_(move, alpha=STEP)
    found = {name: float(loss) for name, loss in losses(network, images).items()}
    for name, values in before.items():
        parameters[name].copy_(values)
    return found


@contextmanager
def _double() -> Iterator[None]:
    """Turn casts to float32 into float64: losses and read-outs cast, to be exact under autocast."""
    single, default = Tensor.float, torch.get_default_dtype()
    Tensor.float = lambda tensor: tensor.double()  # type: ignore[method-assign, assignment]
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        Tensor.float = single  # type: ignore[method-assign]
        torch.set_default_dtype(default)
