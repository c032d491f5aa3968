"""The smallest family of networks: this folder, and one line in the catalogue."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from vsscli.models.config import NamedNetwork, NetworkConfig
from vsscli.section import Factor
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from speck.network import Speck


class SpeckModel(NetworkConfig):
    """One convolution."""

    listed: ClassVar[tuple[NamedNetwork, ...]] = (
        NamedNetwork("speck", "one convolution", (32, 32), {"family": "speck"}),
    )

    family: Literal["speck"]
    gain: Factor = 1.0

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Speck:
        from speck.network import Speck

        return Speck(self, num_classes)
