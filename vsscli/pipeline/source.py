"""From a model as the user names it to a checkpoint: a file of ours, or a recipe whose network is already trained."""

from __future__ import annotations

from pathlib import Path

from vsscli.data.layouts import Dataset, class_table
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint, load_checkpoint
from vsscli.models.config import TrainedModel
from vsscli.recipes.load import load_recipe
from vsscli.talk import SILENCE, Talk

RECIPES = (".yaml", ".yml")


def open_model(path: Path, *, data_root: Path | None = None, talk: Talk = SILENCE) -> Checkpoint:
    """Open a model.

    Parameters
    ----------
    path
        A checkpoint, or a recipe (``.yaml``) whose network needs no training by us: family ``mmseg``.
    data_root
        Folder of the data set, if not the recipe's.
    talk
        Informed of what reading a recipe's network involves.

    Returns
    -------
    Checkpoint
        With its recipe; one of ours is without weights, which `with_weights` adds.

    Raises
    ------
    VssError
        The file is missing or unusable, or the recipe's network is yet to be trained.
    """
    if path.suffix not in RECIPES:
        return load_checkpoint(path, weights=False)
    recipe = load_recipe(path)
    if not isinstance(recipe.model, TrainedModel):
        raise VssError(
            f"{path} is a recipe of a network that is not trained yet (family {recipe.model.family})",
            f"vss train --recipe {path}, then name its checkpoint, {Path('runs', recipe.name, 'last.pt')}",
        )
    checkpoint = recipe.model.read(lambda: class_table(recipe.data, data_root), talk)
    checkpoint.recipe = recipe.model_dump(mode="json")
    return checkpoint


def with_weights(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint, with its weights loaded.

    Raises
    ------
    VssError
        Its file now has other weights, because a training goes on or another machine has another file there: their
        predictions would be taken for those of the first.
    """
    if checkpoint.weights or checkpoint.path is None:
        return checkpoint
    loaded = load_checkpoint(checkpoint.path)
    if loaded.fingerprint != checkpoint.fingerprint:
        raise VssError(
            f"{checkpoint.path} has other weights than when this command began",
            "wait until nothing writes it, copy it to all machines, and run the command again",
        )
    return loaded


def take_classes(checkpoint: Checkpoint, dataset: Dataset) -> None:
    """Give a checkpoint the class table of a data set, after checking that the classes are the same.

    Names are compared by their letters and digits: other programs write "Traffic_Light" for "traffic light".

    Raises
    ------
    VssError
        They differ.
    """
    own, table = checkpoint.table, dataset.table
    pairs = list(zip(map(_spelt, own.names), map(_spelt, table.names), strict=False))
    wrong = next((index for index, (one, other) in enumerate(pairs) if one != other), None)
    if own.num_classes != table.num_classes or wrong is not None:
        first = "" if wrong is None else f"; class {wrong} is {own.names[wrong]!r} there, {table.names[wrong]!r} here"
        raise VssError(
            f"{checkpoint.path or 'the network'} has {own.num_classes} classes of {own.name!r}, "
            f"{dataset.root} has {table.num_classes} of {table.name!r}{first}",
            "predict the data set the checkpoint was trained on, or give its root with --data",
        )
    checkpoint.table = table


def _spelt(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
