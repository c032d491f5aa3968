"""What a recipe may say.

A recipe is one YAML file that a person can read from top to bottom. Unknown keys and values of the wrong type are
errors; nothing in it can name code to import.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0)]
Size = tuple[Positive, Positive]


class Section(BaseModel):
    """A part of a recipe: closed to unknown keys, unchanged once read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Scene(Section):
    """Small synthetic videos, drawn on demand where no real data is at hand."""

    videos: Positive = Field(8, description="labelled training videos")
    unlabelled_videos: Positive = Field(8, description="training videos without labels")
    val_videos: Positive = Field(4, description="videos to score on")
    frames: Positive = Field(20, description="frames per video")
    size: Size = Field((96, 128), description="height and width of a frame")
    seed: int = 0


class Data(Section):
    """Where the videos are and what their masks mean."""

    name: str = Field("vspw", description="what to call this data set in messages")
    root: str = Field("data/vspw", description="folder of the data set; relative to the working directory")
    root_env: str | None = Field(None, description="environment variable that overrides `root` when set")
    layout: Literal["vspw", "folders"] = "vspw"
    classes: str = Field("vspw124", description="a class table that ships with vss, or a JSON/YAML file under the root")
    void_ids: tuple[int, ...] = Field((0, 255), description="mask values that mean no class")
    first_id: int = Field(1, ge=0, le=255, description="mask value of class 0; the others follow")
    unknown_ids: Literal["error", "void"] = Field("error", description="what to do with mask values beyond the table")
    remap: str | None = Field(
        None,
        description="masks are another data set's, read in `classes` by this mapping: ade20k, … or a YAML file; "
        "the mapping then says what their values mean, and the three fields above do not count",
    )
    train: str = Field("train", description="split with labels to train on")
    val: str = Field("val", description="split to evaluate on")
    labelled: str | None = Field(None, description="list of <video>/<stem>: only these labels of `train` count")
    unlabelled: tuple[str, ...] = Field(
        (), description="splits predicted as unlabelled data beside the rest of `train`"
    )
    publisher: str = Field("", description="where the owners of the data publish it")
    without: str = Field("", description="a recipe to try when the data is not at hand")
    scene: Scene | None = Field(None, description="draw synthetic videos at `root` when they are not there")


class Model(Section):
    """The network. Families beside `light` bring sections of their own."""

    family: Literal["light"] = "light"
    encoder: str = Field("tf_efficientnet_lite0", description="any timm model with feature maps")
    channels: Positive = Field(128, description="width of the feature pyramid")
    dropout: Fraction = Field(0.1, description="on the decoder's last features")
    drop_path: Fraction = Field(0.0, description="stochastic depth of the encoder")
    pretrained: str = Field("imagenet", description="`imagenet`, `none`, or a file of encoder weights")
    frozen_norm: bool = Field(False, description="keep the encoder's batch-norm statistics as they were loaded")


class Augment(Section):
    """Training augmentation, as in the paper."""

    scale: tuple[float, float] = Field((0.5, 2.0), description="random resize, uniform in this range")
    size: int | None = Field(None, gt=0, description="short side at scale 1; none: the frame's own")
    crop: Size = (480, 480)
    single_class_limit: Fraction = Field(0.75, description="crops where one class covers more are drawn again")
    flip: Fraction = 0.5
    brightness: float = Field(0.125, ge=0)
    contrast: float = Field(0.5, ge=0)
    saturation: float = Field(0.5, ge=0)
    hue: float = Field(0.05, ge=0, le=0.5)
    colour_jitter: Fraction = Field(0.8, description="how often colours are changed at all")


class Train(Section):
    """Optimisation."""

    steps: Positive = 80_000
    batch_size: Positive = Field(8, description="labelled crops per step, over all processes")
    lr: float = Field(1e-4, gt=0)
    encoder_lr: float = Field(1.0, gt=0, description="factor on the learning rate of the encoder")
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor per encoder stage, counted from the last")
    weight_decay: float = Field(0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = Field(0, ge=0, description="steps of linear warm-up")
    power: float = Field(0.9, ge=0, description="of the polynomial decay")
    clip: float | None = Field(None, gt=0, description="L2 norm the gradient is clipped to")
    accumulate: Positive = Field(1, description="batches per optimiser step")
    ema: float | None = Field(
        None, gt=0, lt=1, description="momentum of averaged weights; they are the ones validated and kept"
    )
    precision: Literal["32", "bf16", "16"] = "32"
    workers: int = Field(2, ge=0, description="loader processes")
    threads: int | None = Field(None, gt=0, description="CPU threads; part of what makes a run repeatable")
    validate_every: int = Field(0, ge=0, description="steps; 0: only at the end")
    checkpoint_every: Positive = 200
    log_every: Positive = 10
    init: str | None = Field(None, description="checkpoint whose weights the network starts from")


class Unlabelled(Section):
    """What unlabelled frames add to the loss (equation 3: L = L_s + weight * L_u)."""

    pseudo_labels: str | None = Field(None, description="pseudo-label store; `vss train --pseudo` overrides it")
    batch_size: Positive = Field(8, description="unlabelled crops per step, over all processes")
    weight: float = Field(1.0, ge=0)


class Plan(Section):
    """A test-time augmentation plan written out."""

    scales: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    flip: bool = False


class Predict(Section):
    """How the network is read out."""

    size: int | None = Field(None, gt=0, description="short side at scale 1; none: the frame's own")
    window: Size | None = Field(None, description="sliding window; none: whole frames")
    step: Size | None = Field(None, description="step of the window; none: two thirds of it")
    tta: Literal["paper", "flip", "none"] | Plan = Field("paper", description="plan used with --tta")
    precision: Literal["32", "bf16", "16"] = "32"


class Store(Section):
    """What is kept of a prediction. `specs` of the format: docs/store.md."""

    grid: Literal[1, 2, 4] = Field(1, description="stride of the score grid")
    kept: Annotated[int, Field(ge=1, le=254)] = Field(8, description="classes kept per pixel (at most all)")
    keep: Literal["top", "compact", "all"] = Field(
        "top", description="the most likely classes, fewer and coarser ones, or all logits as float16"
    )


class Recipe(Section):
    """One training stage and how its network predicts."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    seed: int = Field(0, ge=0)
    data: Data = Data()
    model: Model = Model()
    augment: Augment = Augment()
    train: Train = Train()
    unlabelled: Unlabelled | None = None
    predict: Predict = Predict()
    store: Store = Store()

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Recipe:
        if self.train.warmup >= self.train.steps:
            raise ValueError(f"train.warmup ({self.train.warmup}) must be less than train.steps ({self.train.steps})")
        return self
