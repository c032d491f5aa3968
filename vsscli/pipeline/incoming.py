"""From labels in another program's format to masks as vss writes them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np

from vsscli.context import Context
from vsscli.data.classes import IGNORE, ClassTable, load_class_table
from vsscli.data.folders import IMAGE_SUFFIXES, some
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.masks import MaskIds, read_mask, to_classes
from vsscli.data.palettes import legend_of
from vsscli.data.spelling import composed
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.exchange.catalogue import reader_of
from vsscli.exchange.guess import guess_format
from vsscli.exchange.items import Choices, Found, Item, Reading, Size
from vsscli.exchange.matching import (
    Matcher,
    Place,
    elsewhere_warning,
    is_elsewhere,
    skipping_warning,
    skips_numbers,
)
from vsscli.exchange.names import ClassNames
from vsscli.exchange.png import PngWriter, numbers_in, require_classes
from vsscli.exchange.sink import Sink
from vsscli.exchange.source import open_source_files
from vsscli.inside import require_folder
from vsscli.names import several
from vsscli.pipeline.frames import every_video, in_store
from vsscli.recipes.load import as_recipe
from vsscli.recipes.schema import Recipe
from vsscli.store.reader import open_store
from vsscli.talk import Talk

FOLDER = "folder"
"""The format that is looked for."""


@dataclass
class Imported:
    """What came of an import: the format, and frames by what became of them.

    ``changed`` has the number of pixels whose class is another than it was; ``unmatched`` the names of the source that
    are no frame's; ``left_out`` and ``remarks`` count what the reader left out, and decided. ``corrected`` has, of new
    frames that were predicted, the share of labelled pixels that were predicted otherwise.
    """

    out: Path
    form: str
    new: list[str] = field(default_factory=list)
    changed: dict[str, int] = field(default_factory=dict)
    unchanged: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    remarks: dict[str, int] = field(default_factory=dict)
    corrected: dict[str, float] = field(default_factory=dict)
    pixels: int = 0

    @property
    def frames(self) -> int:
        """Frames that got labels."""
        return len(self.new) + len(self.changed) + len(self.unchanged)


def import_labels(
    source: str | Path,
    out: str | Path,
    *,
    form: str = FOLDER,
    recipe: Recipe | str | Path | None = None,
    classes: str | None = None,
    changes: Mapping[str, str] | None = None,
    without: str | Collection[str] = (),
    first_frame: int | None = None,
    prediction: str | Path | None = None,
    dry_run: bool = False,
    context: Context = Context(),
) -> Imported:
    """Write the labels of a source as masks that name their classes, ``<out>/<video>/<stem>.png``.

    Parameters
    ----------
    source
        A zip, a folder or a file.
    out
        Folder for the masks. Those that are there already of the same frames are replaced where they differ.
    form
        A name of `vsscli.exchange.catalogue.FORMATS`, or "folder" to have it guessed.
    recipe
        The data set whose frames are meant, and its classes; without, the one under the context's data root.
    classes
        Class table, where there is no data set: then frames are called as the source calls them.
    changes
        What classes of the source are called here: each with a name of the table, or "ignore".
    without
        Files of the source, by their paths in it, that are not read.
    first_frame
        The number that the source gives the first frame of a video file; `None`: 1 if that is certain, because its
        numbers go up to that of a video's frames and never begin with 0, and otherwise 0.
    prediction
        A store that new labels are compared with, to say how much was corrected.
    dry_run
        Write nothing.
    context
        Hears of progress; its data root is the data set's.

    Raises
    ------
    VssError
        The source can't be read, has classes or colours that the table lacks, frames of another size, two entries for
        one frame, or none that is a frame of the data set.
    """
    source, out = Path(source), Path(out)
    require_folder(out, "--out")
    dataset = _dataset(recipe, context)
    if classes:
        table = load_class_table(classes, None if dataset is None else dataset.root)
    elif dataset is not None:
        table = dataset.table
    else:
        raise VssError(
            "which classes are these?", "name the data set, --recipe FILE or --data ROOT, or --classes TABLE"
        )
    names = ClassNames(table, changes)
    own = MaskIds((IGNORE,), 0, legend=legend_of(table))
    ids = own if dataset is None or classes or dataset.ids.reader is not None else dataset.ids
    frames = _Frames(dataset)
    before = _Before(frames.masks, dataset, table, own)
    predicted = _Predicted(prediction, table)
    with open_source_files(source) as files, _sink(out, dry_run) as sink:
        form = guess_format(files) if form == FOLDER else form
        if form == "png":
            require_classes(numbers_in(files), ids, table, source)
        reading = Reading(files.without(several(without)), names, ids)
        done, taken, by_number = Imported(out, form), dict[str, str](), set[str]()
        elsewhere: list[tuple[str, str]] = []
        writer = None if sink is None else PngWriter(sink, table, Choices())
        context.talk.say(f"reading {source} as {form}")

        def listed() -> Iterator[str]:
            for found in reader_of(form)(Reading(reading.source, names, ids)):
                if found.numbered is None:  # counted from 0
                    yield found.name

        frames.count_from(first_frame, listed, context.talk)
        with context.talk.track("import", 0, "frame") as advance:
            for found in reader_of(form)(reading):
                place = frames.find(found)
                if place is None:
                    done.unmatched.append(found.name)
                    continue
                if place.address in taken:
                    both = f"{taken[place.address]!r} and {found.name!r}"
                    raise VssError(f"{source} has {both} for frame {place.address}", "leave one of them out")
                taken[place.address] = found.name
                if found.numbered is not None:
                    by_number.add(place.video)
                elif dataset is not None and is_elsewhere(found.name, place):
                    elsewhere.append((found.name, place.address))
                label = found.draw(_size_of(found, place, source))
                changed = _count(done, place, label, before(place, out))
                if changed is None and (share := predicted.share(place, label)) is not None:
                    done.corrected[place.address] = share
                if writer is not None and (changed != 0 or not _goal(out, place).is_file()):
                    writer.add(Item(place.video, place.stem, label))
                advance(1)
    if skipping := [video for video in sorted(by_number) if skips_numbers(frames.stems.get(video, ()))]:
        context.talk.warn(skipping_warning(skipping))
    if elsewhere:
        context.talk.warn(elsewhere_warning(elsewhere))
    done.left_out, done.remarks = dict(reading.left_out), dict(reading.remarks)
    if not done.frames:
        raise _nothing(done, source, dataset)
    return done


def _dataset(recipe: Recipe | str | Path | None, context: Context) -> Dataset | None:
    if recipe is not None:
        return open_dataset(as_recipe(recipe).data, context.data_root, context.talk)
    return None if context.data_root is None else open_dataset(plain_data(context.data_root))


@contextmanager
def _sink(out: Path, dry_run: bool) -> Iterator[Sink | None]:
    if dry_run:
        yield None
        return
    with Sink(out / "", force=True) as sink:
        yield sink


class _Before:
    """The labels that a frame had: those that were imported before, else the data set's own."""

    def __init__(self, masks: dict[str, Path], dataset: Dataset | None, table: ClassTable, own: MaskIds) -> None:
        self._masks, self._dataset, self._table, self._own = masks, dataset, table, own

    def __call__(self, place: Place, out: Path) -> np.ndarray | None:
        goal, count = _goal(out, place), self._table.num_classes
        if goal.is_file():
            return to_classes(read_mask(goal, self._own.legend), self._own, count, goal)
        mask = self._masks.get(composed(place.address))
        if mask is None or self._dataset is None or self._dataset.table != self._table:
            return None
        return to_classes(self._dataset.ids.read(mask), self._dataset.ids, count, mask)


