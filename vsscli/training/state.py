"""The state of a run at one step, to and from a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import Precision
from torch import Tensor

from vsscli.data.classes import ClassTable
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, load_checkpoint, load_weights, save_checkpoint
from vsscli.models.frozen import load_learning
from vsscli.models.network import Network
from vsscli.models.sharefiles import share_names, write_share
from vsscli.models.shares import gathered, parted, share_of, shared_like
from vsscli.recipes.load import recipe_from_dict
from vsscli.recipes.schema import Recipe
from vsscli.training.averaging import AveragedWeights
from vsscli.training.inputs import CONTENT, changed_data, changed_score, other_inputs
from vsscli.training.learner import Learner
from vsscli.training.objectives.table import Objectives

DECIDE_NOTHING = ("workers", "log_every", "validate_every", "validate_frames", "checkpoint_every")
"""Keys of `train` that decide no weight: a run may continue with other values."""


@dataclass
class TrainingState:
    """Everything that changes during training, except random numbers, which follow from seed and step.

    Attributes
    ----------
    precision
        The fabric's: with precision 16 it has the scale of the loss.
    outdated
        How the split that the figures are of has changed since, as text; empty if it has not.
    """

    objectives: Objectives
    optimiser: torch.optim.Optimizer
    average: AveragedWeights | None
    inputs: dict[str, str] = field(default_factory=dict)
    step: int = 0
    best: float = -1.0
    figures: dict[str, Any] = field(default_factory=dict)
    precision: Precision = field(default_factory=Precision)
    outdated: str = ""

    @property
    def learner(self) -> Learner:
        """The modules that the optimiser trains."""
        return self.objectives.learner

    @property
    def network(self) -> Network:
        """The part of the learner that predicts; a checkpoint's weights are this part's alone."""
        return self.learner.network


def is_finite(state: TrainingState) -> bool:
    """Whether all weights, statistics and averages of this process are finite; waits for the device."""
    averages = state.average.weights if state.average else {}
    tensors = map(share_of, (*state.learner.state_dict().values(), *averages.values()))
    finite = [tensor.isfinite().all() for tensor in tensors if tensor.is_floating_point()]
    return bool(torch.stack(finite).all())


def save_state(
    path: Path,
    state: TrainingState,
    recipe: Recipe,
    table: ClassTable,
    fabric: Fabric,
    *,
    resumable: bool,
    shared: bool = False,
) -> None:
    """Write a checkpoint. A resumable one also holds the optimiser, the raw weights if they are averaged, and the state
    of semi-supervised training.

    All processes must call it. If it is ``shared``, each writes the share that it holds, and the first one a file that
    names these; otherwise the first one gathers whole tensors into one file. A run may continue from either with any
    number of processes.
    """
    raw = state.network.kept_state()
    training = None
    if resumable:
        training = {
            "optimiser": state.optimiser.state_dict(),
            "raw": raw if state.average else None,
            "semi": state.objectives.state_dict(),
            "precision": state.precision.state_dict(),
            "best": state.best,
            "threads": torch.get_num_threads(),
        }
    kept: dict[str, Any] = {
        "weights": {**raw, **(state.average.weights if state.average else {})},
        "training": training,
    }
    shares: list[tuple[str, str]] = []
    if shared:
        digest = write_share(path, state.step, fabric.global_rank, fabric.world_size, *parted(kept))
        shares = share_names(state.step, _of_all(digest, fabric))
        kept = {"weights": {}, "training": None}
    else:
        kept = gathered(kept, keep=fabric.is_global_zero)
    if fabric.is_global_zero:
        checkpoint = Checkpoint(
            network=recipe.model.kept_values(),
            weights=kept["weights"],
            table=table,
            normalisation=state.network.normalisation,
            recipe=recipe.model_dump(mode="json"),
            figures=state.figures,
            step=state.step,
            inputs=state.inputs,
            trunk=state.network.trunk_digest,
            licence=state.network.licence,
            fresh=tuple(sorted(state.network.fresh)) if resumable else (),
            training=kept["training"],
        )
        save_checkpoint(path, checkpoint, shares)
    if shared:
        fabric.barrier()  # nobody writes the next share while the first process removes earlier ones


def _of_all(digest: str, fabric: Fabric) -> list[str]:
    """The digests that all processes have, in their order."""
    own = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8, device=fabric.device)
    every = fabric.all_gather(own)
    assert isinstance(every, Tensor)
    return [bytes(row).hex() for row in every.tolist()]


def load_state(path: Path, state: TrainingState, recipe: Recipe) -> None:
    """Continue from a checkpoint of the same recipe; refuse one of another recipe, naming the field."""
    checkpoint = load_checkpoint(path)
    if checkpoint.training is None:
        raise VssError(f"{path} holds no optimiser state, so training can't continue from it", "resume from last.pt")
    difference = other_run(checkpoint, recipe, state.inputs)
    if difference:
        raise VssError(
            f"{path} was trained differently: {difference}",
            "continue with the same settings, or start over with --force or another --out",
        )
    load_weights(state.network, checkpoint)
    if state.average is not None:
        load_learning(state.network, checkpoint.training["raw"])
        state.average.load(checkpoint.weights)
    state.objectives.load_state_dict(checkpoint.training["semi"])
    load_optimiser(state.optimiser, checkpoint.training["optimiser"])
    scaling = checkpoint.training.get("precision")
    if scaling:  # older checkpoints lack it; their runs start again with the initial scale
        state.precision.load_state_dict(scaling)
    state.step = checkpoint.step
    state.best = checkpoint.training["best"]
    state.figures = checkpoint.figures
    state.outdated = changed_score(checkpoint.inputs, state.inputs)


def load_optimiser(optimiser: torch.optim.Optimizer, kept: dict[str, Any]) -> None:
    """Load the state of an optimiser, where averages of gradients are laid out as their parameters are: shared out over
    processes or not, and in the same memory format, which fused steps take for granted."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]

    def laid_out(value: Any, parameter: Tensor) -> Any:
        if not isinstance(value, Tensor) or value.shape != parameter.shape:
            return value
        share = shared_like(value, parameter)
        own = share_of(share), share_of(parameter)
        if own[0].stride() == own[1].stride():
            return share
        return torch.empty_like(parameter, dtype=value.dtype).copy_(share)

    state = {
        number: {name: laid_out(value, parameters[number]) for name, value in values.items()}
        for number, values in kept["state"].items()
    }
    optimiser.load_state_dict({**kept, "state": state})


