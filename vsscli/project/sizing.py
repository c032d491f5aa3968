"""How long a network trains on this machine: measured on a few steps, and frames, with the project's own labels."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from vsscli.context import Context
from vsscli.data.layouts import open_dataset
from vsscli.inference.devices import resolve_device
from vsscli.inference.predictor import Predictor
from vsscli.models.checkpoints import load_checkpoint, restore_network
from vsscli.pipeline.frames import every_frame
from vsscli.pipeline.request import chosen_plan, read_out
from vsscli.pipeline.train import train
from vsscli.recipes.load import load_recipe, recipe_from_dict
from vsscli.talk import SILENCE

MEASURED, WARM = 7, 3
"""Steps that are taken to measure, and those of them that do not count: they find memory."""

LEAST, MOST = 100, 20_000
"""Steps that a network is trained for, whatever the machine."""

SHARE = 0.5
"""Of the time that is to be spent on training, what the student may take."""

FRAMES, WARM_FRAMES = 3, 1
"""Frames that are predicted to measure, and those of them that do not count."""


@dataclass(frozen=True)
class Size:
    """How many steps, how often they are interrupted for a score, and why so many.

    ``minutes`` is what training and predicting take in the whole pipeline, `None` if not measured.
    """

    steps: int
    validate_every: int
    reason: str
    minutes: tuple[float, float] | None = None


def start_recipe(device: str = "auto") -> str:
    """The recipe to start from on this machine."""
    import torch

    gpu = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
    return "start/gpu.yaml" if gpu else "start/cpu.yaml"


def default_size(start: str, *, scored: bool, why: str) -> Size:
    """The steps that the recipe to start from says."""
    steps = load_recipe(start).train.steps
    return Size(steps, steps // 3 if scored else 0, why)


def measured_size(recipe: Path, minutes: float, predicted: int, context: Context, *, scored: bool) -> Size:
    """Take a few steps of a recipe, predict a few frames, and say how many steps fit into the time.

    Parameters
    ----------
    recipe
        Of the student, with data that has labels.
    minutes
        For all training of the pipeline.
    predicted
        Frames that the pipeline predicts.
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
        per_frame = _seconds_per_frame(journal.parent / "last.pt", there)
    seconds = statistics.median(row["step_time"] for row in rows[WARM:] if "step_time" in row)
    steps = min(MOST, max(LEAST, _round(SHARE * minutes * 60 / seconds)))
    trained = steps * seconds / 60
    whole = max(1, round(trained))
    reason = f"about {whole} minute{'s' if whole > 1 else ''} on this machine, {seconds:.2g} s a step"
    return Size(steps, max(1, steps // 3) if scored else 0, reason, (trained / SHARE, predicted * per_frame / 60))


def _seconds_per_frame(model: Path, context: Context) -> float:
    """How long a frame of the network's data takes with test-time augmentation."""
    checkpoint = load_checkpoint(model)
    recipe = recipe_from_dict(checkpoint.recipe, f"the recipe inside {model}")
    plan = chosen_plan(recipe.predict, tta=True, named=None)
    how = read_out(recipe.predict, plan, context.precision, checkpoint.config)
    device = resolve_device(context.device)
    predictor = Predictor(
        restore_network(checkpoint), checkpoint.normalisation, how, device, batch_size=context.batch_size
    )
    image = next(every_frame(open_dataset(recipe.data, context.data_root))).read()
    times = []
    for _ in range(FRAMES):
        began = time.perf_counter()
        predictor.label(image)
        times.append(time.perf_counter() - began)
    return statistics.median(times[WARM_FRAMES:])


def _round(steps: float) -> int:
    """To a number that people would choose."""
    for unit in (1000, 100, 10):
        if steps >= 5 * unit:
            return int(steps // unit) * unit
    return int(steps)
