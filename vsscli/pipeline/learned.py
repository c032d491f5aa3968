"""Which frames a network was trained on, or weights were fitted on: figures on them say less about new video.

A prediction store notes what its networks were trained on (`learned_note`), a fusion what its weights were fitted on.
The frames are recognised by their files, and by content if a list names them differently.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from vsscli.data.config import Data
from vsscli.data.content import Digests
from vsscli.data.layouts import Dataset, open_dataset
from vsscli.data.overlap import shared_videos
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.recipes.schema import Recipe
from vsscli.store.header import Header

if TYPE_CHECKING:
    from vsscli.models.checkpoints import Checkpoint


def learned_note(checkpoint: Checkpoint, recipe: Recipe) -> dict[str, Any]:
    """What a store's header notes of a network's training: its labelled data sets, if vss trained it."""
    if not checkpoint.step:
        return {}
    return {"learned": [data.model_dump(mode="json") for data in (recipe.data, *(other.data for other in recipe.also))]}


def learned_frames(header: Header, dataset: Dataset, frames: Sequence[Frame]) -> list[Frame]:
    """Those of the given frames that the networks behind a store were trained on with labels.

    Parameters
    ----------
    header
        Header of the store.
    dataset, frames
        The data set that is scored, and those of its frames that have a mask.

    Returns
    -------
    list of Frame
        Empty if the store does not note it, or the training data can't be found.
    """
    noted = header.data.get("learned", ())
    return _among(frames, [video for data in noted for video in _videos(data, "labelled", dataset)])


def chosen_frames(header: Header, dataset: Dataset, frames: Sequence[Frame]) -> list[Frame]:
    """Those of the given frames that the weights of a fusion were fitted on; see `learned_frames`."""
    noted = [one for one in header.data.get("chosen_on", ()) if isinstance(one, dict)]
    return _among(frames, [v for one in noted for v in _videos(one.get("data"), str(one.get("split")), dataset)])


def without_masks(videos: Sequence[FolderVideo], frames: Sequence[Frame]) -> list[FolderVideo]:
    """The videos without the masks of some frames, so that only the others are scored."""
    addresses = {frame.address for frame in frames}

    def shown(frame: Frame) -> Frame:
        return replace(frame, mask=None) if frame.address in addresses else frame

    return [FolderVideo(video.name, tuple(map(shown, video.frames))) for video in videos]


def _among(frames: Sequence[Frame], videos: Sequence[FolderVideo]) -> list[Frame]:
    """The frames that are among those of some videos, by file, or by content if they are named differently."""
    places = {_place(frame) for video in videos for frame in video.frames} - {None}
    found = [_place(frame) in places for frame in frames]
    by_video: dict[str, list[Frame]] = {}
    for frame, known in zip(frames, found, strict=True):
        if not known:
            by_video.setdefault(frame.video, []).append(frame)
    rest = [FolderVideo(name, tuple(own)) for name, own in by_video.items()]
    alike = {shared.name for shared in shared_videos(rest, videos, Digests())}
    return [frame for frame, known in zip(frames, found, strict=True) if known or frame.video in alike]


def learned_remark(learned: int, judged: int) -> str:
    """The warning for figures on frames that were trained on; empty if there are none."""
    if not learned:
        return ""
    return f"{learned} of {judged} frames with masks were trained on: figures on them say nothing about new video"


def chosen_remark(chosen: int, judged: int) -> str:
    """The warning for figures of a fusion whose weights were fitted on what is scored; empty if they were not."""
    if not chosen:
        return ""
    return f"weights were fitted on {chosen} of {judged} frames with masks: they were chosen on what is reported"


def _videos(values: Any, split: str, dataset: Dataset) -> list[FolderVideo]:
    """The videos of a noted split; none if it can't be read. The data set that is scored is read where it is now."""
    try:
        data = Data.model_validate(values)
        return open_dataset(data, dataset.root if data.name == dataset.name else None, noted=True).split(split)
    except (ValidationError, VssError):
        return []


def _place(frame: Frame) -> tuple[int, int, int | None] | None:
    """Where a frame's image is; `None` if that can't be read."""
    if frame.image is None:
        return None
    try:
        status = os.stat(frame.image)
    except OSError:
        return None
    return status.st_dev, status.st_ino, frame.number
