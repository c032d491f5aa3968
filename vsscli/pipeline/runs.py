"""The training runs of a workspace: what each is, how far it came, and its figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsscli.errors import VssError
from vsscli.models.checkpoints import load_checkpoint
from vsscli.structured import json_or_none
from vsscli.training.journal import JOURNAL, read_journal

SCORES = ("miou", "wiou", "vc8", "vc16")

Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class TrainingRun:
    """A training run in a workspace.

    Parameters
    ----------
    name
        Its folder, from the workspace down: ``student``, or ``demo/student`` for a stage of a pipeline.
    path
        The folder.
    changed
        When its journal was last written, in seconds since 1970.
    step, steps
        The last step in its journal, and the number of steps of its recipe; `None` if there is no checkpoint yet.
    curves
        Figures by name, each at the steps at which they were written.
    recipe
        The recipe that its checkpoint carries; empty if there is none yet.
    licence
        Of the weights that it began from (`vsscli.models.checkpoints.Checkpoint`); empty if there is no checkpoint yet.
    seconds
        How long it took, if it is a stage of a pipeline that ran without interruption.
    """

    name: str
    path: Path
    changed: float
    step: int
    steps: int | None
    curves: dict[str, Curve] = field(repr=False)
    recipe: dict[str, Any] = field(repr=False)
    licence: str = ""
    seconds: float | None = None

    @property
    def figures(self) -> dict[str, float]:
        """The last value of each figure; scores come first."""
        last = {name: curve[-1][1] for name, curve in self.curves.items()}
        first = {name: last[name] for name in SCORES if name in last}
        return first | last

    @property
    def status(self) -> str:
        """``done`` if the last step was reached, else ``unfinished``."""
        return "done" if self.steps is not None and self.step >= self.steps else "unfinished"

    def to_json(self) -> dict[str, Any]:
        """Plain values for one JSON object."""
        plain = {"name": self.name, "path": str(self.path), "status": self.status, "step": self.step}
        return {
            **plain,
            "steps": self.steps,
            "seconds": self.seconds,
            "recipe": self.recipe.get("name"),
            "licence": self.licence or None,
            "figures": self.figures,
        }


def find_runs(workspace: Path) -> list[TrainingRun]:
    """The training runs in a workspace, newest first."""
    journals = [*workspace.glob(f"*/{JOURNAL}"), *workspace.glob(f"*/*/{JOURNAL}")]
    runs = [_read(workspace, journal) for journal in journals]
    return sorted(runs, key=lambda run: (-run.changed, run.name))


def find_run(workspace: Path, name: str) -> TrainingRun:
    """A run by its name, or by the last part of that if no other run's ends so; or by its folder.

    Raises
    ------
    VssError
        There is no such run, or there are several.
    """
    if (Path(name) / JOURNAL).is_file():
        return _read(workspace, Path(name) / JOURNAL)
    runs = find_runs(workspace)
    found = [run for run in runs if run.name == name] or [run for run in runs if run.path.name == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(run.name for run in (found or runs)[:8])
    if found:
        raise VssError(f"{len(found)} runs in {workspace} are called {name!r}", f"name one: {names}")
    raise VssError(f"no run {name!r} in {workspace}", f"there are {names}" if names else "train one: vss train RECIPE")


def differing(runs: Sequence[TrainingRun]) -> list[tuple[str, list[Any]]]:
    """The keys of recipes in which runs differ, each with their values; `None` where a recipe lacks the key."""
    return [(".".join(path), values) for path, values in _differing([run.recipe for run in runs]) if path != ("name",)]


def _differing(values: list[Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[Any]]]:
    sections = [{} if value is None else value for value in values]
    if all(isinstance(section, dict) for section in sections) and any(sections):
        for key in dict.fromkeys(key for section in sections for key in section):
            yield from _differing([section.get(key) for section in sections], (*path, key))
    elif any(value != values[0] for value in values):
        yield path, values


def curves_in(journal: Path) -> dict[str, Curve]:
    """Figures in a journal by name, each as pairs of step and value; none if there is no such file."""
    curves: dict[str, Curve] = {}
    for line in read_journal(journal):
        for name, value in line.items():
            number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
            if number and name != "step":
                curves.setdefault(name, []).append((int(line["step"]), float(value)))
    return curves


def _at(values: Any, path: Sequence[str]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _read(workspace: Path, journal: Path) -> TrainingRun:
    folder = journal.parent
    curves = curves_in(journal)
    recipe: dict[str, Any] = {}
    licence = ""
    with suppress(VssError):  # it has none yet, or of a later version: its journal can be read all the same
        checkpoint = load_checkpoint(folder / "last.pt", weights=False)
        recipe, licence = checkpoint.recipe, checkpoint.licence
    steps = _at(recipe, ("train", "steps"))
    record = json_or_none(folder / "stage.json")
    seconds = record.get("seconds") if isinstance(record, dict) else None
    name = folder.relative_to(workspace).as_posix() if folder.is_relative_to(workspace) else str(folder)
    return TrainingRun(
        name,
        folder,
        journal.stat().st_mtime,
        max((curve[-1][0] for curve in curves.values()), default=0),
        steps if isinstance(steps, int) else None,
        curves,
        recipe,
        licence,
        float(seconds) if isinstance(seconds, int | float) else None,
    )
