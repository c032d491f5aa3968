"""Pictures of predictions, drawn over the frames of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.classes import ClassTable
from vsscli.data.clips import ALL as ALL_SPLITS
from vsscli.data.masks import to_classes
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.pipeline.frames import every_video
from vsscli.pipeline.predicted import Predicted, open_predicted
from vsscli.pipeline.workspace import find_stores, with_unreadable
from vsscli.report.film import FPS, LOSSLESS, Film
from vsscli.report.overlay import coloured, overlay, save_picture
from vsscli.store.header import read_header
from vsscli.store.reader import Store, open_store

FILMS = (".mp4", LOSSLESS)


def draw_pictures(
    store: Path,
    out: Path,
    *,
    context: Context = Context(),
    video: str | None = None,
    videos: int = 1,
    frames: int = 4,
    every: int | None = None,
    stems: Sequence[str] = (),
) -> list[Path]:
    """Draw frames of a prediction: the labels, the mask if there is one, and the entropy if it is known.

    Parameters
    ----------
    store
        A prediction or a fusion, or a folder of ``<video>/<stem>.png`` masks.
    out
        Folder for ``<video>-<stem>.png``.
    context
        Its data root is where the frames are; `None`: where they were when they were predicted.
    video
        Draw frames of this video.
    videos
        Without ``video``: number of videos, evenly spaced among those of the prediction.
    frames
        Pictures per video, evenly spaced.
    every, stems
        Every n-th frame of each video instead, or the frames of these names.

    Returns
    -------
    list of Path
        The pictures, in the order of videos and frames.

    Raises
    ------
    VssError
        The prediction has no such video or frame or none at all, or the data set's frames are not those that were
        predicted.
    """
    shown = _open(store, context)
    chosen = [(one, stem) for one in shown.chosen(video, videos) for stem in shown.frames(one, frames, every, stems)]
    pictures = [out / f"{name}-{stem}.png" for name, stem in chosen]
    with context.talk.track("draw", len(chosen), "picture") as advance:
        for (name, stem), path in zip(chosen, pictures, strict=True):
            image, label, entropy, truth = shown.read(name, stem)
            save_picture(path, overlay(image, label, entropy, truth, shown.table))
            advance(1)
    return pictures


def draw_film(
    store: Path,
    out: Path,
    *,
    context: Context = Context(),
    video: str | None = None,
    every: int = 1,
    fps: float = FPS,
) -> Path:
    """Draw a video of a prediction as a video file: labels over the frames, as `draw_pictures` draws them.

    Parameters
    ----------
    store, context, video, every
        As for `draw_pictures`; without ``video``, the prediction's first.
    out
        The file: ``.mp4``, or ``.mkv`` for one without loss.
    fps
        Frames per second.

    Raises
    ------
    VssError
        As `draw_pictures`; or the file has another suffix, or can't be written.
    """
    if out.suffix.lower() not in FILMS:
        raise VssError(f"{out} is no name of a video file", f"end it with {' or '.join(FILMS)}")
    shown = _open(store, context)
    name = shown.chosen(video, len(shown.stems))[0]
    stems = shown.frames(name, 0, every, ())
    size = shown.read(name, stems[0])[1].shape
    with Film(out, (size[0], size[1]), fps) as film, context.talk.track("draw", len(stems)) as advance:
        for stem in stems:
            image, label, _, _ = shown.read(name, stem)
            film.add(coloured(image, label, shown.table))
            advance(1)
    return out


def newest_prediction(workspace: Path) -> Path:
    """The newest prediction or fusion in the workspace, of any split.

    Raises
    ------
    VssError
        There is none.
    """
    for path in find_stores(workspace):
        if read_header(path).kind != "pseudo":
            return path
    hint = with_unreadable("make one with `vss predict`, or name one with --store", workspace)
    raise VssError(f"no prediction store in {workspace}", hint)


def spread(items: Sequence[str], count: int) -> list[str]:
    """``count`` of the items, evenly spaced; all if there are fewer."""
    count = min(count, len(items))
    return [items[(2 * pick + 1) * len(items) // (2 * count)] for pick in range(count)]


@dataclass(frozen=True)
class _Shown:
    """A prediction with its frames: what is predicted, and the names of predicted frames by video."""

    predicted: Predicted
    store: Store | None
    folders: Mapping[str, FolderVideo]
    stems: Mapping[str, Sequence[str]]

    @property
    def table(self) -> ClassTable:
        return self.predicted.dataset.table if self.store is None else self.store.header.table

    def chosen(self, video: str | None, count: int) -> list[str]:
        """The videos to draw."""
        there = list(self.stems)
        if not there:
            raise VssError(f"{self.predicted.path} holds no complete video yet", "let the command that makes it finish")
        if video is None:
            return spread(there, count)
        if video not in there:
            more = f" and {len(there) - 8} more" if len(there) > 8 else ""
            what = f"{self.predicted.path} holds no video {video!r}"
            raise VssError(what, f"it holds {', '.join(there[:8])}{more}")
        return [video]

    def frames(self, video: str, count: int, every: int | None, named: Sequence[str]) -> list[str]:
        """The frames of a video to draw."""
        there = list(self.stems[video])
        missing = [stem for stem in named if stem not in there]
        if missing:
            what = f"{self.predicted.path} holds no frame {video}/{missing[0]}"
            raise VssError(what, f"its frames are {there[0]} to {there[-1]}")
        return list(named) or (spread(there, count) if every is None else there[::every])

    def read(self, name: str, stem: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """A frame's image, label, entropy and mask."""
        path, dataset, folder = self.predicted.path, self.predicted.dataset, self.folders.get(name)
        if folder is None or stem not in folder.stems:
            raise VssError(
                f"{path} predicts frame {name}/{stem}, which is not in {dataset.root}",
                "name the folder of the predicted data with --data",
            )
        place, labels = folder.stems.index(stem), self.predicted.labels
        image, mask = folder.read(place), folder.frames[place].mask
        label = labels.label(name, place, stem)
        truth = None
        if mask is not None:
            truth = to_classes(dataset.ids.read(mask), dataset.ids, dataset.table.num_classes, mask)
        for what, size in (("prediction", label.shape), ("mask", None if truth is None else truth.shape)):
            if size is not None and size != image.shape[:2]:
                raise VssError(
                    f"the {what} of {name}/{stem} is {size[1]}x{size[0]}, "
                    f"its frame in {dataset.root} {image.shape[1]}x{image.shape[0]} (width x height)",
                    "name the folder of the data that was predicted with --data; `vss doctor` finds odd masks",
                )
        return image, label, labels.entropy(name, stem) if isinstance(labels, StoreLabels) else None, truth


def _open(path: Path, context: Context) -> _Shown:
    predicted = open_predicted(path, data_root=context.data_root, split=None, recipe=None, otherwise=ALL_SPLITS)
    store = None if predicted.header is None else open_store(predicted.path)
    if store is not None:
        folders = predicted.dataset.split(predicted.split)
        return _Shown(predicted, store, _by_name(folders), {name: store.stems(name) for name in store.videos()})
    folders = every_video(predicted.dataset)
    labels = predicted.labels
    assert isinstance(labels, FolderLabels)
    there = {folder.name: [stem for stem in folder.stems if labels.size(folder.name, stem)] for folder in folders}
    return _Shown(predicted, None, _by_name(folders), {name: stems for name, stems in there.items() if stems})


def _by_name(videos: Sequence[FolderVideo]) -> dict[str, FolderVideo]:
    return {video.name: video for video in videos}
