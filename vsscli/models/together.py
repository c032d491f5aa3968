"""Several networks over one frozen trunk that predict the same images: the trunk sees each image once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vsscli.models.frozen import share_frozen
from vsscli.models.network import Network
from vsscli.models.scores import Scores


class Together(Network):
    """Networks over one frozen trunk as one network, which predicts images with each of them.

    Parameters
    ----------
    networks
        In evaluation mode. They are built alike as far as the trunk and the size of images and scores go
        (`vsscli.models.config.NetworkConfig.sees`), and all keep the trunk of the first.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        first = networks[0]
        super().__init__(first.num_classes, first.stride, first.divisor, first.normalisation)
        self.crop, self.answers, self.trunk_digest = first.crop, len(networks), first.trunk_digest
        for network in networks:
            if not network.shares or network.trunk_digest != first.trunk_digest or not network.trunk_digest:
                raise ValueError("only networks over one frozen trunk predict together")
            share_frozen(network, first)
        self.networks = nn.ModuleList(networks)
        self.train(first.training)

    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W) with N networks: values (N * B, C, H / stride, W / stride), those of the
        first network, then those of the second, and so on."""
        networks: list[Network] = [*self.networks]
        seen = networks[0].see(images)
        scores = [network.outputs_from(images, seen).scores for network in networks]
        return Scores(torch.cat([each.values for each in scores]), scores[0].kind)