class _Predicted:
    """The labels that a store has for frames; none of other classes than the table's."""

    def __init__(self, path: str | Path | None, table: ClassTable) -> None:
        store = None if path is None else open_store(Path(path))
        self._store = store if store is not None and store.header.table.names == table.names else None
        self._places = {} if self._store is None else in_store(self._store)

    def share(self, place: Place, label: np.ndarray) -> float | None:
        """The share of labelled pixels that were predicted otherwise; `None` if the frame was not predicted, or was of
        another size then."""
        found, labelled = self._places.get(composed(place.address)), label != IGNORE
        if found is None or self._store is None or self._store.size(found[0]) != label.shape or not labelled.any():
            return None
        return float((self._store.label(*found) != label)[labelled].mean())


class _Frames:
    """The frame of each entry of a source: by the data set's names, or as the source itself calls it."""

    def __init__(self, dataset: Dataset | None) -> None:
        videos = [] if dataset is None else every_video(dataset)
        self.masks = {
            composed(frame.address): frame.mask for video in videos for frame in video.frames if frame.mask is not None
        }
        self.stems = {video.name: video.stems for video in videos}
        self._places = [] if dataset is None else list(_places(videos, dataset))
        self._matcher = None if dataset is None else Matcher(self._places)

    def count_from(self, first: int | None, names: Callable[[], Iterable[str]], talk: Talk) -> None:
        """Decide which number the source, which has these names, gives the first frame of a video file."""
        self._names = names
        if self._matcher is None or not any(place.number is not None for place in self._places):
            return
        if first is None:
            first = self._certain_first(set(names()), talk)
        self._matcher = Matcher(self._places, first)

    def _certain_first(self, names: set[str], talk: Talk) -> int:
        zero, one = Matcher(self._places), Matcher(self._places, 1)
        at_zero = {name: place for name in names if (place := zero.find(name)) is not None and place.number is not None}
        if any(place.number == 0 for place in at_zero.values()):
            return 0
        beyond = [name for name in names if zero.find(name) is None and one.find(name) is not None]
        if beyond:
            talk.warn(f"{min(beyond)!r} is the last frame of its video if frames are counted from 1: they are")
            return 1
        if any(composed(place.address) not in composed(name) for name, place in at_zero.items()):
            talk.say(
                "frames of video files are taken to be counted from 0; if from 1, as by ffmpeg, add --first-frame 1"
            )
        return 0

    def find(self, found: Found) -> Place | None:
        """The frame that is meant, if it is one."""
        if self._matcher is None:
            path = PurePosixPath(found.name.replace("\\", "/"))
            stem = path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name
            return Place(path.parent.name or stem, stem, None)
        if found.numbered is not None:
            return self._matcher.at(found.numbered)
        place = self._matcher.find(found.name)
        if place is not None and is_elsewhere(found.name, place) and place.address in self._named:
            return None
        return place

    @cached_property
    def _named(self) -> set[str]:
        """Frames that the source names with their video: what has only the same stem is of a video that is not here."""
        assert self._matcher is not None
        found = ((name, self._matcher.find(name)) for name in self._names())
        return {place.address for name, place in found if place is not None and not is_elsewhere(name, place)}


