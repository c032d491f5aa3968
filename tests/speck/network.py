"""One convolution, which remembers how far training had come when it last heard of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from speck.config import SpeckModel
from vsscli.models.network import Network, Normalisation
from vsscli.models.scores import ScoreKind, Scores


class Speck(Network):
    """Logits at stride 4."""

    heard: Tensor

    def __init__(self, config: SpeckModel, num_classes: int) -> None:
        super().__init__(num_classes, 4, 4, Normalisation((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)))
        self.gain = config.gain
        self.score = nn.Conv2d(3, num_classes, 4, 4)
        self.register_buffer("heard", torch.tensor(-1.0))

    def forward(self, images: Tensor) -> Scores:
        self.check_sides(images)
        return Scores(self.gain * self.score(images), ScoreKind.LOGITS)

    def at_progress(self, fraction: float) -> None:
        assert fraction > self.heard
        self.heard.fill_(fraction)
