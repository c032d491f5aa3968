"""Where labels that are handed out come from: a prediction store, or a folder of masks; frame after frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.classes import IGNORE, ClassTable
from vsscli.data.folders import read_list, some
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.masks import MaskIds, decode_mask, noted_classes, to_classes
from vsscli.data.numbering import in_time
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import composed
from vsscli.data.videos import Frame
from vsscli.errors import VssError
from vsscli.exchange.items import Item
from vsscli.exchange.matching import skips_numbers
from vsscli.pipeline.frames import every_video
from vsscli.pipeline.predicted import noted_dataset, warn_of_missing
from vsscli.recipes.schema import Recipe
from vsscli.store.header import read_header
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import place_of

UNSURE_COLOUR = (255, 0, 255)


@dataclass(frozen=True)
class Selection:
    """What is handed out of a prediction.

    Parameters
    ----------
    frames
        A list of ``<video>/<stem>``, or of videos; None for all.
    min_certainty
        Pixels whose certainty, 1 minus the normalised entropy, is below are not handed out as they are.
    unsure
        The name of the class that they become; empty: void.
    flat
        Whether files are named ``<video>_<stem>`` instead of being in folders.
    """

    frames: Path | None = None
    min_certainty: float | None = None
    unsure: str = ""
    flat: bool = False


@dataclass(frozen=True)
class Outgoing:
    """The classes, the number of frames, and the frames: each a call that reads it, to be made in order; and of which
    videos the data set's frames skip numbers."""

    table: ClassTable
    frames: int
    items: Iterator[Callable[[], Item]]
    skipping: tuple[str, ...]


def outgoing(path: Path, selection: Selection, context: Context, recipe: Recipe | None, *, images: bool) -> Outgoing:
    """Open a prediction for handing it out.

    Parameters
    ----------
    path
        A prediction store, or a folder of ``<video>/<stem>.png`` index masks.
    selection
        What of it.
    context, recipe
        Where frames lie, for the names of their files; and, for masks that don't name their classes, what these are.
    images
        Whether the frames of the data set are needed.

    Raises
    ------
    VssError
        There is no prediction, no frame is left, or a frame's image is needed and not at hand.
    """
    path = place_of(path)
    if not path.exists():
        raise VssError(f"no prediction at {path}", "name a store, or a folder that holds <video>/<stem>.png")
    if selection.min_certainty is not None and not 0 <= selection.min_certainty <= 1:
        raise VssError(f"--min-certainty {selection.min_certainty}", "give a number from 0 to 1")
    if (path / "zarr.json").is_file():
        return _of_store(open_store(path), selection, context, images=images)
    return _of_folder(path, selection, context, recipe, images=images)


def _of_store(store: Store, selection: Selection, context: Context, *, images: bool) -> Outgoing:
    header = read_header(store.path)
    if header.kind == "pseudo":
        raise VssError(f"{store.path} holds pseudo-labels, not predictions", "name the store that they were made from")
    if selection.frames is None:
        warn_of_missing(store, context)
    table, unsure = _with_unsure(header.table, selection)
    try:
        known = _frames_of(noted_dataset(store.path, header, context.data_root))
    except VssError:
        if images:
            raise
        known = {}  # names of files are all that is lost
    there = {f"{video}/{stem}": (video, t) for video in store.videos() for t, stem in enumerate(store.stems(video))}
    chosen = _chosen(list(there), selection.frames, store.path)

    def read(address: str) -> Item:
        video, t = there[address]
        label = store.label(video, t)
        if selection.min_certainty is not None:
            label = np.where(1 - store.entropy(video, t) < selection.min_certainty, np.uint8(unsure), label)
        number, frame = known.get(composed(address), (t, None))
        return Item(video, address[len(video) + 1 :], label, number, frame, selection.flat)

    return _outgoing(table, chosen, read, known)


