"""Pseudo-labels as training frames."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset
from vsscli.data.samples import StoredPixels, UnlabelledFrames
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.recipes.schema import Recipe
from vsscli.store.encode import IGNORE, quantise
from vsscli.store.reader import Store, open_source, open_store
from vsscli.talk import SILENCE, Talk
from vsscli.training.evidence import StoreMeaning
from vsscli.training.ranks import rank_bounds

SAMPLED = 32
"""Frames of a store that are read before the first step, to see what they hold."""


class StoreFrames:
    """What a store says of a frame; every loader process opens it itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def store(self) -> Store:
        """The store, opened on first use."""
        return open_store(self._path)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "store"}

    def __call__(self, video: str, index: int) -> tuple[np.ndarray, StoredPixels[np.ndarray] | None]:
        """The labels of a pseudo-label store, (H, W) uint8, 255 where unreliable."""
        return self.store.read(video, "pseudo_label", index), None


class PredictedFrames(StoreFrames):
    """Everything that a prediction store says of a frame, with the ``kept`` likeliest classes."""

    def __init__(self, path: Path, kept: int) -> None:
        super().__init__(path)
        self._kept = kept

    def __call__(self, video: str, index: int) -> tuple[np.ndarray, StoredPixels[np.ndarray]]:
        """The likeliest class of every pixel, and the other stored values on the store's grid."""
        store = self.store
        if store.encoding.keep == "all":
            ranked, probabilities = store.lists(video, index)
            level = quantise(probabilities[:1], 1)
        else:
            ranked, level = store.read(video, "top_class", index), store.read(video, "top_probability", index)
        entropy = store.read(video, "entropy", index)
        return store.label(video, index), StoredPixels(entropy, level[0], ranked[: self._kept])


@dataclass(frozen=True)
class UnlabelledData:
    """Unlabelled frames, the meaning of a prediction store's values if one is read, and the stores that are read."""

    frames: UnlabelledFrames
    meaning: StoreMeaning | None = None
    stores: tuple[Store, ...] = ()

    def require_images(self, digests: Digests) -> None:
        """Refuse images that have changed since the labels were made, as far as the stores record their content.

        Raises
        ------
        VssError
            Images have changed; names the first video.
        """
        for store in self.stores:
            for video in self.frames.videos:
                made_from = store.record(video.name).frames
                if made_from and made_from != digests.video(video):
                    raise VssError(
                        f"the images of video {video.name} have changed since {store.path} was made",
                        "run the same `vss pseudo` command again: it makes pseudo-labels for the current images",
                    )


def pseudo_label_path(recipe: Recipe, given: Path | None) -> Path | None:
    """The pseudo-label store that a recipe learns from: the given one, else its own; None if it uses none.

    Raises
    ------
    VssError
        The recipe needs a store and none is named, or one is given that it would not use.
    """
    if recipe.unlabelled is None:
        if given is not None:
            raise VssError(
                f"recipe {recipe.name} has no `unlabelled` section, so {given} would not be used",
                "add `unlabelled: {weight: 1.0}` to the recipe, or leave out --pseudo",
            )
        return None
    if recipe.unlabelled.teacher == "ema":
        if given is not None:
            raise VssError(
                f"recipe {recipe.name} has unlabelled.teacher ema, which labels frames itself: {given} would not be "
                "used",
                "leave out --pseudo, or set unlabelled.teacher=store",
            )
        return None
    if given is None and recipe.unlabelled.pseudo_labels is None:
        raise VssError(
            f"recipe {recipe.name} learns from pseudo-labels, but names no store",
            "make one with `vss pseudo --models t.pt s.pt --tta`, then add --pseudo STORE",
        )
    return given or Path(str(recipe.unlabelled.pseudo_labels))