def _places(videos: Iterable[FolderVideo], dataset: Dataset) -> Iterator[Place]:
    """The frames of videos, with the folders below the root that a video is called after, if it is, and of stills."""
    for video in videos:
        below = Path(os.path.relpath(video.frames[0].image or dataset.root, dataset.root))
        paths = (below.parent.parts, below.with_suffix("").parts)
        path = next((path for path in paths if composed("_".join(path)) == composed(video.name)), ())
        if dataset.recipe.stills and video.frames[0].stem == video.name:
            path = paths[1]
        for frame in video.frames:
            yield Place(frame.video, frame.stem, video.size, frame.number, path)


def _goal(out: Path, place: Place) -> Path:
    return out / place.video / f"{place.stem}.png"


def _size_of(found: Found, place: Place, source: Path) -> Size:
    size = found.size or place.size
    if size is None:
        raise VssError(f"{source} does not say how large {found.name} is", "name the data set, --recipe or --data")
    if place.size is not None and size != place.size:
        raise VssError(
            f"{source}: {found.name} is {size[1]}x{size[0]}, frame {place.address} is {place.size[1]}x{place.size[0]} "
            "(width x height)",
            "label the frames at their own size",
        )
    return size


def _count(done: Imported, place: Place, label: np.ndarray, before: np.ndarray | None) -> int | None:
    """Note what became of a frame. Returns the number of pixels whose class is another; `None` for a new frame."""
    done.pixels += label.size
    if before is None or before.shape != label.shape:
        done.new.append(place.address)
        return None
    changed = int(np.count_nonzero(before != label))
    if changed:
        done.changed[place.address] = changed
    else:
        done.unchanged.append(place.address)
    return changed


def _nothing(done: Imported, source: Path, dataset: Dataset | None) -> VssError:
    if done.unmatched and dataset is not None:
        first = ", ".join(map(repr, done.unmatched[:3]))
        return VssError(
            f"none of the {len(done.unmatched)} frames of {source} is one of {dataset.name}: {first}",
            "names are <video>/<stem>, <video>_<stem>, or a stem that is one frame's alone, and a task of a video is "
            "called as the video is; the videos are " + some([video.name for video in every_video(dataset)]),
        )
    left = "".join(f"; left out: {count} {what}" for what, count in done.left_out.items())
    return VssError(
        f"{source} has no labels, read as {done.form}{left}", "label something, or say what it is by --from"
    )
