"""What learns: a network, and the projection head beside it where features are contrasted."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from vsscli.models.heads.projection import ProjectionHead
from vsscli.models.network import Network
from vsscli.models.outputs import Outputs
from vsscli.training.averaging import AveragedWeights


class Answer:
    """What a learner says of a batch.

    No dataclass on purpose: Fabric takes those apart to cast what is in them, and refuses frozen ones.

    Parameters
    ----------
    outputs
        Of the network.
    anchors
        (A, M, D) float32, projected features of the cells that were asked for; None where none were.
    """

    __slots__ = ("anchors", "outputs")

    def __init__(self, outputs: Outputs, anchors: Tensor | None) -> None:
        self.outputs, self.anchors = outputs, anchors


class Learner(nn.Module):
    """Network and projection as one module, so that processes share the gradients of both."""

    def __init__(self, network: Network, projection: ProjectionHead | None = None) -> None:
        super().__init__()
        self.network = network
        self.projection = projection

    def forward(self, images: Tensor, anchors: Tensor | None = None) -> Answer:
        """Run the network on normalised images (B, 3, H, W), and project the cells numbered anchors (A, M)."""
        outputs = self.network.outputs(images)
        if anchors is None or self.projection is None:
            return Answer(outputs, None)
        return Answer(outputs, self.projection(feature_cells(outputs)[anchors]).float())


class MeanTeacher:
    """A moving average of a learner, which answers without learning (Tarvainen & Valpola 2017, arXiv:1703.01780).

    It is always in evaluation mode, and its batch-norm statistics are averages of the student's with the momentum of
    the parameters. U2PL instead copies none of them and lets the teacher gather its own, in training mode: then dropout
    disturbs the labels, and its statistics lag behind parameters that move.

    Parameters
    ----------
    learner
        Its present weights are the start.
    momentum
        As for `AveragedWeights`.
    """

    def __init__(self, learner: Learner, momentum: float) -> None:
        self.average = AveragedWeights(learner, momentum)
        self.learner = deepcopy(learner)
        # The very tensors of the average: one update, no copy.
        self.learner.load_state_dict(self.average.weights, assign=True)
        self.learner.eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> tuple[Outputs, Tensor | None]:
        """Outputs for normalised images (B, 3, H, W), and the projected features of all cells, (N, D) float32."""
        outputs = self.learner.network.outputs(images)
        if self.learner.projection is None:
            return outputs, None
        return outputs, self.learner.projection(feature_cells(outputs)).float()


def feature_cells(outputs: Outputs) -> Tensor:
    """Features (B, D, h, w) as cells (N, D), crop by crop and row by row."""
    assert outputs.features is not None
    return outputs.features.movedim(1, -1).flatten(0, 2)
