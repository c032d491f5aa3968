"""Which of some frames a network has learned from: figures on them say nothing of new video.

A prediction store notes what its networks were trained on (`learned_note`); the frames are found again by their files,
and by content where a list calls them otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vsscli.data.config import Data
from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.overlap import shared_videos
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.models.checkpoints import Checkpoint
from vsscli.recipes.schema import Recipe
from vsscli.store.header import Header


def learned_note(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Any]:
    """What a store's header says of a network's training: its labelled data sets, if vss has trained it."""
    if not checkpoint.step:
        return {}
    return {"learned": [data.model_dump(mode="json") for data in (recipe.data, *(other.data for other in recipe.also))]}


def learned_frames(header: Header, dataset: Dataset, frames: Sequence[Frame]) -> int:
    """How many of some frames of a data set the networks behind a store were trained on with labels.

    Parameters
    ----------
    header
        Of the store.
    dataset, frames
        The data set that is scored, and those of its frames that have a mask.

    Returns
    -------
    int
        0 where the store does not note it, or the training data can't be found.
    """
    trained = [video for data in _noted(header) for video in _labelled(data, dataset)]
    places = {_place(frame.image) for video in trained for frame in video.frames} - {None}
    by_video: dict[str, list[Frame]] = {}
    found = 0
    for frame in frames:
        if _place(frame.image) in places:
            found += 1
        else:
            by_video.setdefault(frame.video, []).append(frame)
    rest = [FolderVideo(name, tuple(own)) for name, own in by_video.items()]
    return found + sum(len(by_video[shared.name]) for shared in shared_videos(rest, trained, Digests()))


def learned_remark(learned: int, judged: int) -> str:
    """The sentence that figures are marked with; empty where there is nothing to mark."""
    if not learned:
        return ""
    return f"{learned} of {judged} frames with masks were trained on: figures on them say nothing of new video"


def _noted(header: Header) -> Iterator[Data]:
    for values in header.data.get("learned", ()):
        try:
            yield Data.model_validate(values)
        except ValidationError:
            continue


def _labelled(data: Data, dataset: Dataset) -> list[FolderVideo]:
    """The frames with labels of a data set, which lies where the scored one does if it is the same."""
    try:
        root = dataset.root if data.name == dataset.name else None
        return open_dataset(data, root, noted=True).split("labelled")
    except VssError:
        return []


def _place(image: Path | None) -> tuple[int, int] | None:
    if image is None:
        return None
    try:
        status = os.stat(image)
    except OSError:
        return None
    return status.st_dev, status.st_ino
