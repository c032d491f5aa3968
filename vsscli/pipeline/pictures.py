"""Pictures of predictions, drawn over the frames of the data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vsscli.context import Context
from vsscli.data.layouts import Dataset
from vsscli.data.masks import to_classes
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.pipeline.predicted import noted_dataset
from vsscli.pipeline.workspace import find_stores, with_unreadable
from vsscli.report.overlay import overlay, save_picture
from vsscli.store.header import read_header
from vsscli.store.reader import Store, open_store


def draw_pictures(
    store: Path,
    out: Path,
    *,
    context: Context = Context(),
    video: str | None = None,
    videos: int = 1,
    frames: int = 4,
) -> list[Path]:
    """Draw frames of a store: prediction, mask if there is one, and entropy.

    Parameters
    ----------
    store
        A prediction or a fusion.
    out
        Folder for ``<video>-<stem>.png``.
    context
        Its data root is where the frames are; `None`: where they were when they were predicted.
    video
        Draw frames of this video.
    videos
        Without ``video``: number of videos, evenly spaced among those of the store.
    frames
        Pictures per video, evenly spaced.

    Returns
    -------
    list of Path
        The pictures, in the order of videos and frames.

    Raises
    ------
    VssError
        The store has no such video or none at all, or the data set's frames are not those that were predicted.
    """
    opened = open_store(store)
    if opened.header.kind == "pseudo":
        raise VssError(f"{store} holds pseudo-labels, not predictions", "name the store that they were made from")
    dataset = noted_dataset(opened.path, opened.header, context.data_root)
    folders = {folder.name: folder for folder in dataset.split(opened.header.split(store))}
    places = [(name, stem) for name in _chosen(opened, video, videos) for stem in spread(opened.stems(name), frames)]
    pictures = [out / f"{name}-{stem}.png" for name, stem in places]
    with context.talk.track("draw", len(places), "picture") as advance:
        for (name, stem), path in zip(places, pictures, strict=True):
            _draw(opened, dataset, folders.get(name), name, stem, path)
            advance(1)
    return pictures


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


def _chosen(store: Store, video: str | None, count: int) -> list[str]:
    there = store.videos()
    if not there:
        raise VssError(f"{store.path} holds no complete video yet", "let the command that makes it finish")
    if video is None:
        return spread(there, count)
    if video not in there:
        more = f" and {len(there) - 8} more" if len(there) > 8 else ""
        raise VssError(f"{store.path} holds no video {video!r}", f"it holds {', '.join(there[:8])}{more}")
    return [video]


def _draw(store: Store, dataset: Dataset, folder: FolderVideo | None, name: str, stem: str, path: Path) -> None:
    if folder is None or stem not in folder.stems:
        raise VssError(
            f"{store.path} predicts frame {name}/{stem}, which is not in {dataset.root}",
            "name the folder of the predicted data with --data",
        )
    place, index = folder.stems.index(stem), store.stems(name).index(stem)
    image, mask = folder.read(place), folder.frames[place].mask
    label = store.label(name, index)
    ids = dataset.ids
    truth = None if mask is None else to_classes(ids.read(mask), ids, dataset.table.num_classes, mask)
    for what, size in (("prediction", label.shape), ("mask", None if truth is None else truth.shape)):
        if size is not None and size != image.shape[:2]:
            raise VssError(
                f"the {what} of {name}/{stem} is {size[1]}x{size[0]}, "
                f"its frame in {dataset.root} {image.shape[1]}x{image.shape[0]} (width x height)",
                "name the folder of the data that was predicted with --data; `vss doctor` finds odd masks",
            )
    save_picture(path, overlay(image, label, store.entropy(name, index), truth, store.header.table))
