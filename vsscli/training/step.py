"""One step: crops to loss to new weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from vsscli.models.network import Normalisation
from vsscli.models.scores import Scores
from vsscli.recipes.schema import Recipe
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.optimiser import set_learning_rate
from vsscli.training.schedule import learning_rate_factor
from vsscli.training.state import TrainingState


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


class StepLoss:
    """``L = L_s + weight * L_u``, equation 3 of the paper; the contrastive term will be the third.

    Both are means over the labelled pixels of the whole batch, over all processes, so that two processes learn what
    one would.
    """

    def __init__(self, normalisation: Normalisation, unlabelled_weight: float) -> None:
        self.normalisation = normalisation
        self.unlabelled_weight = unlabelled_weight

    def __call__(self, network: nn.Module, labelled: Batch, unlabelled: Batch | None) -> Losses:
        """Run the network once over both kinds of crops."""
        images = labelled.images if unlabelled is None else torch.cat([labelled.images, unlabelled.images])
        scores: Scores = network(self.normalisation(images).contiguous(memory_format=torch.channels_last))
        split = len(labelled.images)
        supervised = _global_mean(*cross_entropy_sum(Scores(scores.values[:split], scores.kind), labelled.labels))
        if unlabelled is None:
            return Losses(supervised, supervised.detach(), None)
        unsupervised = _global_mean(*cross_entropy_sum(Scores(scores.values[split:], scores.kind), unlabelled.labels))
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
        self._module, self._optimiser = fabric.setup(state.network, state.optimiser)
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


def _global_mean(loss_sum: Tensor, count: Tensor) -> Tensor:
    """Mean over all processes' pixels, scaled so that averaging gradients over processes gives its gradient."""
    if torch.distributed.is_initialized():
        count = count.clone()
        torch.distributed.all_reduce(count)
        loss_sum = loss_sum * torch.distributed.get_world_size()
    return loss_sum / count.clamp_min(1.0)


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
