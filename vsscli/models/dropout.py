"""Complementary dropout of channels between encoder and head (Yang et al. 2024, UniMatch V2, arXiv:2410.10777)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vsscli.errors import VssError

UNTOUCHED = 0.5  # share of the pairs that are left as they are


class ChannelDropout(nn.Module):
    """Lets features through, unless some images are pairs of views: of a pair, one keeps the channels that the other
    loses, twice as large."""

    def __init__(self) -> None:
        super().__init__()
        self._pairs = 0
        self._factors: dict[int, Tensor] = {}

    @contextmanager
    def of_pairs(self, pairs: int) -> Iterator[None]:
        """While this is entered, the last images of a batch are pairs of views: as many first ones, then the second.

        Raises
        ------
        VssError
            The network did not pass its features through here.
        """
        self._pairs, self._factors = pairs, {}
        try:
            yield
            if pairs and not self._factors:
                raise VssError(
                    "this network has no place between encoder and head where channels could be dropped",
                    "train another family of networks, or set unlabelled.method to paper",
                )
        finally:
            self._pairs, self._factors = 0, {}

    def forward(self, features: Tensor, dim: int = 1) -> Tensor:
        """Drop channels, axis ``dim``, of features (B, ...); those of equal width lose the same."""
        if not self._pairs:
            return features
        width = features.shape[dim]
        if width not in self._factors:
            self._factors[width] = channel_factors(self._pairs, width, features.device)
        factors = self._factors[width].to(features.dtype)
        factors = torch.cat([factors.new_ones(len(features) - len(factors), width), factors])
        shape = [1] * features.ndim
        shape[0], shape[dim] = len(features), width
        return features * factors.view(shape)


def channel_factors(pairs: int, width: int, device: torch.device) -> Tensor:
    """Factors of channels, (2 * pairs, width): m for first views, each 0 or 2 with equal probability, and 2 - m for
    second ones; 1 for half of the pairs, rounded down."""
    kept = 2.0 * torch.randint(2, (pairs, width), device=device)
    kept[torch.randperm(pairs, device=device)[: int(UNTOUCHED * pairs)]] = 1.0
    return torch.cat([kept, 2.0 - kept])
