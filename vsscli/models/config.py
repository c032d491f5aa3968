"""The base of all network configurations, which recipes, checkpoints and `build_network` share. No torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, ValidationError

from vsscli.errors import VssError
from vsscli.section import Section, Size
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.data.classes import ClassTable
    from vsscli.models.checkpoints import Checkpoint
    from vsscli.models.network import Network


class ScoreKind(StrEnum):
    """What the values of a score map are."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    MASK_SCORES = "mask_scores"


UNRECORDED = "unrecorded"
RANDOM = "none (random weights)"
"""In place of a licence: nobody's."""


@dataclass(frozen=True)
class NamedNetwork:
    """A network with a name.

    Parameters
    ----------
    name
        Its name for `vss model`.
    about
        One line.
    size
        Height and width of the images that it was published for.
    values
        Its configuration: ``family``, and the fields that differ from the family's defaults.
    checkpoint
        The published file that `vss convert` turns into one; empty if there is none.
    publisher
        Where its authors publish that file.
    pretraining, pretraining_publisher
        The file that its trunk may start from (``model.pretrained``), and where its authors publish it.
    licence, checkpoint_licence
        Of the weights that its trunk starts from, and of that published file; empty if not recorded.
    """

    name: str
    about: str
    size: tuple[int, int]
    values: Mapping[str, Any]
    checkpoint: str = ""
    publisher: str = ""
    pretraining: str = ""
    pretraining_publisher: str = ""
    licence: str = ""
    checkpoint_licence: str = ""

    @property
    def readout(self) -> str:
        """The read-out that it was published with (``model.readout``); empty if it has only one."""
        return str(self.values.get("readout", ""))

    def config(self, **changes: Any) -> dict[str, Any]:
        """Its configuration, as `vsscli.models.build.build_network` takes it."""
        return {**self.values, **changes}


class NetworkConfig(Section, ABC):
    """A network without its classes and weights: the ``model`` section of a recipe, which a checkpoint keeps too.

    A family is a subclass with a literal ``family``, in its own folder, and a line in `vsscli.models.catalogue`. The
    rest of the package asks this class everything that depends on the family.

    Attributes
    ----------
    listed
        The family's named networks.
    trains
        Whether vss trains it; if not, it is a `TrainedModel`, or what a checkpoint keeps of one.
    masks
        Whether it may be a mask classifier, whose scores sum to less than 1 where no mask claims a pixel.
    outlined
        Whether it can be built on the meta device, to count its parameters.
    named_by
        The field that names the network, which `require_known` looks up; empty if no field does.
    """

    listed: ClassVar[tuple[NamedNetwork, ...]] = ()
    trains: ClassVar[bool] = True
    masks: ClassVar[bool] = False
    outlined: ClassVar[bool] = True
    named_by: ClassVar[str] = ""

    family: str

    @classmethod
    def kept(cls) -> type[NetworkConfig]:
        """The configuration that checkpoints keep of the family's networks."""
        return cls

    def kept_values(self) -> dict[str, Any]:
        """Its plain values as checkpoints keep them: without what only a recipe demands."""
        return self.model_dump(mode="json", exclude={"licence"})

    @property
    def scores(self) -> ScoreKind | None:
        """The kind of its scores; `None` until the files that it names are read."""
        return ScoreKind.MASK_SCORES if self.masks else ScoreKind.LOGITS

    @property
    def frames(self) -> int:
        """Consecutive frames that it learns from together, a clip; 1 if it sees images."""
        return 1

    @property
    def fixed_crop(self) -> Size | None:
        """Height and width of the only images that it takes; None if it takes any."""
        return None

    @property
    def sees(self) -> dict[str, Any] | None:
        """What decides, beside its weights, what a frozen trunk makes of images, and the size of scores: networks over
        one trunk that agree in it predict together. None if a network can't share its trunk in prediction."""
        return None

    @property
    def recomputes(self) -> bool:
        """Whether training recomputes activations, to save memory."""
        return False

    @property
    def compiles(self) -> bool:
        """Whether torch compiles it."""
        return False

    @property
    def random(self) -> bool:
        """Whether it starts from random weights."""
        return False

    @property
    def weights(self) -> tuple[str, str] | None:
        """The field that names a file of weights, and the file; None if no field does."""
        return None

    @property
    def published(self) -> str:
        """Which file it may start from, and where its authors publish it; empty if unknown."""
        return ""

    @property
    def weights_licence(self) -> str:
        """The licence of the weights that it starts from, as their publisher records it, `RANDOM` or `UNRECORDED`."""
        return RANDOM if self.random else UNRECORDED

    @property
    def unseen(self) -> str:
        """What can't be checked before the network is built, as text; empty if everything can."""
        return ""

    def reading(self) -> dict[str, Any]:
        """What decides the meaning of tensors beyond their shapes: networks that differ in it can't share weights."""
        return {}

    def require_known(self) -> None:
        """Refuse an unknown name."""

    def require_licence(self, licence: str, weights: str) -> None:
        """Refuse to start from ``weights`` under a licence that the recipe does not take."""

    def require_sound(self) -> None:
        """Refuse values that contradict each other, or that are valid in a recipe but impossible for a network."""

    def bare(self) -> NetworkConfig:
        """The same network without anything that leaves its shapes alone: initial weights, compiling."""
        return self

    @abstractmethod
    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Network:
        """Build the network; call `vsscli.models.build.build_network`, which checks everything first."""


