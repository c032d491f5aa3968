"""What a recipe may say.

A recipe is one YAML file that a person can read from top to bottom. Unknown keys and values of the wrong type are
errors; nothing in it can name code to import, but for one key: `model.config` of the family `mmseg` may name a .py
config of mmsegmentation, which is a program.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from vsscli.names import SHORT, sound_name

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(gt=0, le=10**12)]
Side = Annotated[int, Field(gt=0, le=2**16)]
"""Of a picture, in pixels: what a store can hold."""
Width = Annotated[int, Field(gt=0, le=2**16)]
Layers = Annotated[int, Field(gt=0, le=1000)]
Batch = Annotated[int, Field(gt=0, le=2**16)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Factor = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]
Size = tuple[Side, Side]
Split = Annotated[str, AfterValidator(sound_name)]
Keep = Literal["top", "fine", "compact", "all"]
Layout = Literal["vspw", "folders", "ade20k", "cocostuff", "coco-panoptic", "cityscapes", "images"]


class Section(BaseModel):
    """A part of a recipe: closed to unknown keys, unchanged once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


MAPPED_LAYOUTS = ("cocostuff", "coco-panoptic", "cityscapes")
"""Layouts whose masks are not PNGs of the classes' numbers."""


class Scene(Section):
    """Small synthetic videos, drawn on demand where no real data is at hand."""

    videos: Positive = Field(8, description="labelled training videos")
    unlabelled_videos: Positive = Field(8, description="training videos without labels")
    val_videos: Positive = Field(4, description="videos to score on")
    frames: Positive = Field(20, description="frames per video")
    size: Size = Field((96, 128), description="height and width of a frame")
    seed: Seed = 0


class Data(Section):
    """Where the videos are and what their masks mean."""

    name: Annotated[str, AfterValidator(sound_name)] = Field(
        "vspw", description="what to call this data set in messages, and the folder of its stores"
    )
    root: str = Field("data/vspw", description="folder of the data set; relative to the working directory")
    root_env: str | None = Field(None, description="environment variable that overrides `root` when set")
    layout: Layout = Field("vspw", description="how files lie under `root`; of images, each is a video of one frame")
    images: str | None = Field(None, description="layout images: folder of a split's images, as in `images/{split}`")
    masks: str | None = Field(None, description="layout images: folder of a split's masks, as in `masks/{split}`")
    classes: str = Field("vspw124", description="a class table that ships with vss, or a JSON/YAML file under the root")
    void_ids: tuple[int, ...] = Field((0, 255), description="mask values that mean no class")
    first_id: int = Field(1, ge=0, le=255, description="mask value of class 0; the others follow")
    unknown_ids: Literal["error", "void"] = Field("error", description="what to do with mask values beyond the table")
    remap: str | None = Field(
        None,
        description="masks are another data set's, read in `classes` by this mapping: ade20k, … or a YAML file; "
        "the mapping then says what their values mean, and the three fields above do not count",
    )
    train: Split | Annotated[tuple[Split, ...], Field(min_length=1)] = Field(
        "train", description="split with labels to train on, or several"
    )
    val: Split = Field("val", description="split to evaluate on")
    labelled: str | None = Field(None, description="list of <video>/<stem>: only these labels of `train` count")
    unlabelled: tuple[Split, ...] = Field(
        (), description="splits predicted as unlabelled data beside the rest of `train`"
    )
    publisher: str = Field("", description="where the owners of the data publish it")
    without: str = Field("", description="a recipe to try when the data is not at hand")
    scene: Scene | None = Field(None, description="draw synthetic videos at `root` when they are not there")

    @property
    def train_splits(self) -> tuple[str, ...]:
        """The splits to train on, one or several."""
        return (self.train,) if isinstance(self.train, str) else self.train

    @model_validator(mode="after")
    def _tree_is_known(self) -> Data:
        if self.layout == "images" and self.images is None:
            raise ValueError("layout images needs `images`, the folder of a split's images: images/{split}")
        for name, template in (("images", self.images), ("masks", self.masks)):
            if template is None:
                continue
            if self.layout != "images":
                raise ValueError(f"`{name}` belongs to layout images; layout {self.layout} knows its own folders")
            if set(template.replace("{split}", "")) & set("{}"):
                raise ValueError(f"`{name}` may hold {{split}} and no other braces, not {template!r}")
        if self.layout in MAPPED_LAYOUTS and self.remap is None:
            raise ValueError(
                f"layout {self.layout} needs `remap`, which reads such masks: {self.layout}, or a mapping of your own"
            )
        return self


