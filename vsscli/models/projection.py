"""Projects a decoder's features to those that are contrasted; used in training only."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Two layers that work on single cells.

    U2PL's head begins with two 3x3 convolutions, because its classifier does; here the decoder's features already have
    context. A head on single cells runs only on the few hundred that become anchors, while 3x3 convolutions over whole
    maps would cost more than a light network. It uses layer norm for the same reason.
    """

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(in_channels, channels),
            nn.LayerNorm(channels),
            nn.ReLU(inplace=True),
            nn.Linear(channels, channels),
        )

    def forward(self, cells: Tensor) -> Tensor:
        """Project cells (..., D)."""
        projected: Tensor = self.layers(cells)
        return projected
