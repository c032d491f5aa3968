"""A prediction, wherever it lies, with the data set that it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.recipes.schema import Data, Recipe
from vsscli.store.header import Header, read_header
from vsscli.store.reader import open_store
from vsscli.store.remote import place_of


@dataclass(frozen=True)
class Predicted:
    """Labels, the data set whose frames they belong to, and which of its splits."""

    path: Path
    labels: FolderLabels | StoreLabels
    dataset: Dataset
    split: str


def open_predicted(
    path: Path, *, data_root: Path | None, split: str | None, recipe: Recipe | None, otherwise: str
) -> Predicted:
    """Open a prediction and find its data set.

    Parameters
    ----------
    path
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks.
    data_root, recipe
        The data set: a recipe's, else the one that the store names, else whatever lies under the root.
    split
        Which videos; none: the store's own, or ``otherwise``.

    Raises
    ------
    VssError
        The path is no prediction, or prediction and data do not fit together.
    """
    path = place_of(path)
    if not path.exists():
        raise VssError(f"no prediction at {path}", "name a store, or a folder that holds <video>/<stem>.png")
    header = read_header(path) if (path / "zarr.json").is_file() else None
    if header is not None and header.kind == "pseudo":
        raise VssError(f"{path} holds pseudo-labels, not predictions", "name the prediction store it was made from")
    dataset = _dataset(path, header, data_root, recipe)
    if header is not None and header.table != dataset.table:
        raise VssError(
            f"{path} holds {header.table.num_classes} classes of {header.table.name!r}, "
            f"{dataset.root} has {dataset.table.num_classes} of {dataset.table.name!r}",
            "name the data set whose classes it predicts",
        )
    labels = StoreLabels(open_store(path)) if header else FolderLabels(path)
    return Predicted(path, labels, dataset, split or (header.data["split"] if header else otherwise))


def _dataset(path: Path, header: Header | None, data_root: Path | None, recipe: Recipe | None) -> Dataset:
    if recipe is not None:
        return open_dataset(recipe.data, data_root)
    if header is not None and header.summary.get("data") is not None:
        return open_dataset(Data.model_validate(header.summary["data"]), data_root or Path(header.data["root"]))
    if data_root is not None:
        return open_dataset(plain_data(data_root))
    raise VssError(f"{path} does not tell which data set it predicts", "add --data ROOT or --recipe FILE")
