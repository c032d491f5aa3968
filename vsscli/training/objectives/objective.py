"""What a term of the loss is, whatever it learns from. A new one is a file here, and a line in `objectives.table`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from vsscli.models.network import Network
from vsscli.models.outputs import Outputs
from vsscli.recipes.schema import Recipe
from vsscli.talk import Talk
from vsscli.training.evidence import StoreMeaning
from vsscli.training.view import StepView


class Setup(NamedTuple):
    """What an objective is set up from: the recipe; the network on its device; the meaning of what a prediction store
    says of unlabelled crops, if one does; and who hears what was chosen."""

    recipe: Recipe
    network: Network
    stored: StoreMeaning | None
    talk: Talk


@dataclass(frozen=True)
class Said:
    """What the student says of a view: its outputs for labelled and unlabelled crops, None where there are no such.

    ``layers`` is what weights of unlabelled terms are multiplied by, so that they are of one layer of the supervised
    loss. ``plan`` is what the objective drew before the student ran, ``anchors`` (A, M, D) float32 are projected
    features of the cells that it asks for.
    """

    view: StepView
    labelled: Outputs
    unlabelled: Outputs | None
    layers: int
    plan: Any = None
    anchors: Tensor | None = None


@dataclass(frozen=True)
class Term:
    """What an objective comes to in a step: its loss, how much that counts, and other figures for the journal."""

    loss: Tensor
    weight: float | Tensor = 1.0
    figures: Mapping[str, Tensor] = field(default_factory=dict)


class Memory(Protocol):
    """What training goes on from, as a checkpoint keeps it."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Objective(ABC):
    """A term of the loss.

    Attributes
    ----------
    name
        What the journal calls it: ``loss_<name>``, ``gradient_<name>``.
    memory, kept_as
        What it remembers from step to step, and under which name a checkpoint keeps that.
    asks_teacher
        Whether a moving average of the student has to look at all crops of a step for it.
    head
        A projection that learns beside the network, for an objective on features.
    """

    name: ClassVar[str]
    kept_as: ClassVar[str] = ""
    asks_teacher: ClassVar[bool] = False
    memory: Memory | None = None
    head: nn.Module | None = None

    @classmethod
    @abstractmethod
    def of(cls, setup: Setup) -> Objective | None:
        """As the recipe has it; None where it has no such term. Refuses what would teach nothing."""

    def plan(self, view: StepView) -> Any:
        """Draw what has to be known before the student runs; None: nothing. The ``anchors`` (A, M) of a plan are the
        cells whose projected features the student is asked for."""
        return None

    @abstractmethod
    def term(self, said: Said) -> Term:
        """The loss of what the student said."""
