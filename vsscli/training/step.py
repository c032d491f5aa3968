"""One step: crops to loss to new weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from vsscli.models.network import Network, Normalisation
from vsscli.models.outputs import MaskOutputs, Outputs
from vsscli.recipes.schema import Recipe
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.optimiser import set_learning_rate
from vsscli.training.schedule import learning_rate_factor
from vsscli.training.set_prediction import SetPredictionLoss
from vsscli.training.state import TrainingState

SupervisedLoss = Callable[[Outputs, Tensor], Tensor]
"""From a network's outputs for labelled crops and their labels (B, H, W) uint8 to the loss, equation 4."""


@dataclass(frozen=True)
class Batch:
    """Crops of this process: images (B, 3, H, W) uint8, labels (B, H, W) uint8 with 255 for none."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Losses:
    """Losses of one step, over all processes; tensors, so that nobody waits for the device."""

    total: Tensor
    supervised: Tensor
    unsupervised: Tensor | None

    def named(self) -> dict[str, Tensor]:
        """As the journal calls them."""
        named = {"loss": self.total, "loss_supervised": self.supervised}
        return named if self.unsupervised is None else {**named, "loss_unsupervised": self.unsupervised}


class Answer:
    """What a network says of a batch.

    No dataclass on purpose: Fabric takes those apart to cast what is in them, and refuses frozen ones.
    """

    __slots__ = ("outputs",)

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs


class Learner(nn.Module):
    """A network whose call gives all that training can use."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Answer:
        """Run the network on normalised images (B, 3, H, W)."""
        return Answer(self.network.outputs(images))


class StepLoss:
    """``L = L_s + weight * L_u``, equation 3 of the paper; the contrastive term will be the third.

    Both are means over the labelled pixels of the whole batch, over all processes, so that two processes learn what
    one would; a mask classifier has losses of its own on labelled crops.
    """

    def __init__(
        self, normalisation: Normalisation, unlabelled_weight: float, supervised: SupervisedLoss | None = None
    ) -> None:
        self.normalisation = normalisation
        self.unlabelled_weight = unlabelled_weight
        self.supervised = supervised or supervised_loss

    def __call__(self, network: nn.Module, labelled: Batch, unlabelled: Batch | None) -> Losses:
        """Run the network once over both kinds of crops."""
        images = labelled.images if unlabelled is None else torch.cat([labelled.images, unlabelled.images])
        answer: Answer = network(self.normalisation(images).contiguous(memory_format=torch.channels_last))
        split = len(labelled.images)
        supervised = self.supervised(answer.outputs.part(slice(split)), labelled.labels)
        if unlabelled is None:
            return Losses(supervised, supervised.detach(), None)
        scores = answer.outputs.part(slice(split, None)).scores
        unsupervised = _global_mean(*cross_entropy_sum(scores, unlabelled.labels))
        total = supervised + self.unlabelled_weight * unsupervised
        return Losses(total, supervised.detach(), unsupervised.detach())


class Stepper:
    """Takes a training state from one step to the next.

    Parameters
    ----------
    fabric
        Device, precision and processes.
    recipe
        Its ``train`` and ``unlabelled`` sections.
    state
        Network and optimiser are set up for the fabric here.
    """

    def __init__(self, fabric: Fabric, recipe: Recipe, state: TrainingState) -> None:
        self.fabric, self.recipe, self.state = fabric, recipe, state
        self._module, self._optimiser = fabric.setup(Learner(state.network), state.optimiser)
        weight = recipe.unlabelled.weight if recipe.unlabelled else 0.0
        self._loss = StepLoss(state.network.normalisation, weight)

    def step(self, batches: Sequence[tuple[Batch, Batch | None]]) -> tuple[Losses, float]:
        """Take one optimiser step.

        Parameters
        ----------
        batches
            As many as gradients are accumulated over: labelled crops, and unlabelled ones or None.

        Returns
        -------
        tuple
            Losses of the last batch, and the highest learning rate.
        """
        fabric, settings, state = self.fabric, self.recipe.train, self.state
        # What is random in the step (dropout, drop path) follows from its number, so that a resumed run draws what an
        # undisturbed one draws.
        torch.manual_seed(_seed(self.recipe.seed, state.step, fabric.global_rank))
        factor = learning_rate_factor(state.step, steps=settings.steps, warmup=settings.warmup, power=settings.power)
        rate = set_learning_rate(state.optimiser, factor)
        for number, (labelled, unlabelled) in enumerate(batches, start=1):
            with fabric.no_backward_sync(self._module, enabled=number < len(batches)):
                losses = self._loss(self._module, labelled, unlabelled)
                fabric.backward(losses.total / len(batches))
        if settings.clip:
            fabric.clip_gradients(self._module, self._optimiser, max_norm=settings.clip)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        state.step += 1
        if state.average is not None:
            state.average.update(state.network, state.step)
        return losses, rate


def supervised_loss(outputs: Outputs, labels: Tensor) -> Tensor:
    """The loss of labels (B, H, W) uint8: of matched masks where the network classifies masks, else of pixels."""
    if isinstance(outputs, MaskOutputs):
        return SetPredictionLoss()(outputs.layers, labels).total
    return _global_mean(*cross_entropy_sum(outputs.scores, labels))


def _global_mean(loss_sum: Tensor, count: Tensor) -> Tensor:
    """Mean over all processes' pixels, scaled so that averaging gradients over processes gives its gradient."""
    if torch.distributed.is_initialized():
        count = count.clone()
        torch.distributed.all_reduce(count)
        loss_sum = loss_sum * torch.distributed.get_world_size()
    return loss_sum / count.clamp_min(1.0)


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
