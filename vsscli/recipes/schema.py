"""The schema of recipes.

A recipe is a YAML file that a person can read from top to bottom. Unknown keys and values of the wrong type are errors.
Nothing in it can name code to import, with one exception: `model.config` of the family `mmseg` may name a .py config of
mmsegmentation, which is a program.

Every room declares its own sections; here they form a recipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Union

from pydantic import Discriminator, Field, Tag, model_validator

from vsscli.data.config import Also, Augment, Data
from vsscli.models.catalogue import FAMILIES, name_of
from vsscli.models.config import NetworkConfig
from vsscli.models.light.config import LightModel
from vsscli.names import SHORT
from vsscli.recipes.readout import Predict, StoreSection
from vsscli.recipes.training import Train, Unlabelled
from vsscli.section import Section, Seed


def family_of(model: object) -> str:
    """The family of a `model` section; `light` if it names none."""
    return str(model.get("family", "light") if isinstance(model, dict) else getattr(model, "family", "light"))


if TYPE_CHECKING:
    Model = NetworkConfig
else:
    Model = Annotated[
        Union[tuple(Annotated[family, Tag(name_of(family))] for family in FAMILIES)],  # noqa: UP007
        Discriminator(family_of),
    ]


class Recipe(Section):
    """How a network is trained and how it predicts; for a network that is already trained, only how it predicts."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=SHORT)]
    seed: Seed = 0
    data: Data = Data()
    also: tuple[Also, ...] = Field((), description="further labelled data sets, each with its share of the crops")
    model: Model = LightModel()
    augment: Augment = Augment()
    train: Train = Train()
    unlabelled: Unlabelled | None = None
    predict: Predict = Predict()
    store: StoreSection = StoreSection()

    @property
    def validated(self) -> bool:
        """Whether training is validated: on a split that is trained on only if `validate_every` asks for it."""
        return self.data.val not in self.data.train_splits or self.train.validate_every > 0

    @model_validator(mode="after")
    def _shares_leave_some(self) -> Recipe:
        if sum(other.thousandths for other in self.also) > 999:
            raise ValueError(
                f"also: the shares {', '.join(f'{other.share:g}' for other in self.also)} leave nothing to `data`: "
                "they must sum to less than 1"
            )
        names = [self.data.name, *(other.data.name for other in self.also)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"also: several data sets have data.name {twice[0]!r}; give each its own")
        return self

    @model_validator(mode="after")
    def _warm_up_ends(self) -> Recipe:
        train = self.train
        if train.warmup >= train.steps:
            raise ValueError(f"train.warmup ({train.warmup}) must be less than train.steps ({train.steps})")
        if train.encoder_warmup and train.schedule == "poly":
            raise ValueError(
                "train.encoder_warmup needs train.schedule poly_after or cosine: poly has one warm-up alone"
            )
        if train.warmup + train.encoder_warmup >= train.steps:
            raise ValueError(
                f"train.warmup ({train.warmup}) and train.encoder_warmup ({train.encoder_warmup}) must end before "
                f"train.steps ({train.steps})"
            )
        return self
