"""timm's rotary positions, without waiting for a GPU."""

from __future__ import annotations

from timm.layers import RotaryEmbeddingDinoV3
from torch import Tensor, nn


class RotaryPositions(RotaryEmbeddingDinoV3):
    """timm makes the coordinates of patches on the host, where they may be drawn at random; here their copy to the
    device, which every forward pass needs, is only queued."""

    periods: Tensor

    def _get_pos_embed_from_coords(self, coords: Tensor) -> tuple[Tensor, Tensor]:
        return super()._get_pos_embed_from_coords(coords.to(self.periods.device, non_blocking=True))


def queue_positions(trunk: nn.Module) -> None:
    """Let a trunk that timm made, if it has such positions, take them in this way."""
    rope = getattr(trunk, "rope", None)
    if type(rope) is RotaryEmbeddingDinoV3:
        rope.__class__ = RotaryPositions
