"""The light family: a timm encoder and a feature pyramid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from vsscli.errors import VssError
from vsscli.models.config import RANDOM, NamedNetwork, TrainableModel
from vsscli.models.encoders import licence_of, require_encoder
from vsscli.section import Fraction, Width
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.models.light.network import LightNetwork


class LightModel(TrainableModel):
    """A timm encoder and a feature pyramid."""

    named_by: ClassVar[str] = "encoder"
    fetched: ClassVar[dict[str, str]] = {"imagenet": "from a package, the hub's cache or the hub"}
    listed: ClassVar[tuple[NamedNetwork, ...]] = (
        NamedNetwork(
            "light",
            "a timm encoder (tf_efficientnet_lite0) with a feature pyramid; for CPUs",
            (480, 480),
            {"family": "light", "pretrained": "none"},
            pretraining="ImageNet weights of timm's model, downloaded automatically",
            pretraining_publisher="https://github.com/huggingface/pytorch-image-models",
            licence="apache-2.0",
        ),
    )

    family: Literal["light"] = "light"
    encoder: str = Field("tf_efficientnet_lite0", description="any timm model with feature maps")
    channels: Width = Field(128, description="width of the feature pyramid")
    dropout: Fraction = Field(0.1, description="on the decoder's last features")
    drop_path: Fraction = Field(0.0, description="stochastic depth of the encoder")
    pretrained: str = Field("imagenet", description="`imagenet`, `none`, or a file of encoder weights")
    frozen_norm: bool = Field(False, description="keep the encoder's batch-norm statistics as they were loaded")

    @property
    def weights_licence(self) -> str:
        """As timm records it for the encoder, whichever file its weights are in."""
        return RANDOM if self.random else licence_of(self.encoder)

    def reading(self) -> dict[str, Any]:
        return {"encoder": self.encoder.partition(".")[0]}

    def require_known(self) -> None:
        require_encoder(self.encoder)
        super().require_known()

    def require_sound(self) -> None:
        for field in ("dropout", "drop_path"):
            if getattr(self, field) == 1.0:
                raise VssError(f"{field}: {getattr(self, field)} is not in [0, 1)", "0.1 is usual")

    def bare(self) -> LightModel:
        return self.model_copy(update={"pretrained": "none"})

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> LightNetwork:
        from vsscli.models.light.network import build_light

        return build_light(self, num_classes, load_pretrained, talk)
