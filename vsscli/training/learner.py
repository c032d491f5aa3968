"""What is trained: a network, and a projection head if features are contrasted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType

import torch
from torch import Tensor, nn

from vsscli.models.frozen import Seen, copied
from vsscli.models.network import Network
from vsscli.models.outputs import Outputs
from vsscli.training.averaging import AveragedWeights, Start, gradually
from vsscli.training.sharding import forget_calls


class Answer:
    """A learner's outputs for a batch, and the projected features (A, M, D) float32 of each group of cells asked for.

    Deliberately not a dataclass: Fabric takes those apart to cast their fields, and refuses frozen ones.
    """

    __slots__ = ("outputs", "projected")

    def __init__(self, outputs: Outputs, projected: list[Tensor | None]) -> None:
        self.outputs, self.projected = outputs, projected


class Learner(nn.Module):
    """Network and projection as one module, so that processes share the gradients of both."""

    def __init__(self, network: Network, projection: nn.Module | None = None) -> None:
        super().__init__()
        self.network = network
        self.projection = projection

    def forward(
        self,
        images: Tensor,
        asked: Sequence[Tensor | EllipsisType | None] = (),
        pairs: int = 0,
        seen: Seen | None = None,
    ) -> Answer:
        """Run the network on normalised images (B, 3, H, W), and project groups of cells, numbers (A, M) each, or all
        of them (``...``), (N, D).

        The last 2 * ``pairs`` images are pairs of views, whose channels are dropped (`models.dropout`). ``seen`` is
        what a frozen trunk made of the images, if it has seen them.
        """
        with self.network.between.of_pairs(pairs):
            outputs = self.network.outputs_from(images, seen)
        return Answer(
            outputs, [None if cells is None else self.project(feature_cells(outputs)[cells]) for cells in asked]
        )

    def project(self, cells: Tensor) -> Tensor:
        """Features (..., D) through the projection, float32."""
        assert self.projection is not None
        projected: Tensor = self.projection(cells)
        return projected.float()


Shard = Callable[[nn.Module], None]
"""Shares a module's weights out over processes, in place."""


def keep_whole(module: nn.Module) -> None:
    """Leave all weights of a module to every process."""


class MeanTeacher:
    """A moving average of a learner, which labels and is not trained (Tarvainen & Valpola 2017, arXiv:1703.01780).

    It is always in evaluation mode, and its batch-norm statistics are averages of the student's with the momentum of
    the parameters. U2PL instead runs the teacher in training mode, where it collects its own statistics: then dropout
    disturbs the labels, and the statistics lag behind the parameters. ``shard`` shares its weights out over processes.
    """

    def __init__(self, learner: Learner, momentum: float, start: Start = gradually, shard: Shard = keep_whole) -> None:
        self.learner = copied(learner).eval().requires_grad_(False)
        shard(self.learner)
        self.average = AveragedWeights(learner, momentum, start, copy=self.learner)

    @torch.no_grad()
    def __call__(self, images: Tensor, seen: Seen | None = None) -> tuple[Outputs, Tensor | None]:
        """Outputs for normalised images (B, 3, H, W), and the projected features of all cells, (N, D) float32.

        ``seen`` is what a frozen trunk made of the images, if it has seen them.
        """
        answer: Answer = self.learner(images, [None if self.learner.projection is None else ...], seen=seen)
        forget_calls(self.learner)  # it never has a backward pass, which would
        return answer.outputs, answer.projected[0]


def feature_cells(outputs: Outputs) -> Tensor:
    """Features (B, D, h, w) as cells (N, D), crop by crop and row by row."""
    assert outputs.features is not None
    return outputs.features.movedim(1, -1).flatten(0, 2)
