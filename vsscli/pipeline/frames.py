"""Every frame of a data set, whatever splits it is in; and frames of data sets and stores by their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vsscli.data.clips import ALL
from vsscli.data.layouts import Dataset
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.store.reader import Store


def every_video(dataset: Dataset) -> list[FolderVideo]:
    """The videos of all splits that a data set's recipe names, and of ``train``, ``val`` and ``test``, each once.

    Raises
    ------
    VssError
        There is none of these splits; or one can't be read.
    """
    recipe = dataset.recipe
    splits = dict.fromkeys([*recipe.train_splits, recipe.val, *recipe.unlabelled, "train", "val", "test"])
    if recipe.layout == "files":
        splits = {ALL: None}  # its other splits may share a video
    found: dict[str, FolderVideo] = {}
    for split in splits:
        if dataset.has(split):
            for video in dataset.split(split):
                found.setdefault(composed(video.name), video)
    if not found:
        raise VssError(
            f"{dataset.name}: {dataset.root} has none of the splits {', '.join(splits)}", "name another --data"
        )
    return list(found.values())


def every_frame(dataset: Dataset) -> Iterator[Frame]:
    """The frames of `every_video`."""
    for video in every_video(dataset):
        yield from video.frames


def by_address(videos: Iterable[FolderVideo]) -> dict[str, tuple[FolderVideo, int]]:
    """The frames of videos by the composed forms of their addresses: the video of each, and its number in that."""
    return {composed(frame.address): (video, t) for video in videos for t, frame in enumerate(video.frames)}


def in_store(store: Store) -> dict[str, tuple[str, int]]:
    """The frames of a store's complete videos, likewise: the video as the store spells it, and the number in that."""
    videos = {name: store.stems(name) for name in store.videos()}
    return {composed(f"{name}/{stem}"): (name, t) for name, stems in videos.items() for t, stem in enumerate(stems)}
