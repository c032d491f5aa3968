"""A prediction in a store or folder, with the data set that it belongs to."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from vsscli.context import Context
from vsscli.data.config import Data
from vsscli.data.folders import some
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import composed
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.recipes.schema import Recipe
from vsscli.store.header import Header, read_header
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import place_of


@dataclass(frozen=True)
class Predicted:
    """Labels, their data set and split, and the header if they are in a store."""

    path: Path
    labels: FolderLabels | StoreLabels
    dataset: Dataset
    split: str
    header: Header | None = None


def open_predicted(
    path: Path,
    *,
    data_root: Path | None,
    split: str | None,
    recipe: Recipe | None,
    otherwise: str,
    any_classes: bool = False,
) -> Predicted:
    """Open a prediction and find its data set.

    Parameters
    ----------
    path
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks.
    data_root, recipe
        The data set: the recipe's, else the one that the store names, else whatever is under the root.
    split
        Which videos; `None`: the store's own split, or ``otherwise``.
    any_classes
        Whether a store may hold what the classes were before they were renamed, merged or dropped; its labels are
        translated.

    Raises
    ------
    VssError
        The path is not a prediction, or prediction and data do not match.
    """
    path = place_of(path)
    if not path.exists():
        raise VssError(f"no prediction at {path}", "name a store, or a folder of <video>/<stem>.png")
    header = read_header(path) if (path / "zarr.json").is_file() else None
    if header is not None and header.kind == "pseudo":
        raise VssError(f"{path} holds pseudo-labels, not predictions", "name the prediction store it was made from")
    dataset = _dataset(path, header, data_root, recipe)
    if header is None:
        return Predicted(path, FolderLabels(path, legend_of(dataset.table)), dataset, split or otherwise)
    translation = None
    if header.table.names != dataset.table.names:
        translation = dataset.table.translation(header.table.names)
        if translation is None or not any_classes:
            raise _other_classes(path, header, dataset)
    labels = StoreLabels(open_store(path), translation)
    return Predicted(path, labels, dataset, split or header.split(path), header)


def noted_dataset(path: Path, header: Header, data_root: Path | None, *, any_classes: bool = False) -> Dataset:
    """The data set that a store predicts, as its header notes it.

    Raises
    ------
    VssError
        The header names no readable data set, the data is neither where it was nor at ``data_root``, or it has other
        classes now, unless ``any_classes``.
    """
    dataset = _noted(path, header, data_root)
    if dataset.table.names != header.table.names and not any_classes:
        raise _other_classes(path, header, dataset)
    return dataset


def warn_of_missing(store: Store, context: Context) -> None:
    """Warn if a store lacks videos of its split, which may not be predicted yet; silent without the data set."""
    with suppress(VssError):
        dataset = noted_dataset(store.path, store.header, context.data_root)
        split = store.header.split(store.path)
        there = {composed(name) for name in store.videos()}
        names = [video.name for video in dataset.split(split)]
        missing = [name for name in names if composed(name) not in there]
        if missing:
            context.talk.warn(
                f"{store.path} holds {len(names) - len(missing)} of the {len(names)} videos of split {split!r}, not "
                f"{some(missing)}: the command that makes it, run again, adds them"
            )


def _other_classes(path: Path, header: Header, dataset: Dataset) -> VssError:
    if dataset.table.translation(header.table.names) is not None:
        return VssError(
            f"the classes of {dataset.root} have changed since {path} was made",
            "train and predict again; `vss eval` and `vss compare` can still score what was predicted before",
        )
    return VssError(
        f"{path} holds {header.table.num_classes} classes of {header.table.name!r}, "
        f"{dataset.root} has {dataset.table.num_classes} of {dataset.table.name!r}",
        "name the data set whose classes it predicts",
    )


def _noted(path: Path, header: Header, data_root: Path | None) -> Dataset:
    values = header.data.get("section")
    if values is None:
        raise VssError(f"{path} does not name the data set it predicts", "name a store that `vss predict` made")
    try:
        data = Data.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        what = ".".join(map(str, fault["loc"])) or "data"
        raise VssError(
            f"{path} notes a data set that can't be read: {what}: {fault['msg']}", "make the store again"
        ) from error
    if data_root is None and "root" not in header.data:
        raise VssError(f"{path} does not say where its data is", "add --data ROOT")
    return open_dataset(data, data_root or Path(header.data["root"]), noted=True)


def _dataset(path: Path, header: Header | None, data_root: Path | None, recipe: Recipe | None) -> Dataset:
    if recipe is not None:
        return open_dataset(recipe.data, data_root)
    if header is not None and header.data.get("section") is not None:
        return noted_dataset(path, header, data_root, any_classes=True)
    if data_root is not None:
        return open_dataset(plain_data(data_root))
    raise VssError(f"{path} does not name the data set it predicts", "add --data ROOT or --recipe FILE")
