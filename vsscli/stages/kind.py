"""The base class of kinds of stages: one object answers everything about a stage, beside its declaration in YAML.

Heavy modules (torch, SciPy) are imported where they are used: values of a pipeline are checked without them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar, cast

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.pipeline.workspace import Begin
from vsscli.recipes.pipeline import Stage
from vsscli.recipes.text import Key
from vsscli.stages.left import discard_store, store_fingerprint
from vsscli.stages.record import Parts, Result

if TYPE_CHECKING:
    from vsscli.data.config import Data
    from vsscli.recipes.schema import Recipe
    from vsscli.stages.job import Job
    from vsscli.stages.key import Frames
    from vsscli.stages.scores import ScoreTable

S = TypeVar("S", bound=Stage)


class Reads(NamedTuple):
    """Frames that a stage reads: their name in its key, data set and split, and whether masks are read too."""

    called: str
    data: Data
    split: str
    masks: bool


@dataclass(frozen=True)
class StageCost:
    """The cost of a stage: images through networks, their operations, bytes of its store; `None` if unknown.

    ``work`` describes it, as in "400 steps x 8 crops of 480x480"; ``notes`` say what was assumed or is unknown.
    """

    work: str = ""
    passes: int | None = 0
    flops: float | None = 0.0
    stored: float | None = 0.0
    notes: tuple[str, ...] = ()


class Kind(ABC, Generic[S]):
    """A stage of a job, by its kind. A new kind implements the abstract methods, and is listed in `KINDS`."""

    leaves_store: ClassVar[bool] = False
    """Whether its result is a store."""

    soon_done: ClassVar[bool] = False
    """Whether it is repeated rather than taken as done under a key of an earlier version."""

    def __init__(self, job: Job, name: str) -> None:
        self.job, self.name = job, name
        self.stage = cast("S", job.stage(name))
        self.folder = job.folder(name)

    @property
    def recipe(self) -> Recipe:
        """The recipe of a training stage; for other stages, that of the first network upstream."""
        return self.job.recipe(self.name)

    @property
    def split(self) -> str:
        """The split of its predictions."""
        return self.job.kind(self.stage.takes()[0]).split

    @property
    def context(self) -> Context:
        """The context of its work, with the folder of its data set."""
        return replace(self.job.context, data_root=self.job.place(self.recipe.data))

    @property
    def together(self) -> bool:
        """Whether several processes share its work, or wait for each other in it."""
        return False

    # What decides its result

    @abstractmethod
    def version(self) -> int:
        """A number that is raised when a change of the code gives another result for the same key."""

    @abstractmethod
    def reads(self) -> list[Reads]:
        """The frames that it reads."""

    def section(self) -> Parts:
        """The part of its key from its section of the pipeline."""
        return self.stage.model_dump(mode="json", exclude={"do", "optional"})

    def own_parts(self, frames: Frames) -> Parts:
        """Parts of its key that no other kind has."""
        return {}

    def goes_on(self, before: Parts, key: Parts) -> bool:
        """Whether it may continue work that was made under another key: only if the work itself shows what differs."""
        return all(before.get(part) == key.get(part) for part in ("frames", "files", "version"))

    # What it does and leaves

    @abstractmethod
    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        """Run it on the results that it takes; ``begin`` is called for every store before it is written.

        Interrupted work is continued; a different store in its place does not stop it.
        """

    @abstractmethod
    def fault(self, result: Result) -> str:
        """What is wrong with a recorded result, in words; empty if it exists and is intact."""

    def is_begun(self) -> bool:
        """Whether its folder contains part of its work."""
        return False

    def is_other(self, results: Mapping[str, Result]) -> bool:
        """Whether its folder contains something other than its work."""
        return False

    def trim(self, place: Path, frames: Frames) -> None:
        """Remove outdated parts of a store that it will continue."""

    def discard(self, stores: Iterable[Path]) -> None:
        """Remove its earlier result, files or stores, so that it starts from nothing."""

    def table(self, result: Result) -> ScoreTable | None:
        """The table that its result adds to the summary."""
        return None

    # What is asked before anything runs

    @abstractmethod
    def cost(self, frames: Frames) -> StageCost:
        """What it costs if none of it is done."""

    @classmethod
    def checks(cls, stage: S) -> Iterator[tuple[Key, Callable[[], object]]]:
        """Calls that refuse bad values of a section, which would otherwise fail hours later, each with its key."""
        return iter(())

    def lacks(self) -> Iterator[str]:
        """What it needs besides frames and is missing."""
        return iter(())

    def leaks(self) -> Iterator[str]:
        """Splits that it scores although a network behind the prediction was trained on them, or that are held out."""
        return iter(())


class StoreKind(Kind[S]):
    """A kind of stage whose result is a store."""

    leaves_store = True

    def result(self, path: Path, facts: dict[str, Any]) -> Result:
        """A store as a stage's result."""
        return Result(path, store_fingerprint(path), facts)

    def fault(self, result: Result) -> str:
        return unlike(result, store_fingerprint)

    def discard(self, stores: Iterable[Path]) -> None:
        for store in stores:
            discard_store(self.job.workspace, store)


def unlike(result: Result, fingerprint: Callable[[Path], str]) -> str:
    """What is wrong with a result, by the fingerprint of its content; empty if nothing is."""
    if not result.path.exists():
        return f"result {result.path} is gone"
    try:
        there = fingerprint(result.path)
    except (VssError, OSError) as error:
        return f"result {result.path} is damaged: {error}"
    return "" if there == result.fingerprint else f"result {result.path} is not the one that was recorded"