class Also(Section):
    """A further data set to train on, in the classes of `data`."""

    data: Data
    share: float = Field(ge=0.001, lt=1, description="of the labelled crops, on average, that come from this set")
    size: Side | None = Field(None, description="short side of its frames at scale 1; none: as `augment.size` says")

    @property
    def thousandths(self) -> int:
        """The share, as finely as it is kept."""
        return round(self.share * 1000)

    @model_validator(mode="after")
    def _gives_labels_only(self) -> Also:
        if self.data.unlabelled:
            raise ValueError("data.unlabelled has no meaning here: unlabelled frames come from the main `data` alone")
        return self


class LightModel(Section):
    """A timm encoder and a feature pyramid."""

    family: Literal["light"] = "light"
    encoder: str = Field("tf_efficientnet_lite0", description="any timm model with feature maps")
    channels: Width = Field(128, description="width of the feature pyramid")
    dropout: Fraction = Field(0.1, description="on the decoder's last features")
    drop_path: Fraction = Field(0.0, description="stochastic depth of the encoder")
    pretrained: str = Field("imagenet", description="`imagenet`, `none`, or a file of encoder weights")
    frozen_norm: bool = Field(False, description="keep the encoder's batch-norm statistics as they were loaded")


class MmsegModel(Section):
    """A network of mmsegmentation that is trained already, read out as it is: the extra `mmseg`.

    A config that ends in .py is a program, which mmengine runs to read it: name only one that you trust. A config that
    was dumped as .yaml or .json runs nothing.
    """

    family: Literal["mmseg"]
    config: str = Field(description="config file, or the name of one that comes with mmsegmentation")
    checkpoint: str = Field(description="file of the weights that were trained with it")


class Adapter(Section):
    """Sizes of a ViT-Adapter; what is left out is the backbone's own."""

    stem: Width | None = Field(None, description="channels of its first convolutions")
    interactions: tuple[tuple[int, int], ...] | None = Field(
        None, description="first and last block, from 0, of each of the four interactions"
    )
    heads: Layers | None = None
    points: Layers | None = None
    deform_ratio: float | None = Field(None, gt=0)
    ffn_ratio: float | None = Field(None, gt=0)
    extra_extractors: int | None = Field(None, ge=0)
    gamma: float | None = None


class Sizes(Section):
    """Sizes of a backbone; what is left out is the named backbone's own."""

    width: Width | None = None
    depth: Layers | None = Field(None, description="blocks of a plain transformer")
    depths: tuple[Layers, ...] | None = Field(None, description="blocks of the four stages of a Swin")
    heads: Layers | tuple[Layers, ...] | None = Field(None, description="one number, or one a stage of a Swin")
    hidden: Width | None = Field(None, description="width inside a plain transformer's feed-forward networks")
    mlp_ratio: float | None = Field(None, gt=0, description="the same of a Swin, in widths of the stage")
    window: Width | None = Field(None, description="side of a Swin's windows, in cells")
    gamma: float | None = Field(None, description="layer scale at the start of training")
    taps: tuple[int, int, int, int] | None = Field(None, description="blocks, from 0, that a BEiT's pyramid is over")
    adapter: Adapter | None = None


class Head(Section):
    """Sizes of a Mask2Former head; what is left out is the layout's."""

    layout: Literal["base", "wide", "small"] | None = Field(
        None, description="detectron2's, ViT-Adapter's, one for small backbones; none: the one usual with the backbone"
    )
    channels: Width | None = None
    heads: Layers | None = None
    points: Layers | None = None
    queries: Width | None = None
    encoder_layers: Layers | None = None
    encoder_width: Width | None = None
    decoder_layers: Layers | None = None
    decoder_width: Width | None = None
    decoder_heads: Layers | None = Field(None, description="of the mask decoder; none: as many as `heads`")


class Mask2FormerModel(Section):
    """Mask2Former on a Swin, a BEiT, or a ViT-Adapter over BEiT or ONE-PEACE: `vss model ls`."""

    family: Literal["mask2former"]
    backbone: str = Field("vit_adapter_l", description="`vss model ls` lists them")
    sizes: Sizes | None = Field(None, description="where they are not those of the backbone's name")
    head: Head | None = None
    crop: Size | None = Field(
        None, description="images that a plain transformer is made for, multiples of 32; none: the backbone's own"
    )
    drop_path: Fraction | None = Field(None, description="stochastic depth of the last block; none: the backbone's own")
    readout: Literal["grid", "full"] = Field(
        "grid", description="add up masks at stride 4, or resize them to the image first as detectron2 does"
    )
    frozen: bool = Field(False, description="the pre-trained trunk does not learn")
    checkpointing: bool = Field(False, description="compute activations again on the way back: slower, far less memory")
    compile: bool = Field(False, description="torch.compile; the first steps take minutes")
    pretrained: str = Field(
        "none",
        description="`none`, or a file: BEiT's, ONE-PEACE's or Swin's pre-training, an official or a vss checkpoint",
    )


