"""Trains as `vsscli.training.run.train` does, with nothing drawn that depends on the number of processes.

Fabric starts this script again for every further process: ``python shared_training.py RECIPE OUT JSON``, where JSON has
``devices``, ``strategy``, ``stop`` (the step after which to stop), ``kill`` (the step at whose checkpoint all processes
are killed, and a key of `MOMENTS`), and what `train` takes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vsscli.context import Context
from vsscli.models import checkpoints
from vsscli.recipes.load import load_recipe
from vsscli.training import state
from vsscli.training.objectives import labels
from vsscli.training.run import train
from vsscli.training.set_prediction import SetPredictionLoss
from vsscli.training.step import Stepper


def fixed(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """The same points for every mask."""
    generator = torch.Generator().manual_seed(shape[1])
    return torch.rand((1, *shape[1:]), generator=generator).expand(shape).to(device)


def stop_after(step: int) -> None:
    """Press Ctrl-C in this step."""
    taken = Stepper.step

    def stepped(self: Stepper, *batches: Any, **how: Any) -> Any:
        answer = taken(self, *batches, **how)
        if self.state.step == step:
            signal.raise_signal(signal.SIGINT)
        return answer

    Stepper.step = stepped  # type: ignore[method-assign]


MOMENTS: dict[str, Any] = {
    "writing": (state, "write_share", lambda path, step, *_: step),
    "naming": (state, "save_checkpoint", lambda path, checkpoint, shares: checkpoint.step),
    "removing": (checkpoints, "remove_shares", lambda path, keep: int(min(keep, default="0-").partition("-")[0])),
}
"""Functions that save a checkpoint in shares, and the step that they are called for."""


def kill_at(step: int, moment: str) -> None:
    """Kill all processes where they would call one of the functions for this step."""
    module, name, step_of = MOMENTS[moment]
    call = getattr(module, name)

    def called(*given: Any, **how: Any) -> Any:
        first = os.environ.get("LOCAL_RANK", "0") == "0"
        if step_of(*given, **how) == step and not (moment == "writing" and first):
            time.sleep(0.5)  # for the first process to write its share
            os.killpg(0, signal.SIGKILL)
        return call(*given, **how)

    setattr(module, name, called)


if __name__ == "__main__":
    options = json.loads(sys.argv[3])
    labels.SetPredictionLoss = partial(SetPredictionLoss, draw=fixed)  # type: ignore[misc,assignment]
    context = Context(
        Path(sys.argv[2]).parent, device="cpu", devices=options.pop("devices"), strategy=options.pop("strategy")
    )
    stop = options.pop("stop", None)
    if stop is not None:
        stop_after(stop)
    kill = options.pop("kill", None)
    if kill is not None:
        kill_at(*kill)
    paths = {name: Path(options.pop(name)) for name in ("init", "pseudo_labels") if name in options}
    try:
        train(load_recipe(sys.argv[1]), Path(sys.argv[2]), context=context, **paths, **options)
    except KeyboardInterrupt:
        if stop is None:
            raise
