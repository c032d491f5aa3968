"""One step: crops to loss to new weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
import torch.distributed
from lightning_fabric import Fabric
from torch import Tensor, nn

from vsscli.models.network import Normalisation
from vsscli.models.outputs import MaskOutputs, Outputs
from vsscli.recipes.schema import Recipe
from vsscli.training.balance import SUPERVISED, gradient_shares, layers_of, measured_parameters
from vsscli.training.learner import Answer
from vsscli.training.losses import cross_entropy_sum
from vsscli.training.matching import Void
from vsscli.training.optimiser import set_learning_rate
from vsscli.training.schedule import learning_rate_factor
from vsscli.training.semi import SemiSupervision, padding_of
from vsscli.training.set_prediction import SetPredictionLoss, SetPredictionSettings
from vsscli.training.state import TrainingState

SupervisedLoss = Callable[[Outputs, Tensor], Tensor]
"""From a network's outputs for labelled crops and their labels (B, H, W) uint8 to the loss, equation 4."""


@dataclass(frozen=True)
class Batch:
    """Crops of this process: images (B, 3, H, W) uint8, labels (B, H, W) uint8 with 255 for none.

    Unlabelled crops may come with more maps, (B, L, H, W): see `StoredEvidence`.
    """

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Losses:
    """Losses of one step, and other figures of it; tensors, so that nobody waits for the device.

    Attributes
    ----------
    total
        What is minimised.
    parts
        Figures for the journal, without gradient.
    terms
        What the total is the sum of, each with its weight; none where there is but one.
    """

    total: Tensor
    parts: dict[str, Tensor]
    terms: dict[str, Tensor] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """As the journal calls them."""
        return {"loss": self.total, **self.parts}


