"""Prepares a step's crops for the student: normalised, mixed, labelled, and predicted by a teacher."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vsscli.data.samples import Crops
from vsscli.data.strong import VIEWS
from vsscli.models.frozen import Seen
from vsscli.models.network import Normalisation
from vsscli.models.outputs import Outputs
from vsscli.recipes.training import Unlabelled
from vsscli.training.consistency import Said, mixed_views
from vsscli.training.evidence import (
    Evidence,
    Narrowing,
    StoredEvidence,
    StoreMeaning,
    TeacherEvidence,
    label_crops,
    sure_labels,
)
from vsscli.training.learner import MeanTeacher
from vsscli.training.mixing import mixed


@dataclass(frozen=True)
class TeacherView:
    """A teacher's outputs for both kinds of crops, and the projected features of all their cells, labelled crops first,
    (N, D) float32; None without a projection."""

    labelled: Outputs
    unlabelled: Outputs
    projected: Tensor | None


@dataclass(frozen=True)
class StepView:
    """A step's crops as the student will see them, and the evidence for the unlabelled ones; None if their labels are
    final.

    Images are normalised. ``teacher`` is None if no objective asks for it. With method unimatch unlabelled crops are
    strong views, all first ones, then all second ones, and ``sure`` (B, H, W) says where the teacher is sure of their
    labels. ``seen`` is what a frozen trunk made of all images, if the teacher had to know.
    """

    labelled: Crops
    unlabelled: Crops | None = None
    evidence: Evidence | None = None
    teacher: TeacherView | None = None
    sure: Tensor | None = None
    seen: Seen | None = None

    @property
    def pairs(self) -> int:
        """How many pairs of views the unlabelled crops are; 0 if they are none."""
        return 0 if self.sure is None else len(self.sure) // VIEWS

    @property
    def target(self) -> Tensor:
        """Labels of the unlabelled crops to learn, (B, H, W) uint8; 255 for none."""
        assert self.unlabelled is not None
        return self.unlabelled.labels if self.evidence is None else self.evidence.target

    @property
    def images(self) -> Tensor:
        """All images that the student sees, labelled crops first."""
        if self.unlabelled is None:
            return self.labelled.images
        return torch.cat([self.labelled.images, self.unlabelled.images])


class Viewer:
    """Makes the view of a step.

    ``stored`` gives the meaning of a prediction store's values, if crops have them; ``teacher`` is a moving average of
    the student, if one is needed; with ``sees_all`` it predicts labelled crops too; it runs under ``autocast``.
    ``frames`` of the crops, one after another, are a clip.
    """

    def __init__(
        self,
        normalisation: Normalisation,
        settings: Unlabelled | None = None,
        stored: StoreMeaning | None = None,
        teacher: MeanTeacher | None = None,
        *,
        sees_all: bool = False,
        frames: int = 1,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.normalisation, self.settings, self.stored = normalisation, settings, stored
        self.teacher, self.sees_all, self.frames, self.autocast = teacher, sees_all, frames, autocast

    def __call__(self, labelled: Crops, unlabelled: Crops | None, progress: float) -> StepView:
        """Prepare crops; ``progress`` is the fraction of the run, from 0 to below 1."""
        labelled = labelled._replace(images=self.normalisation(labelled.images))
        settings = self.settings
        if unlabelled is None or settings is None:
            return StepView(labelled)
        if settings.method == "unimatch":
            return self._strong(labelled, unlabelled, settings)
        crops = unlabelled._replace(images=self.normalisation(unlabelled.images))
        mixes = settings.mixing != "none" and float(torch.rand(())) < settings.mixing_share
        labelled_by_teacher = settings.teacher == "ema"
        if mixes:
            if labelled_by_teacher:
                # Pixels are labelled by the teacher before they are mixed.
                crops = _relabelled(crops, self._predicted(crops.images)[0])
            crops = mixed(settings.mixing, crops, self.frames)
        said: TeacherView | None = None
        seen: Seen | None = None
        if self.teacher is not None:
            count = len(labelled.images)
            split = count if self.sees_all else 0
            images = torch.cat([labelled.images, crops.images])
            seen = self._seen(images)
            own = slice(count - split, None)
            outputs, projected = self._predicted(images[own], seen.part(own) if seen else None)
            said = TeacherView(outputs.part(slice(split)), outputs.part(slice(split, None)), projected)
            if labelled_by_teacher and not mixes:
                crops = _relabelled(crops, said.unlabelled)
        return StepView(labelled, crops, self._evidence(settings, crops, said, progress), said, seen=seen)

    def _strong(self, labelled: Crops, unlabelled: Crops, settings: Unlabelled) -> StepView:
        """Strong views of unlabelled crops with what the teacher says of weak ones."""
        outputs, _ = self._predicted(self.normalisation(unlabelled.images))
        said = Said(*sure_labels(outputs.scores, unlabelled.padding, settings.confidence))
        crops, sure = mixed_views(unlabelled, said, settings.mixing_share)
        return StepView(labelled, crops._replace(images=self.normalisation(crops.images)), sure=sure)

    def _predicted(self, images: Tensor, seen: Seen | None = None) -> tuple[Outputs, Tensor | None]:
        assert self.teacher is not None
        with self.autocast():
            return self.teacher(images.contiguous(memory_format=torch.channels_last), seen)

    def _seen(self, images: Tensor) -> Seen | None:
        """What the frozen trunk of teacher and student makes of images that both of them see."""
        assert self.teacher is not None
        network = self.teacher.learner.network
        if not network.shares:
            return None
        with self.autocast():
            return network.see(images.contiguous(memory_format=torch.channels_last))

    def _evidence(
        self, settings: Unlabelled, crops: Crops, said: TeacherView | None, progress: float
    ) -> Evidence | None:
        narrowing = Narrowing.at(progress, settings.drop, settings.sure)
        if settings.teacher == "ema":
            assert said is not None
            return TeacherEvidence(said.unlabelled.scores, crops.labels, narrowing)
        if self.stored is None:
            return None
        return StoredEvidence(crops, self.stored, narrowing if settings.split == "narrowing" else None)


def _relabelled(crops: Crops, outputs: Outputs) -> Crops:
    return crops._replace(labels=label_crops(outputs.scores, crops.padding), present=None)
