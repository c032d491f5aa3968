"""From a decoder's features to those that are contrasted; part of training only, never of a network that predicts."""

from __future__ import annotations

from torch import Tensor, nn


class ProjectionHead(nn.Module):
    """Two layers that see one cell at a time.

    U2PL's head begins with two 3x3 convolutions, because its classifier does; the decoders here have seen each cell's
    surroundings already. What looks at one cell can be asked for the few hundred that become anchors, where 3x3
    convolutions over whole maps would cost more than a light network. Layer norm, for the same reason.
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
