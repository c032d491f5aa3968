"""How much each term of the loss moves the network beside the supervised one.

A weight means nothing by itself. Mask2Former's supervised loss is a sum over the layers of its decoder, where a light
network's is one mean over pixels; so equation 3 as it is written would hand the same weights a tenth of their say.
`layers_of` brings them to one scale, and `gradient_shares` measures what they come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from vsscli.models.network import Network
from vsscli.models.outputs import MaskOutputs, Outputs


def layers_of(outputs: Outputs) -> int:
    """Over how many layers the supervised loss of these outputs is summed: 1 for a network that scores pixels."""
    return len(outputs.layers) if isinstance(outputs, MaskOutputs) else 1


def measured_parameters(network: Network) -> list[nn.Parameter]:
    """The parameters at which gradients are compared: of the encoder's last layer that learns, else all that learn.

    Every loss goes through that layer, and to reach it the way back leads through the head alone: of ViT-Adapter-L 1 of
    24 blocks is gone through, and as little memory taken.
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
    """Norms of the gradients of weighted losses at some parameters, as shares of the first one's: ``gradient_<name>``
    for every other, nan where the first has no gradient or one is not finite.

    Nothing is left in the parameters, and the graph can be gone through again. A factor on the losses, with which
    gradients in half precision do not vanish, has no other effect.
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
