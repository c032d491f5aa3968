"""Semi-supervised training beside its network: teacher, projection, memory banks, and what a step asks of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vsscli.data.classes import IGNORE
from vsscli.errors import VssError
from vsscli.models.heads.projection import ProjectionHead
from vsscli.models.network import Network
from vsscli.models.outputs import Outputs
from vsscli.recipes.training import Unlabelled
from vsscli.talk import SILENCE, Talk
from vsscli.training.bank import Banks
from vsscli.training.contrast import (
    Cells,
    Plan,
    contrastive_loss,
    label_mask,
    negatives_of,
    plan_step,
    published_label_mask,
)
from vsscli.training.evidence import (
    Evidence,
    MapMeaning,
    Narrowing,
    cell_shares,
    from_store,
    from_teacher,
    label_crops,
    shrink,
    stored_target,
)
from vsscli.training.learner import Learner, MeanTeacher
from vsscli.training.mixing import mix
from vsscli.training.ranks import Ranks, rank_bounds, rank_window
from vsscli.training.unsupervised import narrowing_share


@dataclass(frozen=True)
class Prepared:
    """Unlabelled crops as the student will see them, what it should say of them, and which cells it will be asked for.

    images (B, 3, H, W) are normalised, target (B, H, W) uint8 has 255 where there is nothing to learn; pixels, a number
    on the device, is how many of them are no padding.
    """

    images: Tensor
    target: Tensor
    plan: Plan | None
    pixels: Tensor


def padding_of(images: Tensor, maps: Tensor) -> Tensor:
    """Where crops are padded, (B, H, W) bool: rows and columns that are black and void from end to end.

    A store of pseudo-labels has 255 also where it is not sure, so that labels alone don't tell.

    Parameters
    ----------
    images
        (B, 3, H, W) uint8.
    maps
        Labels (B, H, W) uint8, or (B, L, H, W) with more maps after them.
    """
    void = ((maps if maps.ndim == 3 else maps[:, 0]) == IGNORE) & (images == 0).all(dim=1)
    return void.all(dim=1, keepdim=True) | void.all(dim=2, keepdim=True)


class SemiSupervision:
    """What a semi-supervised run has beside its network.

    Parameters
    ----------
    settings
        The recipe's ``unlabelled`` section.
    learner
        Network, and projection where there is contrast, on their device.
    ranks
        Bounds of the ranks, where there is contrast.
    stored
        Of a store whose maps come with the crops; None where crops come with their final labels, or with none.
    autocast
        What the teacher's forward passes run under.
    """

    def __init__(
        self,
        settings: Unlabelled,
        learner: Learner,
        ranks: Ranks | None = None,
        stored: MapMeaning | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.settings, self.projection, self.ranks, self.stored = settings, learner.projection, ranks, stored
        self.autocast = autocast
        contrast = settings.contrast
        self.teacher = MeanTeacher(learner, settings.momentum) if contrast or settings.teacher == "ema" else None
        self.banks: Banks | None = None
        if contrast and ranks:
            sizes = [contrast.queue] * ranks.num_classes
            sizes[0] = contrast.first_queue or contrast.queue
            self.banks = Banks(sizes, contrast.channels, next(learner.parameters()).device)

    def prepare(
        self, labelled: Tensor, labels: Tensor, images: Tensor, maps: Tensor, padding: Tensor, progress: float
    ) -> Prepared:
        """Label, mix and rank a step's unlabelled crops, push the banks' keys, and draw anchors and negatives.

        Parameters
        ----------
        labelled, labels
            Normalised images (b, 3, H, W) with their labels (b, H, W) uint8.
        images
            Normalised unlabelled images (B, 3, H, W).
        maps
            (B, H, W) uint8: their labels, or void alone where the teacher labels them; (B, L, H, W): a store's maps.
        padding
            (B, H, W) bool, see `padding_of`.
        progress
            How much of the run is over, in [0, 1).
        """
        maps = maps[:, None] if maps.ndim == 3 else maps
        mixes = self.settings.mixing != "none" and float(torch.rand(())) < self.settings.mixing_share
        labels_first = self.settings.teacher == "ema" and mixes
        if labels_first:
            # The label of a pixel is what the teacher says where it has not been mixed.
            maps = self._labelled_by_teacher(self._ask(images)[0], maps)
        if mixes:
            images, mixed = mix(self.settings.mixing, images, torch.cat([maps, padding[:, None]], dim=1), maps[:, 0])
            # What cutout erases is 255 there: no padding, but a pixel without label, as in U2PL.
            maps, padding = mixed[:, :-1], mixed[:, -1] == 1
        pixels = (~padding).sum()
        if self.teacher is None:
            target = stored_target(maps, self.stored, self._narrowing(progress)) if self.stored else maps[:, 0]
            return Prepared(images, target, None, pixels)
        split = len(labelled) if self.banks else 0
        outputs, features = self._ask(torch.cat([labelled[:split], images]))
        unlabelled = outputs.part(slice(split, None))
        if self.settings.teacher == "ema" and not mixes:
            maps = self._labelled_by_teacher(unlabelled, maps)
        evidence = self._evidence(unlabelled, maps, progress)
        if self.banks is None or features is None or self.settings.contrast is None:
            return Prepared(images, evidence.target, None, pixels)
        cells = self._cells(outputs.part(slice(split)), labels, evidence)
        plan = plan_step(features, cells, self.banks, self.settings.contrast)
        return Prepared(images, evidence.target, plan, pixels)

    def loss(self, anchors: Tensor, plan: Plan) -> Tensor:
        """The contrastive loss of the student's features (A, M, D) for a plan."""
        assert self.banks is not None
        assert self.settings.contrast is not None
        return contrastive_loss(anchors, plan, self.banks, self.settings.contrast)

    def update(self, learner: Learner, step: int) -> None:
        """Take in the student's weights after ``step`` steps."""
        if self.teacher is not None:
            self.teacher.average.update(learner, step)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep for training to go on: plain containers of tensors."""
        return {
            "projection": self.projection.state_dict() if self.projection else None,
            "teacher": self.teacher.average.weights if self.teacher else None,
            "banks": self.banks.state_dict() if self.banks else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`."""
        if self.projection:
            self.projection.load_state_dict(state["projection"])
        if self.teacher:
            self.teacher.average.load(state["teacher"])
        if self.banks:
            self.banks.load_state_dict(state["banks"])

    def _ask(self, images: Tensor) -> tuple[Outputs, Tensor | None]:
        assert self.teacher is not None
        with self.autocast():
            return self.teacher(images.contiguous(memory_format=torch.channels_last))

    def _labelled_by_teacher(self, outputs: Outputs, maps: Tensor) -> Tensor:
        return label_crops(outputs.scores, maps[:, 0] == IGNORE)[:, None]

    def _evidence(self, outputs: Outputs, maps: Tensor, progress: float) -> Evidence:
        contrast = self.settings.contrast
        # Features are contrasted, so cells are theirs.
        size = (outputs.features.shape[-2], outputs.features.shape[-1]) if outputs.features is not None else None
        if self.stored is not None and contrast is not None and self.ranks is not None and size is not None:
            classes = self.ranks.num_classes
            return from_store(
                maps,
                size,
                self.stored,
                confidence=contrast.confidence,
                num_classes=classes,
                narrowing=self._narrowing(progress),
            )
        return from_teacher(
            outputs.scores,
            maps[:, 0],
            size=size,
            dropped=narrowing_share(self.settings.drop, progress),
            share=narrowing_share(self.settings.sure, progress),
            listed=self.ranks.listed if self.ranks else 1,
            confidence=contrast.confidence if contrast else 0.0,
        )

    def _narrowing(self, progress: float) -> Narrowing | None:
        """The split of a store's pixels at a time of the run, where it is not the store's own."""
        if self.settings.split == "store":
            return None
        drop, sure = (narrowing_share(share, progress) for share in (self.settings.drop, self.settings.sure))
        return Narrowing(drop, sure)

    def _cells(self, labelled: Outputs, labels: Tensor, evidence: Evidence) -> Cells:
        """What the contrast needs to know of all cells: those of labelled crops, then the others."""
        assert self.ranks is not None
        assert self.settings.contrast is not None
        ranks, contrast = self.ranks, self.settings.contrast
        size = (evidence.label.shape[-2], evidence.label.shape[-1])
        shares = cell_shares(labelled.scores, size)
        label = shrink(labels, size).long()
        known = (label != IGNORE).flatten()
        window = torch.cat(
            [
                rank_window(shares.topk(ranks.low, dim=1).indices, 0, ranks.low, ranks.num_classes),
                rank_window(evidence.ranked, ranks.low, ranks.high, ranks.num_classes),
            ]
        )
        mask = label_mask if contrast.variant == "paper" else published_label_mask
        own = torch.cat([mask(label, ranks.num_classes), mask(evidence.label, ranks.num_classes)])
        negative = negatives_of(
            window,
            own,
            torch.cat([known, evidence.unreliable.flatten()]),
            labelled=len(known),
            variant=contrast.variant,
        )
        trusted = own & torch.cat([known, evidence.reliable.flatten()])[:, None]
        sure = torch.cat([shares > contrast.confidence, evidence.sure])
        return Cells(trusted, sure, negative, crops=len(label) + len(evidence.label))


