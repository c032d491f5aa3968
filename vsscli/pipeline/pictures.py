"""Pictures of predictions, drawn over the frames of the data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.classes import ClassTable
from vsscli.data.clips import ALL as ALL_SPLITS
from vsscli.data.inputs import open_inputs
from vsscli.data.masks import MaskIds, noted_classes, to_classes
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import composed, respelled
from vsscli.data.video import VIDEO_SUFFIXES
from vsscli.data.videofile import FileVideo
from vsscli.data.videos import FolderVideo, Frame
from vsscli.errors import VssError
from vsscli.evaluation.labels import FolderLabels, StoreLabels
from vsscli.pipeline.frames import by_address, every_video
from vsscli.pipeline.predicted import open_predicted
from vsscli.report.film import FPS, LOSSLESS, Film
from vsscli.report.overlay import coloured, overlay, save_picture
from vsscli.store.reader import open_store

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
    width: int | None = None,
) -> list[Path]:
    """Draw frames of a prediction: the labels, the mask if there is one, and the entropy if it is known.

    Parameters
    ----------
    store
        A prediction or a fusion, or a folder of ``<video>/<stem>.png`` masks, as `vss predict --input` leaves them.
    out
        Folder for ``<video>/<stem>.png``.
    context
        Its data root is where the frames are; `None`: where they were when they were predicted. Of masks it may be
        what was predicted, too: a video file, or a folder of clips.
    video
        Draw frames of this video.
    videos
        Without ``video``: number of videos, evenly spaced among those of the prediction.
    frames
        Pictures per video, evenly spaced.
    every, stems
        Every n-th frame of each video instead, or the frames of these names.
    width
        The widest that pictures may be; panels that do not fit beside each other are below.

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
    pictures = [out / name / f"{stem}.png" for name, stem in chosen]
    with context.talk.track("draw", len(chosen), "picture") as advance:
        for (name, stem), path in zip(chosen, pictures, strict=True):
            image, label, entropy, truth = shown.read(name, stem)
            save_picture(path, overlay(image, label, entropy, truth, shown.table, width))
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


def spread(items: Sequence[str], count: int) -> list[str]:
    """``count`` of the items, evenly spaced; all if there are fewer."""
    count = min(count, len(items))
    return [items[(2 * pick + 1) * len(items) // (2 * count)] for pick in range(count)]


@dataclass(frozen=True)
class _Shown:
    """A prediction with its frames: labels and their classes, the folder of the frames and these by address, the names
    of predicted frames by video, and the meaning of masks."""

    path: Path
    labels: FolderLabels | StoreLabels
    table: ClassTable
    root: Path
    found: Mapping[str, tuple[FolderVideo, int]]
    stems: Mapping[str, Sequence[str]]
    ids: MaskIds | None

    def chosen(self, video: str | None, count: int) -> list[str]:
        """The videos to draw."""
        there = respelled(self.stems)
        if not there:
            raise VssError(f"{self.path} holds no complete video yet", "let the command that makes it finish")
        if video is None:
            return spread([*self.stems], count)
        if composed(video) not in there:
            more = f" and {len(there) - 8} more" if len(there) > 8 else ""
            what = f"{self.path} holds no video {video!r}"
            raise VssError(what, f"it holds {', '.join([*self.stems][:8])}{more}")
        return [there[composed(video)]]

    def frames(self, video: str, count: int, every: int | None, named: Sequence[str]) -> list[str]:
        """The frames of a video to draw."""
        there, known = list(self.stems[video]), respelled(self.stems[video])
        missing = [stem for stem in named if composed(stem) not in known]
        if missing:
            what = f"{self.path} holds no frame {video}/{missing[0]}"
            raise VssError(what, f"its frames are {there[0]} to {there[-1]}")
        return [known[composed(stem)] for stem in named] or (spread(there, count) if every is None else there[::every])

    def read(self, name: str, stem: str) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray | None]:
        """A frame's image, label, entropy and mask."""
        there = self.found.get(composed(f"{name}/{stem}"))
        if there is None:
            raise VssError(
                f"{self.path} predicts frame {name}/{stem}, which is not in {self.root}",
                "name the folder of the predicted data with --data",
            )
        (folder, place), labels = there, self.labels
        image, mask = folder.read(place), folder.frames[place].mask
        label = labels.label(name, place, stem)
        truth = None
        if mask is not None and self.ids is not None:
            truth = to_classes(self.ids.read(mask), self.ids, self.table.num_classes, mask)
        for what, size in (("prediction", label.shape), ("mask", None if truth is None else truth.shape)):
            if size is not None and size != image.shape[:2]:
                raise VssError(
                    f"the {what} of {name}/{stem} is {size[1]}x{size[0]}, "
                    f"its frame in {self.root} {image.shape[1]}x{image.shape[0]} (width x height)",
                    "name the folder of the data that was predicted with --data; `vss doctor` finds odd masks",
                )
        return image, label, labels.entropy(name, stem) if isinstance(labels, StoreLabels) else None, truth


def _open(path: Path, context: Context) -> _Shown:
    if context.data_root is not None and _are_clips(context.data_root) and not (path / "zarr.json").exists():
        return _of_clips(path, context.data_root)
    predicted = open_predicted(path, data_root=context.data_root, split=None, recipe=None, otherwise=ALL_SPLITS)
    path, labels, dataset = predicted.path, predicted.labels, predicted.dataset
    if isinstance(labels, FolderLabels):
        return _of_masks(path, labels, dataset.table, dataset.root, every_video(dataset), dataset.ids)
    store = open_store(path)
    frames = by_address(dataset.split(predicted.split))
    stems = {name: store.stems(name) for name in store.videos()}
    return _Shown(path, labels, store.header.table, dataset.root, frames, stems, dataset.ids)


def _of_clips(path: Path, clips: Path) -> _Shown:
    """Masks of what is in no data set. They name their classes themselves."""
    masks = sorted(path.glob("*/*.png"))
    if not masks:
        raise VssError(f"no predictions in {path}", "name a store, or a folder that holds <video>/<stem>.png")
    table = noted_classes(masks[0])
    videos = []
    for video in open_inputs([clips]):
        if isinstance(video, FileVideo):
            frames = (Frame(video.name, stem, video.path, number=number) for number, stem in enumerate(video.stems))
            videos.append(FolderVideo(video.name, tuple(frames)))
        elif isinstance(video, FolderVideo):
            videos.append(video)
    return _of_masks(path, FolderLabels(path, legend_of(table)), table, clips, videos, None)


def _of_masks(
    path: Path, labels: FolderLabels, table: ClassTable, root: Path, videos: Sequence[FolderVideo], ids: MaskIds | None
) -> _Shown:
    there = {video.name: [stem for stem in video.stems if labels.size(video.name, stem)] for video in videos}
    stems = {name: stems for name, stems in there.items() if stems}
    return _Shown(path, labels, table, root, by_address(videos), stems, ids)


def _are_clips(place: Path) -> bool:
    """Whether a place is a video file, or a folder that has some."""
    files = place.iterdir() if place.is_dir() else [place]
    return any(file.suffix.lower() in VIDEO_SUFFIXES and file.is_file() for file in files)
