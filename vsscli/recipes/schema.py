"""What a recipe may say.

A recipe is one YAML file that a person can read from top to bottom. Unknown keys and values of the wrong type are
errors; nothing in it can name code to import, but for one key: `model.config` of the family `mmseg` may name a .py
config of mmsegmentation, which is a program.

Every room declares its own sections; here they make one recipe.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from vsscli.data.config import Also, Augment, Data
from vsscli.names import SHORT
from vsscli.recipes.readout import Predict, Store
from vsscli.recipes.training import Train, Unlabelled
from vsscli.section import Fraction, Layers, Section, Seed, Size, Width


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
