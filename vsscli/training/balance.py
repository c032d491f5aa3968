"""How much each term of the loss moves the network, compared with the supervised one.

A weight by itself means little. Mask2Former's supervised loss is a sum over the layers of its decoder, a light
network's is one mean over pixels; so with equation 3 as written, the same weights would count a tenth as much.
`layers_of` brings them to one scale, and `gradient_shares` measures their effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vsscli.models.network import Network
from vsscli.models.outputs import MaskOutputs, Outputs


def layers_of(outputs: Outputs) -> int:
    """The number of layers that the supervised loss of these outputs sums: 1 for a network that scores pixels."""
    return len(outputs.layers) if isinstance(outputs, MaskOutputs) else 1


def measured_parameters(network: Network) -> list[nn.Parameter]:
    """The parameters whose gradients are compared: the encoder's last trainable layer, else all trainable ones.

    Every loss depends on that layer, and the backward pass reaches it through the head alone: for ViT-Adapter-L that is
    1 of 24 blocks, and as small a part of the memory.
    """
    depths: dict[int, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        encoder, depth = network.place_of(name)
        if encoder and parameter.requires_grad:
            depths.setdefault(depth, []).append(parameter)
    if depths:
        return depths[min(depths)]
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def gradient_shares(
    terms: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], scale: float = 1.0
) -> dict[str, Tensor]:
    """Norms of the gradients of weighted losses with respect to some parameters, as shares of the first one's:
    ``gradient_<name>`` for each of the others, nan where the first has no gradient or one is not finite.

    The parameters' own gradients are unchanged, and the graph is kept. ``scale`` multiplies the losses, so that
    gradients in half precision do not vanish, and cancels out.
    """
    norms = {name: _norm(term * scale, parameters) for name, term in terms.items()}
    first, *others = norms
    shares = {f"gradient_{name}": norms[name] / norms[first] for name in others}
    return {name: torch.where(share.isfinite(), share, torch.nan) for name, share in shares.items()}


def _norm(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    if not loss.requires_grad:
        return torch.zeros((), device=loss.device)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    gradients = [gradient.float() for gradient in found if gradient is not None]
    if not gradients:
        return torch.zeros((), device=loss.device)
    return torch.stack([gradient.norm() for gradient in gradients]).norm()
