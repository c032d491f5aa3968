"""One step: from crops to the loss to new weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor

from vsscli.data.samples import Crops
from vsscli.models.shares import whole_of
from vsscli.recipes.schema import Recipe
from vsscli.training.balance import gradient_shares, measured_parameters
from vsscli.training.objectives.table import Losses
from vsscli.training.optimiser import set_learning_rates
from vsscli.training.sharding import is_sharding
from vsscli.training.state import TrainingState


class Stepper:
    """Advances a training state by one step; sets up learner and optimiser for the fabric."""

    def __init__(self, fabric: Fabric, recipe: Recipe, state: TrainingState) -> None:
        self.fabric, self.recipe, self.state = fabric, recipe, state
        self._module, self._optimiser = fabric.setup(state.learner, state.optimiser)
        # A compiled network frees its graph in the first backward pass; one that is shared out has no whole weights to
        # take gradients of.
        self._measurable = not recipe.model.compiles and not is_sharding(fabric)

    def step(self, batches: Sequence[tuple[Crops, Crops | None]], *, measure: bool = False) -> tuple[Losses, float]:
        """Take one optimiser step.

        Parameters
        ----------
        batches
            One per accumulation of gradients: labelled crops, and unlabelled ones or None.
        measure
            Also compare the gradients of the terms of the last batch's loss (`training.balance`), if it has several.
            Each process compares its own.

        Returns
        -------
        tuple
            Losses of the last batch, and the highest learning rate.
        """
        fabric, settings, state = self.fabric, self.recipe.train, self.state
        # Randomness in the step (dropout, drop path) follows from its number, so that a resumed run draws the same as
        # an uninterrupted one.
        torch.manual_seed(_seed(self.recipe.seed, state.step, fabric.global_rank))
        rate = set_learning_rates(state.optimiser, state.step, settings)
        state.network.at_progress(state.step / settings.steps)
        for number, (labelled, unlabelled) in enumerate(batches, start=1):
            with fabric.no_backward_sync(self._module, enabled=number < len(batches)):
                losses = state.objectives(self._module, labelled, unlabelled, state.step / settings.steps)
                if measure and number == len(batches) and len(losses.terms) > 1 and self._measurable:
                    losses = replace(losses, figures={**losses.figures, **self._shares(losses.terms)})
                fabric.backward(losses.total / len(batches))
        if settings.clip:
            # Non-finite gradients are not an error here: with precision 16 the scaler skips such a step, and otherwise
            # the loop checks the loss and the weights.
            norm = fabric.clip_gradients(
                self._module, self._optimiser, max_norm=settings.clip, error_if_nonfinite=False
            )
            assert norm is not None
            losses = replace(losses, figures={**losses.figures, "gradient_norm": _finite(whole_of(norm))})
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        state.step += 1
        if state.average is not None:
            state.average.update(state.network, state.step)
        state.objectives.update(state.step)
        return losses, rate

    def _shares(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        scale = float(scaler.get_scale()) if scaler is not None else 1.0
        return gradient_shares(terms, measured_parameters(self.state.network), scale)


def _finite(figure: Tensor) -> Tensor:
    """The figure; NaN, for which the journal has a word, if it is infinite: precision 16 skips such a step."""
    return torch.where(figure.isfinite(), figure, torch.nan)


def _seed(*words: int) -> int:
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])
