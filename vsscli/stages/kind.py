"""What a kind of stage is: one object that answers all that is asked of a stage, beside its declaration in YAML.

What is heavy (torch, SciPy) is imported where it is used: values of a pipeline are checked without.
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
    """Frames that a stage reads: what its key calls them, which they are, and whether their masks are read too."""

    called: str
    data: Data
    split: str
    masks: bool


@dataclass(frozen=True)
class StageCost:
    """What a stage costs: images through networks, their operations, bytes of its store; None where it can't be told.

    ``work`` says what is done, "400 steps x 8 crops of 480x480"; ``notes`` what was assumed or is not known, and why.
    """

    work: str = ""
    passes: int | None = 0
    flops: float | None = 0.0
    stored: float | None = 0.0
    notes: tuple[str, ...] = ()


class Kind(ABC, Generic[S]):
    """A stage of a job, by its kind. A new kind says all that is abstract here, and stands in `stages.kinds.KINDS`."""

    together: ClassVar[bool] = False
    """Whether several processes share its work, or wait for one another in it."""

    leaves_store: ClassVar[bool] = False
    """Whether its result is a store."""

    soon_done: ClassVar[bool] = False
    """Whether it is rather done again than taken for done under a key of an earlier version."""

    def __init__(self, job: Job, name: str) -> None:
        self.job, self.name = job, name
        self.stage = cast("S", job.stage(name))
        self.folder = job.folder(name)

    @property
    def recipe(self) -> Recipe:
        """Of a training stage its own, of any other that of the first network it goes back to."""
        return self.job.recipe(self.name)

    @property
    def split(self) -> str:
        """The split that its predictions are of."""
        return self.job.kind(self.stage.takes()[0]).split

    @property
    def context(self) -> Context:
        """Where its function works: with the folder that it reads its data set from."""
        return replace(self.job.context, data_root=self.job.place(self.recipe.data))

    # What decides its result

    @abstractmethod
    def version(self) -> int:
        """Raised when a change of the code gives it another result from the same key."""

    @abstractmethod
    def reads(self) -> list[Reads]:
        """The frames that it reads."""

    def section(self) -> Parts:
        """What its section of the pipeline decides."""
        return self.stage.model_dump(mode="json", exclude={"do", "optional"})

    def own_parts(self, frames: Frames) -> Parts:
        """Parts of its key that no other kind has."""
        return {}

    def goes_on(self, before: Parts, key: Parts) -> bool:
        """Whether it may go on with what it made under another key: not where nothing made tells the two apart."""
        return all(before.get(part) == key.get(part) for part in ("frames", "files", "version"))

    # What it does and leaves

    @abstractmethod
    def perform(self, results: Mapping[str, Result], begin: Begin) -> Result:
        """Run it, with what the stages left that it takes; ``begin`` hears of every store that it will write.

        What was cut off goes on; a store in its way that holds something else stops it nowhere.
        """

    @abstractmethod
    def fault(self, result: Result) -> str:
        """What is wrong with a recorded result, in words; empty when it is there and whole."""

    def is_begun(self) -> bool:
        """Whether a part of its work lies in its folder."""
        return False

    def is_other(self, results: Mapping[str, Result]) -> bool:
        """Whether something else than its work lies in its folder."""
        return False

    def trim(self, place: Path, frames: Frames) -> None:
        """Take out of a store that it will go on with what does not belong there any more."""

    def discard(self, stores: Iterable[Path]) -> None:
        """Remove what it left, its own files or some stores, so that it is made from nothing."""

    def table(self, result: Result) -> ScoreTable | None:
        """The table that its result adds to the summary."""
        return None

    # What is asked before anything runs

    @abstractmethod
    def cost(self, frames: Frames) -> StageCost:
        """What it costs when nothing of it is there."""

    @classmethod
    def checks(cls, stage: S) -> Iterator[tuple[Key, Callable[[], object]]]:
        """Calls that refuse values of a section which its function would refuse hours later, each with their key."""
        return iter(())

    def lacks(self) -> Iterator[str]:
        """What it needs beside frames and is not there."""
        return iter(())

    def leaks(self) -> Iterator[str]:
        """Splits that it scores and that a network behind the prediction has learned from, or that are held out."""
        return iter(())


class StoreKind(Kind[S]):
    """A kind of stage that leaves a store."""

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
    """What is wrong with a result whose content has a fingerprint."""
    if not result.path.exists():
        return f"result {result.path} is gone"
    try:
        there = fingerprint(result.path)
    except (VssError, OSError) as error:
        return f"result {result.path} is damaged: {error}"
    return "" if there == result.fingerprint else f"result {result.path} is not the one that was recorded"
