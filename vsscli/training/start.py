"""The start of a run: what it can't start with is refused before the data is checked; then its initial weights."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from vsscli.data.layouts import Dataset
from vsscli.errors import VssError
from vsscli.inference import devices
from vsscli.inference.windows import chosen_window
from vsscli.models.build import build_network, other_reading
from vsscli.models.checkpoints import load_checkpoint, load_weights
from vsscli.models.network import Network
from vsscli.models.torchfile import check_file
from vsscli.recipes.schema import Recipe
from vsscli.talk import Talk


def require_precision(recipe: Recipe, device: torch.device) -> None:
    """Refuse a precision that the device lacks, which otherwise only validation would refuse, after the last step."""
    try:
        devices.require_precision(device, recipe.train.precision)
    except VssError as error:
        others = {"cpu": "32, or bf16 where the processor has it", "cuda": "16 or 32"}[device.type]
        raise VssError(
            f"train.precision: {error.message}", f"choose another one: --set train.precision={others}"
        ) from error


def require_start(recipe: Recipe, init: Path | None, talk: Talk) -> None:
    """Refuse initial weights that are missing or under a forbidden licence, and warn where there are none, before the
    data is checked and a network is built."""
    model = recipe.model
    if init is not None:
        model.require_licence(load_checkpoint(init, weights=False).licence, f"the weights that {init} began from")
        return
    if model.random:
        what = f"recipe {recipe.name} names neither a checkpoint nor weights to start from"
        if recipe.unlabelled is not None:
            # A random network would learn from its own guesses, or in vain from far better ones.
            raise VssError(
                f"{what}: unlabelled frames are for a network that has learned from labels",
                "add --init CHECKPOINT; one comes from the same recipe without its `unlabelled` section",
            )
        other = ", or set model.pretrained" if "pretrained" in type(model).model_fields else ""
        talk.warn(f"{what}: training starts from random weights (--init CHECKPOINT{other})")
        return
    if model.weights is None:
        return
    key, file = model.weights
    try:
        check_file(Path(os.path.expanduser(file)), "weights")
    except VssError as error:
        where = model.published
        raise VssError(error.message, f"{where}; set model.{key} to its path" if where else error.hint) from error


def require_crop(network: Network, recipe: Recipe) -> None:
    """Refuse crops and windows that the network can't take, before the run meets them."""
    chosen_window(recipe.predict.window, network.crop)
    height, width = crop = recipe.augment.crop
    if network.crop is not None and network.crop != crop:
        raise VssError(
            f"augment.crop: {height}x{width} does not fit a network made for {network.crop[0]}x{network.crop[1]}",
            f"set model.crop to [{height}, {width}], or augment.crop to {list(network.crop)}",
        )
    if height % network.divisor or width % network.divisor:
        raise VssError(
            f"augment.crop: {height}x{width} does not fit the network: its sides must be multiples of "
            f"{network.divisor}",
            f"choose {-(-height // network.divisor) * network.divisor}x"
            f"{-(-width // network.divisor) * network.divisor} for example",
        )
    crops = min([recipe.train.batch_size, *([recipe.unlabelled.batch_size] if recipe.unlabelled else [])])
    learns = any(isinstance(part, _BatchNorm) for part in network.modules())
    if learns and height * width // network.divisor**2 * crops == 1:
        raise VssError(
            f"augment.crop: a single crop of {height}x{width} leaves batch norm one cell, which has no variance",
            "use larger crops, or several per step (train.batch_size)",
        )


def first_network(
    recipe: Recipe, dataset: Dataset, init: Path | None, last: Path, *, fresh: bool, talk: Talk
) -> Network:
    """The network with its initial weights: pretraining or a checkpoint; a resumed run loads its own later."""
    network = build_network(recipe.model, dataset.table.num_classes, load_pretrained=fresh and init is None, talk=talk)
    if not fresh:  # learning rates of layers stay as they were when the run began
        begun = load_checkpoint(last, weights=False)
        network.fresh, network.licence = frozenset(begun.fresh), begun.licence
    elif init is None:
        recipe.model.require_licence(network.licence, "the weights that it starts from")
    if fresh and init is not None:
        checkpoint = load_checkpoint(init)
        if checkpoint.table != dataset.table:
            raise VssError(
                f"{init} has the classes of {checkpoint.table.name!r}, the recipe those of {dataset.table.name!r}",
                "start from a checkpoint of the same class table",
            )
        if other := other_reading(checkpoint.network, recipe.model):
            raise VssError(
                f"{init} was trained with {other} as in the recipe: its weights would mean something else",
                "set `model` as it was there; for another crop, name the checkpoint as model.pretrained instead, "
                "which resizes position tables",
            )
        load_weights(network, checkpoint)
        network.licence = checkpoint.licence
        # Trained parameters are no longer fresh.
        network.fresh = frozenset(checkpoint.fresh if checkpoint.step == 0 else ())
        if checkpoint.normalisation != network.normalisation:
            # Encoders with the same tensors may expect other normalisation: the weights would load but not work.
            there, here = checkpoint.normalisation, network.normalisation
            raise VssError(
                f"{init} was trained with mean and standard deviation {there.mean} and {there.std}, "
                f"the recipe's network uses {here.mean} and {here.std}",
                "start from a checkpoint of the same encoder",
            )
        talk.say(f"starting from {init} (step {checkpoint.step})")
    return network