def build_semi(
    settings: Unlabelled,
    network: Network,
    stored: MapMeaning | None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    talk: Talk = SILENCE,
) -> tuple[Learner, SemiSupervision]:
    """Set up what a semi-supervised run has beside its network.

    Parameters
    ----------
    settings
        The recipe's ``unlabelled`` section.
    network
        On its device.
    stored
        Of the store that the crops' maps come from, if they do.
    autocast
        What the teacher's forward passes run under.
    talk
        Told the ranks and the memory.

    Raises
    ------
    VssError
        Ranks that the classes or the store do not allow, a variant that would learn nothing, a network without
        features.
    """
    contrast = settings.contrast
    if contrast is None:
        learner = Learner(network)
        return learner, SemiSupervision(settings, learner, stored=stored, autocast=autocast)
    if contrast.variant != "paper" and settings.teacher == "store":
        raise VssError(
            f"unlabelled.contrast.variant {contrast.variant} finds no negative with teacher store: the published code "
            "wants one pass of the teacher to label what another ranks last, and a store is one pass",
            "use variant paper, or teacher ema",
        )
    if not network.feature_channels:
        raise VssError(
            "this network has no features for a projection head to start from",
            "leave unlabelled.contrast out of the recipe, or train another family",
        )
    ranks = rank_bounds(contrast, network.num_classes, stored.kept if stored else None, talk)
    device = next(network.parameters()).device
    learner = Learner(network, ProjectionHead(network.feature_channels, contrast.channels).to(device))
    semi = SemiSupervision(settings, learner, ranks, stored, autocast)
    assert semi.banks is not None
    talk.say(
        f"memory banks: {semi.banks.rows} features of {contrast.channels} for {network.num_classes} classes, "
        f"{semi.banks.nbytes / 2**20:.0f} MiB on {device.type}; the contrast is worked out in pieces of at most "
        f"{contrast.step_bytes / 2**20:.0f} MiB"
    )
    return learner, semi
