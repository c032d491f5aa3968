"""What a family of networks says of itself: the base of all configurations, which recipes, checkpoints and builders
read alike. No torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from vsscli.errors import VssError
from vsscli.section import Section, Size
from vsscli.talk import SILENCE, Talk

if TYPE_CHECKING:
    from vsscli.data.classes import ClassTable
    from vsscli.models.checkpoints import Checkpoint
    from vsscli.models.network import Network


class ScoreKind(StrEnum):
    """How the values of a score map are to be read."""

    LOGITS = "logits"
    PROBABILITIES = "probabilities"
    MASK_SCORES = "mask_scores"


@dataclass(frozen=True)
class NamedNetwork:
    """A network that has a name.

    Parameters
    ----------
    name
        What `vss model` calls it.
    about
        One line.
    size
        Height and width of the images that it was published with.
    values
        Its configuration: ``family`` and what is other than that family's defaults.
    checkpoint
        Which file `vss convert` makes one of; empty where there is none.
    publisher
        Where the owners of that file publish it.
    pretraining, pretraining_publisher
        The same of the file that its trunk may start from (``model.pretrained``).
    """

    name: str
    about: str
    size: tuple[int, int]
    values: Mapping[str, Any]
    checkpoint: str = ""
    publisher: str = ""
    pretraining: str = ""
    pretraining_publisher: str = ""

    @property
    def readout(self) -> str:
        """How it was published to be read out (``model.readout``); empty where there is but one way."""
        return str(self.values.get("readout", ""))

    def config(self, **changes: Any) -> dict[str, Any]:
        """Its configuration, as `vsscli.models.build.build_network` takes it."""
        return {**self.values, **changes}


class NetworkConfig(Section):
    """A network, but for its classes and weights: the ``model`` section of a recipe, and what a checkpoint keeps of it.

    A family is a subclass with a literal ``family``, in a folder of its own, and a line in `vsscli.models.catalogue`.
    Everything that the rest of the house needs to know of a family it asks here.

    Attributes
    ----------
    listed
        Those of the family that have a name.
    trains
        Whether vss trains it. One that it does not train names its weights, and `read` reads them.
    masks
        Whether it may be a classifier of masks, whose scores lack to 1 what no mask claims.
    outlined
        Whether it can be built without memory, to see how large it is.
    named_by
        The field that names the network, which `require_known` looks up; empty where none does.
    """

    listed: ClassVar[tuple[NamedNetwork, ...]] = ()
    trains: ClassVar[bool] = True
    masks: ClassVar[bool] = False
    outlined: ClassVar[bool] = True
    named_by: ClassVar[str] = ""

    family: str

    @classmethod
    def kept(cls) -> type[NetworkConfig]:
        """What checkpoints keep of a network of the family."""
        return cls

    @property
    def scores(self) -> ScoreKind:
        """The kind of its scores."""
        return ScoreKind.MASK_SCORES if self.masks else ScoreKind.LOGITS

    @property
    def fixed_crop(self) -> Size | None:
        """Height and width of the only images that it takes; None where it takes any."""
        return None

    @property
    def recomputes(self) -> bool:
        """Whether training runs it forward a second time, to spare memory."""
        return False

    @property
    def compiles(self) -> bool:
        """Whether torch compiles it."""
        return False

    @property
    def random(self) -> bool:
        """Whether it names no weights to start from."""
        return False

    @property
    def weights(self) -> tuple[str, str] | None:
        """The field that names a file of weights, and the file; None where there is none."""
        return None

    @property
    def published(self) -> str:
        """Which file it may start from, and where its owners publish it; empty where that is not known."""
        return ""

    @property
    def unseen(self) -> str:
        """What can't be looked at before the network is built, in words; empty where nothing."""
        return ""

    def reading(self) -> dict[str, Any]:
        """What decides how tensors are read where no shape tells: two networks that differ in it share no weights."""
        return {}

    def require_known(self) -> None:
        """Refuse a name that no network has."""

    def require_sound(self) -> None:
        """Refuse values that do not go together, or that a recipe may say and no network can have."""

    def bare(self) -> NetworkConfig:
        """The same network without what changes none of its shapes: first weights, compiling."""
        return self

    def build(self, num_classes: int, load_pretrained: bool, talk: Talk = SILENCE) -> Network:
        """Build the network; see `vsscli.models.build.build_network`, which looks at everything first."""
        raise NotImplementedError

    def read(self, table: Callable[[], ClassTable], talk: Talk = SILENCE) -> Checkpoint:
        """Read a network that is trained already; ``table`` gives the classes where its files do not name them."""
        raise NotImplementedError


def refusal(error: ValidationError, what: str) -> VssError:
    """The first thing that is wrong with the values of ``what``, in words."""
    first = error.errors(include_url=False)[0]
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return VssError(f"{what} has no {field}", "mend `model` in the recipe")
    return VssError(f"{field}: {first['input']!r} of {what} is wrong: {first['msg']}", "mend `model` in the recipe")