def other_run(checkpoint: Checkpoint, recipe: Recipe, inputs: dict[str, str]) -> str:
    """How a checkpoint's training differs from this recipe and these inputs, as text; empty if it does not."""
    changed = changed_data(checkpoint.inputs, inputs)
    if changed:
        return changed
    # Keys that were added to recipes since then take their defaults.
    begun = recipe_from_dict(checkpoint.recipe, "the recipe of the run that was begun")
    known = begun.model_dump(mode="json")
    if known["unlabelled"] and begun.model.masks:
        # Before `balance` existed, the weights were of the whole sum.
        known["unlabelled"]["balance"] = checkpoint.recipe["unlabelled"].get("balance", "none")
    unnoted = {CONTENT: inputs[CONTENT]} if lacks_content(checkpoint, inputs) else {}
    wanted = recipe.model_dump(mode="json")
    return _difference(_decisive(known), _decisive(wanted)) or other_inputs({**checkpoint.inputs, **unnoted}, inputs)


def lacks_content(checkpoint: Checkpoint, inputs: dict[str, str]) -> bool:
    """Whether a checkpoint is from a version that recorded how its pseudo-labels were made, but not their content."""
    return CONTENT in inputs and CONTENT not in checkpoint.inputs and "pseudo_labels" in checkpoint.inputs


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    """The values that decide weights: data may move between two runs, and logging may change."""
    also = [{**other, "data": {**other["data"], "root": None}} for other in values["also"]]
    train = {name: value for name, value in values["train"].items() if name not in DECIDE_NOTHING}
    return {**values, "data": {**values["data"], "root": None}, "also": also, "train": train}


def _difference(old: Any, new: Any, name: str = "") -> str:
    """Name of the first field that differs between two nested dicts, with both values; empty when they are equal."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            found = _difference(old.get(key), new.get(key), f"{name}.{key}" if name else str(key))
            if found:
                return found
        return ""
    return "" if old == new else f"{name} was {old!r} and is {new!r}"
