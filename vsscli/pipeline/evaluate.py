"""Score a store or a folder of masks against the data set it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.errors import VssError
from vsscli.evaluation.figures import Figures
from vsscli.evaluation.labels import FolderLabels, LabelSource, StoreLabels
from vsscli.evaluation.score import score
from vsscli.pipeline.workspace import newest_evaluation_store
from vsscli.recipes.schema import Data, Recipe
from vsscli.store.header import Header, read_header
from vsscli.store.reader import open_store
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Evaluation:
    """Figures, and what they are figures of."""

    figures: Figures
    prediction: Path
    data: Path
    split: str


def evaluate(
    *,
    workspace: Path,
    prediction: Path | None = None,
    data_root: Path | None = None,
    split: str | None = None,
    recipe: Recipe | None = None,
    metrics: Sequence[str],
    protocol: str,
    workers: int | None = None,
    talk: Talk = SILENCE,
) -> Evaluation:
    """Score predictions.

    Parameters
    ----------
    workspace
        Where the newest store of an evaluation split is looked for when no prediction is named.
    prediction
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks.
    data_root, recipe
        The data set: a recipe's, else the one that the store names, else whatever lies under the root.
    split
        Which videos; none: the store's own, or the recipe's evaluation split.
    metrics, protocol, workers
        As :func:`vsscli.evaluation.score.score` takes them.

    Raises
    ------
    VssError
        There is nothing to score, or prediction and data do not fit together.
    """
    path = prediction or newest_evaluation_store(workspace)
    header = read_header(path) if (path / "zarr.json").is_file() else None
    if header is not None and header.kind == "pseudo":
        raise VssError(f"{path} holds pseudo-labels, not predictions", "name the prediction store it was made from")
    dataset = dataset_of(path, header, data_root, recipe)
    if header is not None and header.table != dataset.table:
        raise VssError(
            f"{path} holds {header.table.num_classes} classes of {header.table.name!r}, "
            f"{dataset.root} has {dataset.table.num_classes} of {dataset.table.name!r}",
            "score it on the data set whose classes it predicts",
        )
    split = split or (header.data["split"] if header else "val")
    labels: LabelSource = StoreLabels(open_store(path)) if header else FolderLabels(path)
    talk.say(f"scoring {path} on split {split!r} of {dataset.root}, protocol {protocol!r}")
    videos = dataset.split(split)
    figures = score(
        videos, labels, dataset.table, dataset.ids, metrics=metrics, protocol=protocol, workers=workers, talk=talk
    )
    return Evaluation(figures, path, dataset.root, split)


def dataset_of(
    path: Path, header: Header | None, data_root: Path | None = None, recipe: Recipe | None = None
) -> Dataset:
    """The data set that a prediction is of: the recipe's, else the one its header names, else what lies at the root."""
    if recipe is not None:
        return open_dataset(recipe.data, data_root)
    if header is not None and header.summary.get("data") is not None:
        return open_dataset(Data.model_validate(header.summary["data"]), data_root or Path(header.data["root"]))
    if data_root is not None:
        return open_dataset(plain_data(data_root))
    raise VssError(f"{path} does not tell which data set it predicts", "add --data ROOT or --recipe FILE")
