"""A timm encoder with a feature pyramid."""

from __future__ import annotations

from torch import Tensor

from vsscli.models.config import RANDOM
from vsscli.models.light.config import LightModel
from vsscli.models.light.encoder import TimmEncoder
from vsscli.models.light.pyramid import PyramidDecoder
from vsscli.models.network import Network
from vsscli.models.outputs import MapOutputs
from vsscli.models.scores import ScoreKind, Scores
from vsscli.models.weights import load_encoder, normalisation_for
from vsscli.talk import SILENCE, Talk


class LightNetwork(Network):
    """Encoder and feature pyramid; logits at stride 4."""

    def __init__(self, config: LightModel, num_classes: int) -> None:
        encoder = TimmEncoder(config.encoder, config.drop_path, config.frozen_norm)
        normalisation = normalisation_for(config.encoder)
        super().__init__(num_classes, stride=4, divisor=encoder.divisor, normalisation=normalisation)
        self.encoder = encoder
        self.feature_channels = config.channels
        self.decoder = PyramidDecoder(encoder.channels, config.channels, num_classes, config.dropout)

    def forward(self, images: Tensor) -> Scores:
        """Score normalised images (B, 3, H, W): logits (B, C, H / 4, W / 4)."""
        return self.outputs(images).scores

    def outputs(self, images: Tensor) -> MapOutputs:
        """Logits (B, C, H / 4, W / 4) and the pyramid's features (B, channels, H / 4, W / 4)."""
        self.check_sides(images)
        logits, features = self.decoder([self.between(map_) for map_ in self.encoder(images)])
        return MapOutputs(Scores(logits, ScoreKind.LOGITS), features)

    def place_of(self, name: str) -> tuple[bool, int]:
        if name.startswith("encoder."):
            return True, self.encoder.depth_of(name.removeprefix("encoder."))
        return False, 0


def build_light(config: LightModel, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> LightNetwork:
    """Build a light network; with ``load_pretrained``, load the encoder weights that its configuration names."""
    network = LightNetwork(config, num_classes)
    if load_pretrained:
        loaded = load_encoder(network.encoder.features, config.encoder, config.pretrained, talk)
        network.note_loaded({f"encoder.features.{name}" for name in loaded})
        network.licence = config.weights_licence if loaded else RANDOM
    return network