class StepLoss:
    """``L = L_s + n (lambda_u L_u + lambda_c L_c)``, equation 3 of the paper with its terms on one scale.

    n is 1 for a network that scores pixels, as in the paper. For a mask classifier, whose L_s is a sum over the layers
    of its decoder, it is their number (`unlabelled.balance: layers`); L_s itself is as it was published.

    The first two are means over the labelled pixels of the whole batch, over all processes, so that two processes learn
    what one would. The third is each process's own, on banks that they share.

    Parameters
    ----------
    normalisation
        Of the network's input.
    semi
        What unlabelled crops need; None where there are none.
    supervised
        The loss of labelled crops.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        semi: SemiSupervision | None = None,
        supervised: SupervisedLoss | None = None,
    ) -> None:
        self.normalisation, self.semi = normalisation, semi
        self.supervised = supervised or supervised_loss

    def __call__(self, learner: nn.Module, labelled: Batch, unlabelled: Batch | None, progress: float) -> Losses:
        """Run the learner once over both kinds of crops."""
        images = self.normalisation(labelled.images)
        if unlabelled is None or self.semi is None:
            answer: Answer = learner(images.contiguous(memory_format=torch.channels_last))
            supervised = self.supervised(answer.outputs, labelled.labels)
            return Losses(supervised, {"loss_supervised": supervised.detach()})
        semi, settings = self.semi, self.semi.settings
        padding = padding_of(unlabelled.images, unlabelled.labels)
        prepared = semi.prepare(
            images, labelled.labels, self.normalisation(unlabelled.images), unlabelled.labels, padding, progress
        )
        both = torch.cat([images, prepared.images]).contiguous(memory_format=torch.channels_last)
        answer = learner(both, prepared.plan.anchors if prepared.plan else None)
        supervised = self.supervised(answer.outputs.part(slice(len(images))), labelled.labels)
        scores = answer.outputs.part(slice(len(images), None)).scores
        loss_sum, count = cross_entropy_sum(scores, prepared.target)
        unsupervised = global_mean(loss_sum, count)
        reliable = _global_share(count, prepared.pixels)
        weight = settings.weight / reliable.clamp_min(1e-6) if settings.scale_weight else settings.weight
        layers = layers_of(answer.outputs) if settings.balance == "layers" else 1
        terms = {SUPERVISED: supervised, "unsupervised": weight * layers * unsupervised}
        parts = {"loss_supervised": supervised.detach(), "loss_unsupervised": unsupervised.detach()}
        if prepared.plan is not None and answer.anchors is not None and settings.contrast and semi.banks:
            contrast = semi.loss(answer.anchors, prepared.plan)
            terms["contrast"] = settings.contrast.weight * layers * contrast
            parts["loss_contrast"] = contrast.detach()
            parts["banks"] = semi.banks.lengths.sum() / semi.banks.rows
        total = supervised
        for name in ("unsupervised", "contrast"):
            total = total + terms[name] if name in terms else total
        return Losses(total, {**parts, "reliable": reliable}, terms)


class Stepper:
    """Takes a training state from one step to the next.

    Parameters
    ----------
    fabric
        Device, precision and processes.
    recipe
        Its ``train`` section.
    state
        Learner and optimiser are set up for the fabric here.
    """

    def __init__(self, fabric: Fabric, recipe: Recipe, state: TrainingState) -> None:
        self.fabric, self.recipe, self.state = fabric, recipe, state
        self._module, self._optimiser = fabric.setup(state.learner, state.optimiser)
        self._loss = StepLoss(state.network.normalisation, state.semi, partial(supervised_loss, void=recipe.train.void))
        # A compiled network gives its graph's memory away on the first way back.
        self._measurable = not getattr(recipe.model, "compile", False)

    def step(self, batches: Sequence[tuple[Batch, Batch | None]], *, measure: bool = False) -> tuple[Losses, float]:
        """Take one optimiser step.

        Parameters
        ----------
        batches
            As many as gradients are accumulated over: labelled crops, and unlabelled ones or None.
        measure
            Also compare the gradients of the terms of the last batch's loss (`training.balance`), where it has several.
            With several processes each compares its own.

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
                losses = self._loss(self._module, labelled, unlabelled, state.step / settings.steps)
                if measure and number == len(batches) and losses.terms and self._measurable:
                    losses = replace(losses, parts={**losses.parts, **self._shares(losses.terms)})
                fabric.backward(losses.total / len(batches))
        if settings.clip:
            # Gradients that are not finite are no error here: with precision 16 the scaler leaves such a step out, and
            # else the loop sees what becomes of the loss and the weights.
            fabric.clip_gradients(self._module, self._optimiser, max_norm=settings.clip, error_if_nonfinite=False)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        state.step += 1
        if state.average is not None:
            state.average.update(state.network, state.step)
        if state.semi is not None:
            state.semi.update(state.learner, state.step)
        return losses, rate

    def _shares(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        return gradient_shares(terms, measured_parameters(self.state.network), scale)


def supervised_loss(outputs: Outputs, labels: Tensor, void: Void = "negative") -> Tensor:
    """The loss of labels (B, H, W) uint8: of matched masks where the network classifies masks, else of pixels, which
    never counts those without a label."""
    if isinstance(outputs, MaskOutputs):
        return SetPredictionLoss(SetPredictionSettings(void=void))(outputs.layers, labels).total
    return global_mean(*cross_entropy_sum(outputs.scores, labels))


def global_mean(loss_sum: Tensor, count: Tensor) -> Tensor:
    """Mean over all processes' pixels, scaled so that averaging gradients over processes gives its gradient."""
    if torch.distributed.is_initialized():
        count = count.clone()
        torch.distributed.all_reduce(count)
        loss_sum = loss_sum * torch.distributed.get_world_size()
    return loss_sum / count.clamp_min(1.0)


def _global_share(count: Tensor, pixels: Tensor) -> Tensor:
    """Which share of the pixels of all processes was counted."""
    both = torch.stack([count, pixels.to(count)])
    if torch.distributed.is_initialized():
        torch.distributed.all_reduce(both)
    return both[0] / both[1].clamp_min(1.0)


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
