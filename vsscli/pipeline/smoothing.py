"""Smoothing a store along time, with the frames it was predicted from if they are available."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.content import Digests
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import LOCAL, Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.errors import VssError
from vsscli.fusion.temporal import Reader, smooth
from vsscli.pipeline.predicted import open_predicted
from vsscli.pipeline.workspace import Begin, unheard
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import beside


def smooth_store(
    path: Path,
    reach: int,
    out: Path | None = None,
    *,
    context: Context = Context(),
    split: str | None = None,
    engine: Engine = LOCAL,
    part: Part = WHOLE,
    force: bool = False,
    begin: Begin = unheard,
) -> Path:
    """Average every frame of a store with its neighbours, along the optical flow if the frames are available.

    Parameters
    ----------
    path
        Predictions or a fusion.
    reach
        Number of frames before and after.
    out
        The store to write; `None`: beside ``path``.
    context, split
        The data root and split of the frames, if not those that the store names.
    engine
        Where videos are smoothed.
    part
        Which share of the videos.
    force
        As for :func:`vsscli.fusion.temporal.smooth`.
    begin
        Called with the place of the result before anything is written there.

    Raises
    ------
    VssError
        The store can't be smoothed; or the context names a data root without these frames.
    """
    store = open_store(path)
    try:
        reader = _reader(store, context.data_root, split)
    except VssError as error:
        if context.data_root is not None:
            raise
        context.talk.warn(f"without motion: {error.message}")
        reader = None
    target = out or beside(path, f".temporal-{reach}{'' if reader else '-still'}.zarr")
    begin(target, [path])
    return smooth(store, reach, target, reader=reader, talk=context.talk, engine=engine, part=part, force=force)


@dataclass(frozen=True)
class _Frames:
    """Reads frames by video and number; `videos` by the composed forms of their names."""

    videos: Mapping[str, FolderVideo]

    def __call__(self, video: str, t: int) -> np.ndarray:
        return self.videos[composed(video)].read(t)


def _reader(store: Store, data_root: Path | None, split: str | None) -> Reader:
    found = open_predicted(store.path, data_root=data_root, split=split, recipe=None, otherwise="val")
    videos = {composed(video.name): video for video in found.dataset.split(found.split)}
    digests = Digests()
    for name in store.videos():
        video = videos.get(composed(name))
        if video is None or [*map(composed, video.stems)] != [*map(composed, store.stems(name))]:
            what = f"{found.dataset.root} has other frames of video {name} than {store.path}"
            raise VssError(what, "add --data ROOT")
        predicted_from = store.record(name).frames
        if predicted_from and predicted_from != digests.video(video):
            raise VssError(
                f"the frames of video {name} in {found.dataset.root} have changed since {store.path} was predicted",
                "predict them again (the same `vss predict` command), or add --data ROOT",
            )
    return _Frames(videos)
