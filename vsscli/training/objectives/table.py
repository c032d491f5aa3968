"""All objectives, and the sum of those that a recipe chooses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from vsscli.data.samples import Crops
from vsscli.errors import VssError
from vsscli.models.frozen import load_learning
from vsscli.models.network import Network
from vsscli.recipes.schema import Recipe
from vsscli.talk import SILENCE, Talk
from vsscli.training.averaging import as_mean, gradually
from vsscli.training.balance import layers_of
from vsscli.training.evidence import StoreMeaning
from vsscli.training.learner import Answer, Learner, MeanTeacher, Shard, keep_whole
from vsscli.training.objectives.contrast import ContrastiveLoss
from vsscli.training.objectives.labels import SupervisedLoss
from vsscli.training.objectives.objective import Objective, Said, Setup
from vsscli.training.objectives.pseudo_labels import UnsupervisedLoss
from vsscli.training.objectives.unimatch import ConsistencyLoss
from vsscli.training.view import Viewer

OBJECTIVES: tuple[type[Objective], ...] = (SupervisedLoss, UnsupervisedLoss, ConsistencyLoss, ContrastiveLoss)
"""In the order of summation; gradients are compared with those of the first."""


@dataclass(frozen=True)
class Losses:
    """Losses of one step, all tensors, so that nothing waits for the device.

    ``total`` is minimised; ``figures`` are for the journal: losses without their weights, and other figures of
    objectives; ``terms`` are the weighted losses that the total is the sum of.
    """

    total: Tensor
    figures: dict[str, Tensor]
    terms: dict[str, Tensor]


class Objectives:
    """``L = L_s + n (lambda_u L_u + lambda_c L_c)``, equation 3 of the paper with its terms on one scale, and any other
    terms of the recipe.

    n is 1 for a network that scores pixels, as in the paper. For a mask classifier, whose L_s is a sum over the layers
    of its decoder, it is the number of layers if terms are ``balanced``; L_s itself is as published.

    Losses over pixels are means over the whole batch of all processes, so that two processes learn what one would. The
    contrast is computed by each process on its own crops, with banks that all share.
    """

    def __init__(self, learner: Learner, viewer: Viewer, parts: Sequence[Objective], *, balanced: bool = True) -> None:
        self.learner, self.viewer, self.parts, self.balanced = learner, viewer, tuple(parts), balanced

    def __call__(self, learner: nn.Module, labelled: Crops, unlabelled: Crops | None, progress: float) -> Losses:
        """Run the learner, or its wrapper, once over both kinds of crops."""
        view = self.viewer(labelled, unlabelled, progress)
        plans = [part.plan(view) for part in self.parts]
        images = view.images.contiguous(memory_format=torch.channels_last)
        answer: Answer = learner(
            images, [None if plan is None else plan.anchors for plan in plans], view.pairs, view.seen
        )
        own, others = answer.outputs, None
        if view.unlabelled is not None:
            split = len(view.labelled.images)
            own, others = own.part(slice(split)), own.part(slice(split, None))
        layers = layers_of(answer.outputs) if self.balanced else 1
        figures: dict[str, Tensor] = {}
        terms: dict[str, Tensor] = {}
        for part, plan, anchors in zip(self.parts, plans, answer.projected, strict=True):
            term = part.term(Said(view, own, others, layers, plan, anchors))
            terms[part.name] = term.weight * term.loss
            figures |= {f"loss_{part.name}": term.loss.detach(), **term.figures}
        total = reduce(torch.add, terms.values())
        return Losses(total, {"loss": total.detach(), **figures}, terms)

    def update(self, step: int) -> None:
        """Update the teacher with the student's weights after ``step`` steps."""
        if self.viewer.teacher is not None:
            self.viewer.teacher.average.update(self.learner, step)

    def state_dict(self) -> dict[str, Any] | None:
        """What a checkpoint must keep besides the network to continue: plain containers of tensors."""
        if self.viewer.settings is None:
            return None
        projection, teacher = self.learner.projection, self.viewer.teacher
        kept = {part.kept_as: part.memory.state_dict() for part in self.parts if part.memory is not None}
        return {
            "projection": projection.state_dict() if projection else None,
            "teacher": teacher.average.weights if teacher else None,
            **{kind.kept_as: kept.get(kind.kept_as) for kind in OBJECTIVES if kind.kept_as},
        }

    def load_state_dict(self, state: dict[str, Any] | None) -> None:
        """Continue from `state_dict`."""
        if state is None:
            return
        if self.learner.projection:
            load_learning(self.learner.projection, state["projection"])
        if self.viewer.teacher:
            self.viewer.teacher.average.load(state["teacher"])
        for part in self.parts:
            if part.memory is not None:
                part.memory.load_state_dict(state[part.kept_as])


def build_objectives(
    recipe: Recipe,
    network: Network,
    stored: StoreMeaning | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    talk: Talk = SILENCE,
    shard: Shard = keep_whole,
) -> Objectives:
    """Set up a recipe's objectives, with the learner and the teacher that they need.

    The network must be on its device. ``stored`` gives the meaning of a prediction store's values, if unlabelled crops
    come with them; a teacher runs under ``autocast``. ``shard`` shares learner and teacher out over processes. Settings
    that would teach nothing are refused.
    """
    setup = Setup(recipe, network, stored, talk)
    parts = [part for kind in OBJECTIVES if (part := kind.of(setup)) is not None]
    learner = Learner(network, _only_head(parts))
    settings, asked = recipe.unlabelled, any(part.asks_teacher for part in parts)
    teacher = None
    if settings and (asked or settings.teacher == "ema"):
        start = as_mean if settings.method == "unimatch" else gradually
        teacher = MeanTeacher(learner, settings.momentum, start, shard)
    shard(learner)
    viewer = Viewer(
        network.normalisation, settings, stored, teacher, sees_all=asked, frames=network.frames, autocast=autocast
    )
    return Objectives(learner, viewer, parts, balanced=settings is not None and settings.balance == "layers")


def _only_head(parts: Sequence[Objective]) -> nn.Module | None:
    """The projection head that one of the objectives brings, if any does; a learner has room for one."""
    heads = {part.name: part.head for part in parts if part.head is not None}
    if len(heads) > 1:
        raise VssError(
            f"the objectives {' and '.join(heads)} each bring a projection head, and a network trains with one",
            "leave all but one of them out of the recipe's `unlabelled` section",
        )
    return next(iter(heads.values()), None)
