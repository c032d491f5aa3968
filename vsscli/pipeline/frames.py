"""Every frame of a data set, whatever splits it is in."""

from __future__ import annotations

from collections.abc import Iterator

from vsscli.data.clips import ALL
from vsscli.data.layouts import Dataset
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError


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
