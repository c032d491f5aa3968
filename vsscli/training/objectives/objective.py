"""The interface of a term of the loss. A new one is a file here, and a line in `objectives.table`."""

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
    """What an objective is set up from: the recipe; the network on its device; the meaning of a prediction store's
    values, if unlabelled crops come with them; and the listener for messages."""

    recipe: Recipe
    network: Network
    stored: StoreMeaning | None
    talk: Talk


@dataclass(frozen=True)
class Said:
    """The student's outputs for the labelled and unlabelled crops of a view; None without unlabelled crops.

    Weights of unlabelled terms are multiplied by ``layers``, so that they are relative to one layer of the supervised
    loss. ``plan`` is what the objective drew before the student ran, ``anchors`` (A, M, D) float32 are the projected
    features of the cells in it.
    """

    view: StepView
    labelled: Outputs
    unlabelled: Outputs | None
    layers: int
    plan: Any = None
    anchors: Tensor | None = None


@dataclass(frozen=True)
class Term:
    """The result of an objective in a step: its loss, the weight of the loss, and other figures for the journal."""

    loss: Tensor
    weight: float | Tensor = 1.0
    figures: Mapping[str, Tensor] = field(default_factory=dict)


class Memory(Protocol):
    """State that training continues from, kept in checkpoints."""

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


class Objective(ABC):
    """A term of the loss.

    Attributes
    ----------
    name
        Its name in the journal: ``loss_<name>``, ``gradient_<name>``.
    memory, kept_as
        Its state from step to step, and the name under which a checkpoint keeps it.
    asks_teacher
        Whether it needs a moving average of the student to predict all crops of a step.
    head
        A projection trained beside the network, for an objective on features; one objective at most may have one.
    """

    name: ClassVar[str]
    kept_as: ClassVar[str] = ""
    asks_teacher: ClassVar[bool] = False
    memory: Memory | None = None
    head: nn.Module | None = None

    @classmethod
    @abstractmethod
    def of(cls, setup: Setup) -> Objective | None:
        """Set up from a recipe; None if the recipe has no such term. Refuse settings that would teach nothing."""

    def plan(self, view: StepView) -> Any:
        """Draw what must be known before the student runs; None if nothing. The ``anchors`` (A, M) of a plan are the
        cells whose projected features the student returns."""
        return None

    @abstractmethod
    def term(self, said: Said) -> Term:
        """The loss of the student's outputs."""