def family_of(model: object) -> str:
    """The family that a `model` section says, or is; `light` where it says none."""
    if isinstance(model, dict):
        return str(model.get("family", "light"))
    return str(getattr(model, "family", "light"))


# Another family is another section with a `family` of its own, and another line here.
Model = Annotated[
    Annotated[LightModel, Tag("light")]
    | Annotated[Mask2FormerModel, Tag("mask2former")]
    | Annotated[MmsegModel, Tag("mmseg")],
    Discriminator(family_of),
]


class Augment(Section):
    """Training augmentation, as in the paper."""

    scale: tuple[Factor, Factor] = Field((0.5, 2.0), description="random resize, uniform in this range")
    size: Side | None = Field(None, description="short side at scale 1; none: the frame's own")
    crop: Size = (480, 480)
    single_class_limit: Fraction = Field(0.75, description="crops where one class covers more are drawn again")
    flip: Fraction = 0.5
    brightness: float = Field(0.125, ge=0)
    contrast: float = Field(0.5, ge=0)
    saturation: float = Field(0.5, ge=0)
    hue: float = Field(0.05, ge=0, le=0.5)
    colour_jitter: Fraction = Field(0.8, description="how often colours are changed at all")

    @model_validator(mode="after")
    def _scales_are_a_range(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale should be a range, the lower end first, not {list(self.scale)}")
        return self


class RareClasses(Section):
    """Crops chosen by class, rare ones first, as DAFormer does (Hoyer et al. 2022)."""

    temperature: float = Field(0.01, ge=0.001, description="the higher, the more alike all classes are")
    share: float = Field(1.0, gt=0, le=1, description="of the labelled crops that are chosen so")
    pixels: Positive = Field(
        3000, description="of a class that a frame must hold to be chosen for it; its crop holds half as many"
    )


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
        "published, or left out of mask losses and matching, for labels that are partial; one that scores pixels "
        "always leaves them out",
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


class Plan(Section):
    """A test-time augmentation plan written out."""

    scales: tuple[Factor, ...] = (1.0,)
    flip: bool = False


class Predict(Section):
    """How the network is read out."""

    size: Side | None = Field(None, description="short side at scale 1; none: the frame's own")
    window: Size | None = Field(None, description="sliding window; none: whole frames")
    step: Size | None = Field(None, description="step of the window; none: two thirds of it")
    tta: Literal["paper", "flip", "none"] | Plan = Field("paper", description="plan used with --tta")
    precision: Literal["32", "bf16", "16"] = "32"
    missing: Literal["spread", "normalise"] = Field(
        "spread",
        description="of mask classifiers, what a pixel's scores lack to 1: spread evenly over the classes, or given to "
        "them in proportion, as versions before did",
    )


class Store(Section):
    """What is kept of a prediction. `specs` of the format: docs/store.md."""

    grid: Literal[1, 2, 4] = Field(1, description="stride of the score grid")
    kept: Annotated[int, Field(ge=1, le=254)] = Field(
        6, description="classes kept per pixel, at most all; compact has 3 at most, fine 8 at least"
    )
    keep: Keep = Field(
        "top", description="the most likely classes, more of them, fewer and coarser ones, or all logits as float16"
    )
    drop: float | None = Field(
        None, ge=0, lt=1, description="classes less likely than this are not listed; none: 0.008, or as `keep` says"
    )


class Recipe(Section):
    """One training stage and how its network predicts; of a network that is trained already, how it predicts."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=SHORT)]
    seed: Seed = 0
    data: Data = Data()
    also: tuple[Also, ...] = Field((), description="further labelled data sets, each with its share of the crops")
    model: Model = LightModel()
    augment: Augment = Augment()
    train: Train = Train()
    unlabelled: Unlabelled | None = None
    predict: Predict = Predict()
    store: Store = Store()

    @property
    def validated(self) -> bool:
        """Whether training is scored: never without being asked on a split that it learns from."""
        return self.data.val not in self.data.train_splits or self.train.validate_every > 0

    @model_validator(mode="after")
    def _shares_leave_some(self) -> Recipe:
        if sum(other.thousandths for other in self.also) > 999:
            raise ValueError(
                f"also: the shares {', '.join(f'{other.share:g}' for other in self.also)} leave nothing to `data`, "
                "which takes the rest: they must sum to less than 1"
            )
        names = [self.data.name, *(other.data.name for other in self.also)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"also: more than one data set has data.name {twice[0]!r}; give each its own")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Recipe:
        if self.train.warmup >= self.train.steps:
            raise ValueError(f"train.warmup ({self.train.warmup}) must be less than train.steps ({self.train.steps})")
        return self
