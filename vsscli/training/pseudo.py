"""Pseudo-labels as training frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vsscli.data.batches import PseudoLabelledFrames
from vsscli.data.layouts import Dataset
from vsscli.errors import VssError
from vsscli.recipes.schema import Recipe
from vsscli.store.reader import Store, open_store


class StoredLabels:
    """Labels of a pseudo-label store by video and frame; opened by each loader process for itself."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store: Store | None = None

    def __call__(self, video: str, index: int) -> np.ndarray:
        """One frame's pseudo-label: (H, W) uint8, 255 where it is not reliable."""
        if self._store is None:
            self._store = open_store(self._path)
        return self._store.read(video, "pseudo_label", index)

    def __getstate__(self) -> dict[str, object]:
        return {"_path": self._path, "_store": None}


def pseudo_label_path(recipe: Recipe, given: Path | None) -> Path | None:
    """Which pseudo-label store a recipe learns from: the given one, else its own; none where it has no such part.

    Raises
    ------
    VssError
        The recipe asks for pseudo-labels and names none, or the reverse.
    """
    if recipe.unlabelled is None:
        if given is not None:
            raise VssError(
                f"recipe {recipe.name} has no `unlabelled` section, so {given} would not be used",
                "add `unlabelled: {weight: 1.0}` to the recipe, or leave out --pseudo",
            )
        return None
    if given is None and recipe.unlabelled.pseudo_labels is None:
        raise VssError(
            f"recipe {recipe.name} learns from pseudo-labels, and names no store of them",
            "make one with `vss pseudo --models t.pt s.pt --tta`, then add --pseudo STORE",
        )
    return given or Path(str(recipe.unlabelled.pseudo_labels))


def open_pseudo_labels(recipe: Recipe, dataset: Dataset, given: Path | None) -> PseudoLabelledFrames | None:
    """The frames that a pseudo-label store labels, or none where the recipe has no unlabelled part.

    Raises
    ------
    VssError
        As `pseudo_label_path`; or the store is of another kind, other classes or other frames than the data set's.
    """
    path = pseudo_label_path(recipe, given)
    if path is None:
        return None
    store = open_store(path)
    if store.header.kind != "pseudo":
        raise VssError(f"{path} is a {store.header.kind} store, not pseudo-labels", "threshold it: vss pseudo --store")
    if store.header.table.names != dataset.table.names:
        raise VssError(
            f"{path} labels {store.header.table.num_classes} classes of {store.header.table.name!r}, "
            f"the data set has {dataset.table.num_classes} of {dataset.table.name!r}",
            "make pseudo-labels with networks of this class table",
        )
    videos = dataset.split(store.header.data["split"])
    complete = set(store.videos())
    for video in videos:
        if video.name not in complete:
            raise VssError(f"{path} lacks video {video.name}", "run the same `vss pseudo` command again: it adds it")
        if store.stems(video.name) != video.stems:
            raise VssError(
                f"{path} has other frames of video {video.name} than {dataset.root}",
                "make pseudo-labels for the frames that are there now",
            )
    return PseudoLabelledFrames(videos, StoredLabels(path))
