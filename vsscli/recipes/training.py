"""What recipes say of training: optimisation, and what unlabelled frames add."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vsscli.data.config import RareClasses
from vsscli.section import Batch, Fraction, Momentum, Positive, Section, Width


class Train(Section):
    """Optimisation."""

    steps: Positive = 80_000
    batch_size: Batch = Field(8, description="labelled crops per step, over all processes")
    lr: float = Field(1e-4, gt=0)
    encoder_lr: float = Field(1.0, gt=0, description="factor on the learning rate of the encoder")
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor per stage or block of the encoder, from the last")
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[Momentum, Momentum] = (0.9, 0.999)
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    power: float = Field(0.9, ge=0, description="of the polynomial decay")
    clip: float | None = Field(None, gt=0, description="L2 norm the gradient is clipped to")
    accumulate: Positive = Field(1, description="batches per optimiser step")
    ema: float | None = Field(
        None, gt=0, lt=1, description="momentum of averaged weights; they are the ones validated and kept"
    )
    precision: Literal["32", "bf16", "16"] = "32"
    workers: int = Field(2, ge=0, le=1024, description="loader processes")
    threads: int | None = Field(None, gt=0, le=1024, description="CPU threads; part of what makes a run repeatable")
    validate_every: int = Field(
        0, ge=0, description="steps; 0: only at the end, and never where the split to validate on is trained on"
    )
    checkpoint_every: Positive = 200
    log_every: Positive = 10
    init: str | None = Field(None, description="checkpoint whose weights the network starts from")
    rare: RareClasses | None = Field(None, description="choose labelled crops by class, rare ones first; none: in turn")
    void: Literal["negative", "ignored"] = Field(
        "negative",
        description="what pixels without a label are to a network that classifies masks: outside of every mask, as "
        "published, or left out of mask losses and matching, for labels that are partial, though a query that matches "
        "no label still learns that it is no object, wherever its mask lies; one that scores pixels always leaves "
        "them out",
    )


class Contrast(Section):
    """What unreliable pixels add to the loss, as negatives of the classes they surely are not (equation 6)."""

    weight: float = Field(1.0, ge=0)
    variant: Literal["paper", "official", "fix_index"] = Field(
        "paper", description="the definition; or U2PL's published code, bug for bug; or that with its first bug mended"
    )
    low_rank: int | None = Field(
        None, ge=1, description="place, from 0, at which surely-not begins; none: 3, less for fewer than 16 classes"
    )
    high_rank: int | None = Field(None, ge=2, description="place before which it ends; none: the number of classes")
    confidence: Fraction = Field(0.3, description="anchors are at least this sure of their class")
    anchors: Positive = Field(256, description="per class, step and process")
    negatives: Positive = Field(50, description="per anchor")
    temperature: float = Field(0.5, gt=0)
    queue: Positive = Field(30_000, description="features each class's memory bank holds, of all processes together")
    first_queue: int | None = Field(None, gt=0, description="the same for class 0, a background in some tables")
    keys: int | None = Field(
        512, gt=0, description="features a step adds to a bank at most, those of all processes together; none: all"
    )
    channels: Width = Field(256, description="of the projection head")
    step_bytes: Positive = Field(256 * 2**20, description="bound on what one piece of the loss allocates")


class Unlabelled(Section):
    """What unlabelled frames add to the loss (equation 3: L = L_s + weight * L_u + contrast.weight * L_c)."""

    teacher: Literal["store", "ema"] = Field(
        "store", description="who labels them: a store of fused predictions, or an average of the student as it learns"
    )
    pseudo_labels: str | None = Field(None, description="pseudo-label store; `vss train --pseudo` overrides it")
    batch_size: Batch = Field(8, description="unlabelled crops per step, over all processes")
    weight: float = Field(1.0, ge=0)
    balance: Literal["layers", "none"] = Field(
        "layers",
        description="what this weight and the contrast's are of: one layer of the supervised loss, so that they are "
        "multiplied by the layers that Mask2Former's sums (10 of the paper's networks) and mean the same for every "
        "family; none: the sum",
    )
    scale_weight: bool = Field(False, description="times all pixels over the reliable ones, as in U2PL")
    split: Literal["store", "narrowing"] = Field(
        "store",
        description="teacher store: which pixels are reliable. store: those of the pseudo-label store, all along; "
        "narrowing: by `drop` and `sure` of the pixels of a step, of each class's where the store's threshold is by "
        "class",
    )
    drop: float = Field(
        20.0,
        ge=0,
        lt=100,
        description="teacher ema, split narrowing: per cent of pixels without label at the start, none at the end",
    )
    sure: float = Field(
        20.0,
        gt=0,
        le=50,
        description="teacher ema, split narrowing: per cent that are anchors or negatives at first, none at the end",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="of the averaged student")
    mixing: Literal["none", "cutmix", "classmix", "cutout"] = "none"
    mixing_share: Fraction = Field(0.5, description="of the steps whose unlabelled crops are mixed")
    contrast: Contrast | None = None

    @model_validator(mode="after")
    def _one_teacher(self) -> Unlabelled:
        if self.teacher == "ema" and self.pseudo_labels is not None:
            raise ValueError(
                f"teacher ema labels frames itself: pseudo_labels {self.pseudo_labels} would not be used; "
                "leave it out, or set teacher to store"
            )
        return self