class TrainableModel(NetworkConfig):
    """A family that vss trains, from weights that its field ``pretrained`` names, whose licence a recipe may limit.

    Attributes
    ----------
    fetched
        Values of ``pretrained`` that name no file: where these weights are taken from when training starts.
    """

    fetched: ClassVar[Mapping[str, str]] = {}

    if TYPE_CHECKING:
        pretrained: str  # each family says what it may be, and the default

    licence: tuple[str, ...] | None = Field(
        None, description="licences that the weights it starts from may be under, apache-2.0 for example; none: any"
    )

    @property
    def random(self) -> bool:
        return self.pretrained == "none"

    @property
    def weights(self) -> tuple[str, str] | None:
        return None if self.random or self.pretrained in self.fetched else ("pretrained", self.pretrained)

    @property
    def unseen(self) -> str:
        where = self.fetched.get(self.pretrained)
        return f"model.pretrained {self.pretrained}: {where} when training starts" if where else ""

    def require_known(self) -> None:
        if self.licence is not None and self.weights is None:  # what a file holds is known once it is read
            self.require_licence(self.weights_licence, f"the weights of {getattr(self, self.named_by)}")

    def require_licence(self, licence: str, weights: str) -> None:
        if self.licence is not None and licence not in (*self.licence, RANDOM):
            under = "a licence that nobody recorded" if licence == UNRECORDED else licence
            raise VssError(
                f"model.licence: {weights} are under {under}, the recipe takes {', '.join(self.licence) or 'none'}",
                f"start from other weights, or add {licence} to model.licence",
            )


class LargeModel(TrainableModel):
    """A family whose networks are large: they may recompute activations, and be compiled."""

    checkpointing: bool = Field(
        False, description="recompute activations in the backward pass: slower, far less memory"
    )
    compile: bool = Field(False, description="torch.compile; the first steps take minutes")

    @property
    def recomputes(self) -> bool:
        return self.checkpointing

    @property
    def compiles(self) -> bool:
        return self.compile


class TrainedModel(NetworkConfig):
    """The ``model`` section of a family that vss does not train: it names files of trained weights."""

    trains: ClassVar[bool] = False

    @abstractmethod
    def read(self, table: Callable[[], ClassTable], talk: Talk = SILENCE) -> Checkpoint:
        """Read the files; ``table`` gives the classes if they do not name them."""


def config_error(error: ValidationError, what: str) -> VssError:
    """The first fault in the values of ``what``."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return VssError(f"{what} has no {field}", "correct `model` in the recipe")
    return VssError(
        f"{field}: {first['input']!r} of {what} is invalid: {first['msg']}", "correct `model` in the recipe"
    )
