"""Sections about training: optimisation, and the use of unlabelled frames."""

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
    schedule: Literal["poly", "poly_after", "cosine"] = Field(
        "poly",
        description="decay of the learning rate: polynomial from the first step, under the warm-up; or polynomial or a "
        "half cosine from the end of the warm-up, which then begins at 0",
    )
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    encoder_warmup: int = Field(
        0, ge=0, description="steps of a warm-up of the encoder, which rests during the first; not with poly"
    )
    power: float = Field(0.9, ge=0, description="exponent of the polynomial decay")
    min_lr: float = Field(0.0, ge=0, description="learning rate that the decay ends at")
    clip: float | None = Field(None, gt=0, description="L2 norm that the gradient is clipped to")
    accumulate: Positive = Field(1, description="batches per optimiser step")
    ema: float | None = Field(
        None, gt=0, lt=1, description="momentum of averaged weights, which are then validated and saved"
    )
    precision: Literal["32", "bf16", "16"] = "32"
    workers: int = Field(2, ge=0, le=1024, description="loader processes")
    threads: int | None = Field(None, gt=0, le=1024, description="CPU threads; part of what makes a run repeatable")
    validate_every: int = Field(
        0, ge=0, description="steps; 0: only at the end, and not at all if the validation split is trained on"
    )
    validate_frames: int | None = Field(
        None, gt=0, description="most frames of the validation split that count, of videos at even distances; null: all"
    )
    checkpoint_every: Positive = 200
    log_every: Positive = 10
    init: str | None = Field(None, description="checkpoint whose weights the network starts from")
    rare: RareClasses | None = Field(None, description="choose labelled crops by class, rare ones first; null: in turn")
    void: Literal["negative", "ignored"] = Field(
        "negative",
        description="how mask classifiers treat void pixels: `negative`, outside of every mask, as published; or "
        "`ignored`, left out of mask losses and matching, for partial labels (a query that matches no label still "
        "learns that it is no object, wherever its mask is). Networks that score pixels always leave void out",
    )


class Contrast(Section):
    """The contrastive loss: unreliable pixels are negatives of classes they surely do not belong to (equation 6)."""

    weight: float = Field(1.0, ge=0)
    variant: Literal["paper", "official", "fix_index"] = Field(
        "paper", description="the definition; or U2PL's published code, bug for bug; or that with its first bug fixed"
    )
    low_rank: int | None = Field(
        None, ge=1, description="rank, from 0, from which a class is surely wrong; null: 3, less below 16 classes"
    )
    high_rank: int | None = Field(None, ge=2, description="rank before which this ends; null: the number of classes")
    confidence: Fraction = Field(0.3, description="least probability of an anchor's class")
    anchors: Positive = Field(256, description="per class, step and process")
    negatives: Positive = Field(50, description="per anchor")
    temperature: float = Field(0.5, gt=0)
    queue: Positive = Field(30_000, description="features in each class's memory bank, over all processes")
    first_queue: int | None = Field(None, gt=0, description="the same for class 0, the background in some tables")
    keys: int | None = Field(
        512, gt=0, description="most features that a step adds to a bank, over all processes; null: all"
    )
    channels: Width = Field(256, description="channels of the projection head")
    step_bytes: Positive = Field(256 * 2**20, description="most bytes that one piece of the loss allocates")


class Unlabelled(Section):
    """What unlabelled frames add to the loss (equation 3: L = L_s + weight * L_u + contrast.weight * L_c)."""

    method: Literal["paper", "unimatch"] = Field(
        "paper",
        description="paper: equation 3; unimatch: UniMatch V2, weak-to-strong consistency with a mean teacher, "
        "(L_s + weight * L_u) / 2: L_u is of both strong views of a crop, mixed by boxes, where the teacher is sure",
    )
    confidence: Fraction = Field(0.95, description="unimatch: least probability of a label that is learned from")
    teacher: Literal["store", "ema"] = Field(
        "store", description="what labels them: a pseudo-label store, or a moving average of the student (mean teacher)"
    )
    pseudo_labels: str | None = Field(None, description="pseudo-label store; `vss train --pseudo` overrides it")
    batch_size: Batch = Field(8, description="unlabelled crops per step, over all processes")
    weight: float = Field(1.0, ge=0)
    loss: Literal["pixels", "masks"] = Field(
        "pixels",
        description="of labels given to reliable pixels: cross-entropy of each, or the losses of a mask classifier, "
        "in which the other pixels count neither for nor against a mask",
    )
    pixel_weights: Literal["alike", "certainty"] = Field(
        "alike",
        description="how much reliable pixels count in either loss: alike, or by 1 minus their normalised entropy",
    )
    balance: Literal["layers", "none"] = Field(
        "layers",
        description="what this weight and the contrast's are relative to: one layer of the supervised loss, so that "
        "they are multiplied by the number of layers in Mask2Former's loss (10 in the paper's networks) and mean the "
        "same for every family; none: the sum",
    )
    scale_weight: bool = Field(False, description="multiply by all pixels over the reliable ones, as in U2PL")
    split: Literal["store", "narrowing"] = Field(
        "store",
        description="with teacher store: which pixels are reliable. store: those of the pseudo-label store; "
        "narrowing: by `drop` and `sure` among the pixels of a step, per class if the store's threshold is by class",
    )
    drop: float = Field(
        20.0,
        ge=0,
        lt=100,
        description="teacher ema, split narrowing: per cent of pixels without a label at the start, 0 at the end",
    )
    sure: float = Field(
        20.0,
        gt=0,
        le=50,
        description="teacher ema, split narrowing: per cent that are anchors or negatives at the start, 0 at the end",
    )
    momentum: float = Field(0.99, ge=0, lt=1, description="momentum of the mean teacher")
    mixing: Literal["none", "cutmix", "classmix", "cutout"] = "none"
    mixing_share: Fraction = Field(
        0.5, description="share of steps whose unlabelled crops are mixed; unimatch: share of the strong views"
    )
    contrast: Contrast | None = None

    @model_validator(mode="after")
    def _one_teacher(self) -> Unlabelled:
        if self.teacher == "ema" and self.pseudo_labels is not None:
            raise ValueError(
                f"with teacher ema, pseudo_labels {self.pseudo_labels} would not be used; "
                "leave it out, or set teacher to store"
            )
        return self

    @model_validator(mode="after")
    def _one_method(self) -> Unlabelled:
        if self.method == "paper":
            return self
        if self.teacher != "ema":
            raise ValueError("method unimatch labels frames by a mean teacher: set teacher to ema")
        unused = [name for name, given in (("contrast", self.contrast), ("scale_weight", self.scale_weight)) if given]
        unused += ["loss"] if self.loss != "pixels" else []
        unused += ["pixel_weights"] if self.pixel_weights != "alike" else []
        unused += ["mixing"] if self.mixing != "none" else []
        if unused:
            raise ValueError(
                f"{unused[0]} is of method paper, not of unimatch, which mixes by boxes always: leave it out"
            )
        return self
