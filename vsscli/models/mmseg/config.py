"""The mmseg family: trained networks of mmsegmentation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from vsscli.errors import VssError
from vsscli.models.config import NetworkConfig, ScoreKind, TrainedModel
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.data.classes import ClassTable
    from vsscli.models.checkpoints import Checkpoint
    from vsscli.models.mmseg.network import MmsegNetwork


class MmsegModel(TrainedModel):
    """A trained network of mmsegmentation, used as it is: the extra `mmseg`.

    A config that ends in .py is a program, which mmengine runs to read it: name only one that you trust. A config that
    was dumped as .yaml or .json runs nothing.
    """

    masks: ClassVar[bool] = True

    family: Literal["mmseg"]
    config: str = Field(description="config file, or the name of one that comes with mmsegmentation")
    checkpoint: str = Field(description="file of the weights that were trained with it")

    @classmethod
    def kept(cls) -> type[NetworkConfig]:
        return MmsegConfig

    @property
    def scores(self) -> None:
        return None

    @property
    def weights(self) -> tuple[str, str] | None:
        return "checkpoint", self.checkpoint

    @property
    def unseen(self) -> str:
        return f"model.config {self.config}: it is read when the network is built"

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> MmsegNetwork:
        raise VssError(
            f"the network of config {self.config} can't be built before its files are read",
            "name the recipe as the model: vss predict --model RECIPE.yaml, vss pseudo --models RECIPE.yaml",
        )

    def read(self, table: Callable[[], ClassTable], talk: Talk = SILENCE) -> Checkpoint:
        from vsscli.models.mmseg.files import read_mmseg

        return read_mmseg(self.config, self.checkpoint, table, talk)


class MmsegConfig(NetworkConfig):
    """What a checkpoint keeps of an `MmsegModel`: the ``model`` section of mmsegmentation's config in plain values,
    each ``type`` a registered name."""

    trains: ClassVar[bool] = False
    masks: ClassVar[bool] = True
    outlined: ClassVar[bool] = False

    family: Literal["mmseg"]
    model: dict[str, Any]

    @property
    def scores(self) -> ScoreKind:
        from vsscli.models.mmseg.network import kind_of

        return kind_of(self.model)

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> MmsegNetwork:
        from vsscli.models.mmseg.network import build_mmseg

        return build_mmseg(self.model, num_classes)
