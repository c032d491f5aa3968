"""How long a network trains on this machine: measured on a few steps with the project's own labels."""

from __future__ import annotations

import json
import statistics
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from vsscli.context import Context
from vsscli.pipeline.train import train
from vsscli.recipes.load import load_recipe
from vsscli.talk import SILENCE

MEASURED, WARM = 7, 3
"""Steps that are taken to measure, and those of them that do not count: they find memory."""

LEAST, MOST = 100, 20_000
"""Steps that a network is trained for, whatever the machine."""

SHARE = 0.5
"""Of the time that is to be spent on the whole loop, what the student may take."""


@dataclass(frozen=True)
class Size:
    """How many steps, how often they are interrupted for a score, and why so many."""

    steps: int
    validate_every: int
    reason: str


def start_recipe(device: str = "auto") -> str:
    """The recipe to start from on this machine."""
    import torch

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return "start/gpu.yaml" if gpu else "start/cpu.yaml"


def default_size(start: str, *, scored: bool, why: str) -> Size:
    """The steps that the recipe to start from says."""
    steps = load_recipe(start).train.steps
    return Size(steps, steps // 3 if scored else 0, why)


def measured_size(recipe: Path, minutes: float, context: Context, *, scored: bool) -> Size:
    """Take a few steps of a recipe and say how many fit into the time.

    Parameters
    ----------
    recipe
        Of the student, with data that has labels.
    minutes
        For the whole loop.
    context
        Its device counts.
    scored
        Whether something is held out.

    Raises
    ------
    VssError
        Training does not begin: the data is wrong.
    """
    with tempfile.TemporaryDirectory(prefix="vss-init-") as folder:
        there = replace(context, workspace=Path(folder), talk=SILENCE)
        changes = [f"train.steps={MEASURED}", "train.log_every=1", "train.warmup=1", "train.validate_every=0"]
        train(str(recipe), overrides=changes, context=there, check=False)
        journal = next(Path(folder).glob("*/journal.jsonl"))
        rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    seconds = statistics.median(row["step_time"] for row in rows[WARM:] if "step_time" in row)
    steps = min(MOST, max(LEAST, _round(SHARE * minutes * 60 / seconds)))
    minutes = max(1, round(steps * seconds / 60))
    reason = f"about {minutes} minute{'s' if minutes > 1 else ''} on this machine, {seconds:.2g} s a step"
    return Size(steps, max(1, steps // 3) if scored else 0, reason)


def _round(steps: float) -> int:
    """To a number that people would choose."""
    for unit in (1000, 100, 10):
        if steps >= 5 * unit:
            return int(steps // unit) * unit
    return int(steps)
