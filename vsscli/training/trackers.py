"""Where a run's figures go besides its journal: TensorBoard if it is installed, others if they are asked for.

A tracker is a class with `record` and `close`, and a line in `TRACKERS`. Trackers send to servers, so that an installed
one is not reason enough to use it. What fails in them during a training is a warning, because the journal has it all.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.inside import require_inside
from vsscli.structured import json_or_none
from vsscli.talk import Talk

PROJECT = "vss"
"""Name of the project or experiment, unless ``WANDB_PROJECT`` or ``MLFLOW_EXPERIMENT_NAME`` says another."""

NOTE = "trackers.json"
"""File in a run's folder with what trackers call the run, so that a resumed one goes on there."""

LONGEST = 500
"""Characters of a setting that MLflow is given: earlier versions refuse more."""

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Tracked:
    """A run as a tracker sees it: its folder, settings as plain values, and the step that it goes on from."""

    folder: Path
    settings: Mapping[str, Any]
    start: int

    @property
    def name(self) -> str:
        """The run's name."""
        return self.folder.name


class Tracker(Protocol):
    """Something that takes the figures of a run."""

    def record(self, step: int, figures: Numbers) -> None:
        """Take the figures of one step."""

    def close(self, *, ended: bool) -> None:
        """End the run; ``ended`` if it came to its last step."""


class TensorBoard:
    """TensorBoard, in ``board/`` of the run's folder."""

    def __init__(self, run: Tracked, known: str | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "board"
        require_inside(run.folder, folder)
        self._writer: Any = SummaryWriter(str(folder), purge_step=run.start or None)

    def record(self, step: int, figures: Numbers) -> None:
        for key, value in figures.items():
            self._writer.add_scalar(key, value, step)

    def close(self, *, ended: bool) -> None:
        self._writer.close()


class WeightsAndBiases:
    """Weights & Biases, with the settings of its own environment (``WANDB_MODE=offline``, ``WANDB_ENTITY``, …)."""

    def __init__(self, run: Tracked, known: str | None) -> None:
        import wandb

        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=known,
            resume=None if known is None else "allow",
            config=dict(run.settings),
            dir=str(run.folder),
            settings=wandb.Settings(silent=True, console="off"),
        )
        self.name = str(self._run.id)

    def record(self, step: int, figures: Numbers) -> None:
        self._run.log(dict(figures), step=step)

    def close(self, *, ended: bool) -> None:
        self._run.finish(exit_code=0 if ended else 1)


class MLflow:
    """MLflow, with the settings of its own environment (``MLFLOW_TRACKING_URI`` names the server)."""

    def __init__(self, run: Tracked, known: str | None) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client: Any = MlflowClient()
        if known is not None:
            self._client.update_run(known, status="RUNNING")
            self.name = known
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(experiment)
        number = self._client.create_experiment(experiment) if found is None else found.experiment_id
        self.name = str(self._client.create_run(number, run_name=run.name).info.run_id)
        parameters = [Param(key, text[:LONGEST]) for key, text in _leaves(run.settings)]
        for first in range(0, len(parameters), 100):  # more are refused
            self._client.log_batch(self.name, params=parameters[first : first + 100])

    def record(self, step: int, figures: Numbers) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self.name, metrics=[Metric(key, value, now, step) for key, value in figures.items()])

    def close(self, *, ended: bool) -> None:
        self._client.set_terminated(self.name, status="FINISHED" if ended else "KILLED")


TRACKERS: dict[str, tuple[str, Callable[[Tracked, str | None], Any]]] = {
    "wandb": ("wandb", WeightsAndBiases),
    "mlflow": ("mlflow", MLflow),
}
"""Trackers that can be asked for, by the name of their extra: their module, and their class."""


def require_trackers(names: Sequence[str]) -> None:
    """Refuse names of trackers that there are not, or that are not installed.

    Raises
    ------
    VssError
        There is one; says how to install it.
    """
    for name in names:
        if name not in TRACKERS:
            raise VssError(f"there is no tracker {name!r}", f"choose from {', '.join(TRACKERS)}")
        if find_spec(TRACKERS[name][0]) is None:
            raise VssError(f"{name} is not installed", f'pip install "vsscli[{name}]"')


class Trackers:
    """The trackers of a run.

    Parameters
    ----------
    names
        Those that are asked for.
    run
        The run.
    talk
        Warned of what fails.

    Raises
    ------
    VssError
        A tracker can't start.
    """

    def __init__(self, names: Sequence[str], run: Tracked, talk: Talk) -> None:
        require_trackers(names)
        self._talk = talk
        self._open: dict[str, Tracker] = {}
        with suppress(ImportError):
            self._open["TensorBoard"] = TensorBoard(run, None)
        noted = json_or_none(run.folder / NOTE) if run.start else None
        known: dict[str, str] = dict(_pairs(noted))
        for name in names:
            try:
                self._open[name] = tracker = TRACKERS[name][1](run, known.get(name))
            except Exception as cause:
                self.close(ended=False)
                how = "vss train without --track keeps figures in journal.jsonl alone"
                raise VssError(f"{name} can't start: {_first_line(cause)}", how) from cause
            known[name] = tracker.name
        if names:
            write_text(run.folder / NOTE, json.dumps(known, indent=1) + "\n")

    def record(self, step: int, figures: Numbers) -> None:
        """Hand on the figures of one step. A tracker that fails is left out from then on, with a warning."""
        self._each(lambda tracker: tracker.record(step, figures))

    def close(self, *, ended: bool) -> None:
        """End them all."""
        self._each(lambda tracker: tracker.close(ended=ended))
        self._open.clear()

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self._open.items()):
            try:
                act(tracker)
            except Exception as cause:
                del self._open[name]
                self._talk.warn(f"{name} takes no more figures of this run: {_first_line(cause)}")


def _pairs(noted: Any) -> Iterator[tuple[str, str]]:
    for name, value in noted.items() if isinstance(noted, dict) else ():
        if isinstance(value, str):
            yield name, value


def _leaves(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Settings by dotted key, as text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", str(value)


def _first_line(cause: Exception) -> str:
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__