def open_unlabelled(
    recipe: Recipe, dataset: Dataset, given: Path | None, talk: Talk = SILENCE
) -> UnlabelledData | None:
    """The unlabelled frames that a recipe learns from; None if it has no `unlabelled` section.

    Raises
    ------
    VssError
        As `pseudo_label_path`; there are no unlabelled frames, or fewer than two classes; the store is of another kind,
        has other classes or frames than the data set, has no reliable pixel, or keeps too little for the contrast.
    """
    path = pseudo_label_path(recipe, given)
    if recipe.unlabelled is None:
        return None
    if dataset.table.num_classes < 2:
        raise VssError(
            f"{dataset.name} has only the class {dataset.table.names[0]!r}, so unlabelled frames would teach nothing",
            "add a class for everything else, or leave `unlabelled` out of the recipe",
        )
    if path is None:
        return UnlabelledData(UnlabelledFrames(dataset.split("unlabelled"), None))
    store = open_store(path)
    if store.header.kind != "pseudo":
        raise VssError(f"{path} is a {store.header.kind} store, not pseudo-labels", "threshold it: vss pseudo --store")
    if store.header.table.names != dataset.table.names:
        raise VssError(
            f"{path} labels {store.header.table.num_classes} classes of {store.header.table.name!r}, "
            f"the data set has {dataset.table.num_classes} of {dataset.table.name!r}",
            "make pseudo-labels with networks of this class table",
        )
    videos = dataset.split(store.header.split(path))
    _require_frames(store, videos, dataset)
    contrast, narrowing = recipe.unlabelled.contrast, recipe.unlabelled.split == "narrowing"
    _require_reliable(store, videos, contrast=contrast is not None and not narrowing, talk=talk)
    weighed = recipe.unlabelled.pixel_weights == "certainty"
    if contrast is None and not narrowing and not weighed:
        return UnlabelledData(UnlabelledFrames(videos, StoreFrames(path)), stores=(store,))
    source = open_source(store)
    _require_frames(source, videos, dataset)
    keep, classes = source.encoding, dataset.table.num_classes
    kept = classes if keep.keep == "all" else min(keep.kept, classes)
    if contrast is None:
        kept = 0
    else:
        ranks = rank_bounds(contrast, classes, kept)
        kept = min(kept, ranks.listed)
        if ranks.high < classes and keep.keep != "all" and keep.drop > 0:
            talk.warn(
                f"{source.path} lists no class less likely than {keep.drop:g}: classes ranked from {ranks.low} to "
                f"{ranks.high - 1} are likely for an unreliable pixel, so they make poor negatives (leave "
                "unlabelled.contrast.high_rank out, or predict with store.drop: 0)"
            )
    levels = store.header.source.get("class_levels") or [store.header.source["level"]]
    meaning = StoreMeaning(tuple(map(int, levels)), kept)
    return UnlabelledData(UnlabelledFrames(videos, PredictedFrames(source.path, kept)), meaning, (store, source))


def _require_frames(store: Store, videos: list[FolderVideo], dataset: Dataset) -> None:
    complete = set(store.videos())
    for video in videos:
        if video.name not in complete:
            raise VssError(
                f"{store.path} lacks video {video.name}", "run the same `vss pseudo` command again, which adds it"
            )
        if store.stems(video.name) != video.stems:
            raise VssError(
                f"{store.path} has other frames of video {video.name} than {dataset.root}",
                "make pseudo-labels for the current frames",
            )
        if store.size(video.name) != video.size:
            (height, width), (there, across) = store.size(video.name), video.size
            raise VssError(
                f"{store.path} has video {video.name} in {width}x{height}, its frames in {dataset.root} are "
                f"{across}x{there} (width x height)",
                "make pseudo-labels for the current frames",
            )


def _require_reliable(store: Store, videos: list[FolderVideo], *, contrast: bool, talk: Talk) -> None:
    """Refuse a store without any reliable pixel, and warn of what else could not be learned from it.

    A sample of frames is read; the others only if none of these has a reliable pixel, until one has.
    """
    frames = [(video.name, number) for video in videos for number in range(len(video.stems))]
    some = {round(i * (len(frames) - 1) / max(SAMPLED - 1, 1)) for i in range(SAMPLED)}
    pixels = np.zeros(256, np.int64)
    for i in sorted(some):
        pixels += _labels_counted(store, *frames[i])
    if not pixels[:IGNORE].any() and not any(_labels_counted(store, *frame)[:IGNORE].any() for frame in frames):
        raise VssError(
            f"{store.path} has no reliable pixel: all entropies are above {store.header.source['threshold']:.4f}",
            "threshold the predictions again, with a higher --threshold or --percentile",
        )
    where = f"in the {len(some)} of {len(frames)} frames of {store.path} that were sampled"
    classes = np.flatnonzero(pixels[:IGNORE])
    if len(classes) == 1:
        talk.warn(
            f"all reliable pixels {where} are {store.header.table.names[classes[0]]}: unlabelled frames will teach no "
            "other class"
        )
    if contrast and not pixels[IGNORE]:
        talk.warn(f"all pixels {where} are reliable: unlabelled frames will give no negatives to the contrast")


def _labels_counted(store: Store, video: str, index: int) -> np.ndarray:
    return np.bincount(store.read(video, "pseudo_label", index).reshape(-1), minlength=256)