def _of_folder(path: Path, selection: Selection, context: Context, recipe: Recipe | None, *, images: bool) -> Outgoing:
    if selection.min_certainty is not None:
        raise VssError(f"{path} holds masks, which do not say how sure they are", "name a prediction store with --pred")
    dataset = None
    if recipe is not None or context.data_root is not None:
        data = recipe.data if recipe is not None else plain_data(context.data_root or Path())
        dataset = open_dataset(data, context.data_root)
    masks = _masks_in(path)
    if not masks:
        raise VssError(f"no predictions in {path}", "name a store, or a folder that holds <video>/<stem>.png")
    table = dataset.table if dataset is not None else noted_classes(next(iter(masks.values()))[1])
    ids = MaskIds((IGNORE,), 0, legend=legend_of(table))
    known = {} if dataset is None else _frames_of(dataset)
    if images and not known:
        raise VssError(f"the frames of {path} are not at hand", "name their data set with --data or --recipe")
    chosen = _chosen(list(masks), selection.frames, path)

    def read(address: str) -> Item:
        place, mask = masks[address]
        label = to_classes(decode_mask(mask, ids.legend).values, ids, table.num_classes, mask)
        number, frame = known.get(composed(address), (place, None))
        return Item(mask.parent.name, mask.stem, label, number, frame, selection.flat)

    return _outgoing(table, chosen, read, known)


def _masks_in(path: Path) -> dict[str, tuple[int, Path]]:
    """The masks of a folder by their addresses, video by video and in the order of time, with their places there."""
    videos: dict[str, dict[str, Path]] = {}
    for mask in sorted(path.glob("*/*.png")):
        videos.setdefault(mask.parent.name, {})[mask.stem] = mask
    return {
        f"{video}/{stem}": (place, masks[stem])
        for video, masks in videos.items()
        for place, stem in enumerate(in_time(masks))
    }


def _outgoing(
    table: ClassTable, chosen: Sequence[str], read: Callable[[str], Item], known: dict[str, tuple[int, Frame]]
) -> Outgoing:
    stems: dict[str, list[str]] = {}
    for _, frame in known.values():
        stems.setdefault(composed(frame.video), []).append(frame.stem)
    videos = dict.fromkeys(address.rpartition("/")[0] for address in chosen)
    skipping = tuple(video for video in videos if skips_numbers(stems.get(composed(video), ())))
    return Outgoing(table, len(chosen), (partial(read, address) for address in chosen), skipping)


def _with_unsure(table: ClassTable, selection: Selection) -> tuple[ClassTable, int]:
    """The table with the class of unsure pixels, and its index; 255 where they are void."""
    if not selection.unsure:
        return table, IGNORE
    if selection.min_certainty is None:
        raise VssError("--unsure names a class for pixels below --min-certainty", "give --min-certainty as well")
    names, colours = (*table.names, selection.unsure), (*table.colours, UNSURE_COLOUR)
    return replace(table, names=names, colours=colours), table.num_classes


def _frames_of(dataset: Dataset) -> dict[str, tuple[int, Frame]]:
    """The frames of a data set that have an image, with their numbers in the video, by addresses in composed form."""
    return {
        composed(frame.address): (number, frame)
        for video in every_video(dataset)
        for number, frame in enumerate(video.frames)
        if frame.image is not None
    }


def _chosen(there: list[str], listed: Path | None, path: Path) -> list[str]:
    """The frames that a list names, in the order of the prediction."""
    if not there:
        raise VssError(f"{path} holds no complete video yet", "let the command that makes it finish")
    if listed is None:
        return there
    wanted = {composed(entry) for entry in read_list(listed)}
    kept = [address for address in there if wanted & {composed(address), composed(address.rpartition("/")[0])}]
    known = {name for address in there for name in (composed(address), composed(address.rpartition("/")[0]))}
    strange = sorted(wanted - known)
    if strange:
        raise VssError(
            f"{listed} lists {some(strange)}, which {path} does not hold",
            "list frames as <video>/<stem>, or whole videos, of the prediction",
        )
    return kept
