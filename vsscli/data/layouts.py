"""Where frames and masks lie on disk, and which of them make up a split.

Two layouts are known. ``vspw``, that of VSPW and of what vss itself writes::

    <root>/train.txt, val.txt, …                    one video per line
    <root>/data/<video>/origin/<stem>.jpg           frames
    <root>/data/<video>/mask/<stem>.png             masks, where there are labels

and ``folders``, for what a camera or a script left behind::

    <root>/<split>/<video>/<stem>.jpg               frames
    <root>/<split>/<video>/mask/<stem>.png          masks, where there are labels
    <root>/<video>/…                                without split folders every split is the whole root

One's own frames (`open_input`) may lie in either of these shapes, in one folder, or in a video file.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vsscli.data.classes import IGNORE, ClassTable, load_class_table, read_class_entries
from vsscli.data.mapping import FIRST_ID, load_mapping
from vsscli.data.masks import MaskIds, MaskReader
from vsscli.data.scene import MARKER, draw_scene
from vsscli.data.videos import VIDEO_SUFFIXES, FileVideo, FolderVideo, Frame, Video
from vsscli.errors import VssError
from vsscli.recipes.schema import Data
from vsscli.talk import SILENCE, Talk

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png"})


@dataclass(frozen=True)
class Dataset:
    """An opened data set.

    Parameters
    ----------
    name
        What to call it in messages.
    root
        Its folder.
    table
        Its C classes.
    ids
        What the values of its masks mean.
    recipe
        The section it was opened from.
    """

    name: str
    root: Path
    table: ClassTable
    ids: MaskIds
    recipe: Data

    def split(self, name: str) -> list[FolderVideo]:
        """The videos of a split, as listed, with their frames in name order.

        Parameters
        ----------
        name
            ``train`` and ``val`` stand for the splits that the recipe names so. ``labelled``: the frames of ``train``
            whose labels count. ``unlabelled``: its other frames, whatever masks lie beside them, and the splits that
            the recipe adds. Any other name is a split as it lies on disk.

        Raises
        ------
        VssError
            A list, a video or a frame is not there, or the split would be empty.
        """
        if name == "labelled":
            return self._labelled(self._listed(self.recipe.train))
        if name == "unlabelled":
            return self._unlabelled()
        return self._listed({"train": self.recipe.train, "val": self.recipe.val}.get(name, name))

    def _listed(self, split: str) -> list[FolderVideo]:
        if self.recipe.layout == "folders":
            return _read_split_folder(self, split)
        names = read_list(_list_path(self, split))
        _refuse_odd_names(names, _list_path(self, split))
        missing = [name for name in names if not (self.root / "data" / name).is_dir()]
        if missing:
            raise VssError(
                f"{self.name}: {_list_path(self, split)} lists {_some(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not under {self.root / 'data'}",
                how_to_get(self.recipe),
            )
        return [read_video_folder(self.root / "data" / name, name, self.ids.reader) for name in names]

    def _labelled(self, videos: Sequence[FolderVideo]) -> list[FolderVideo]:
        if self.recipe.labelled is None:
            return list(videos)
        chosen = self._addresses(videos)
        return _only(videos, lambda frame: frame.address in chosen)

    def _addresses(self, videos: Sequence[FolderVideo]) -> frozenset[str]:
        """The frames that the recipe's list of labelled frames names; all of them must be in the training split."""
        path = self.root / str(self.recipe.labelled)
        if not path.is_file():
            raise VssError(
                f"{self.name}: the list of labelled frames {path} is not there",
                "data.labelled is a path from the data set's folder",
            )
        listed = read_list(path)
        known = {frame.address for video in videos for frame in video.frames}
        strange = [address for address in listed if address not in known]
        if strange:
            raise VssError(
                f"{path} lists {_some(strange)}, not among the frames of split {self.recipe.train!r}",
                "write one <video>/<stem> per line, without suffix, of frames of that split",
            )
        return frozenset(listed)

    def _unlabelled(self) -> list[FolderVideo]:
        videos: list[FolderVideo] = []
        if self.recipe.labelled is not None:
            train = self._listed(self.recipe.train)
            chosen = self._addresses(train)
            videos += _only(train, lambda frame: frame.address not in chosen)
        for split in self.recipe.unlabelled:
            videos += self._listed(split)
        twice = [name for name, times in Counter(video.name for video in videos).items() if times > 1]
        if twice:
            raise VssError(
                f"{self.name}: {_some(twice)} would be unlabelled data twice",
                f"take the split that repeats {'it' if len(twice) == 1 else 'them'} out of data.unlabelled",
            )
        if not videos:
            raise VssError(
                f"{self.name} has no unlabelled frames: every label of split {self.recipe.train!r} counts, "
                "and data.unlabelled names no other split",
                "name splits in data.unlabelled, or list the frames whose labels count in data.labelled",
            )
        # Masks may lie beside these frames, but the recipe says that they do not count: nobody gets to see them.
        return [FolderVideo(v.name, tuple(replace(frame, mask=None) for frame in v.frames)) for v in videos]


def open_dataset(data: Data, root: str | Path | None = None, talk: Talk = SILENCE) -> Dataset:
    """Find a data set.

    Parameters
    ----------
    data
        The recipe's section.
    root
        Folder to take instead of the one in the environment variable ``data.root_env`` or, last, ``data.root``.
    talk
        Hears when synthetic videos (``data.scene``) are drawn because there is no such folder.

    Returns
    -------
    Dataset
        Lists and videos are read, and missed, when a split is asked for.

    Raises
    ------
    VssError
        The folder or the class table is not there; the hint says where the data is published and what runs without.
    """
    place, said_by = _choose_root(data, root)
    if data.scene is not None and _wants_scene(place):
        draw_scene(data.scene, place, talk)
    if not place.is_dir():
        wrong = "is not a folder" if place.exists() else "is not there"
        raise VssError(f"{data.name}: the data set's folder {place} ({said_by}) {wrong}", how_to_get(data))
    if data.layout == "vspw" and not (place / "data").is_dir():
        raise VssError(f"{data.name}: {place} ({said_by}) has no folder `data` with the videos", how_to_get(data))
    table = load_class_table(data.classes, place)
    entry_ids = [entry.id for entry in read_class_entries(data.classes, place)[1]]
    if entry_ids != list(range(table.num_classes)):
        raise VssError(
            f"class table {data.classes} numbers its classes from {entry_ids[0]} to {entry_ids[-1]}, not 0, 1, 2, …",
            "number them without gaps from 0 (data.first_id tells class 0's mask value); `vss remap` rewrites masks",
        )
    ids = _mask_ids(data, place, table)
    ids.lookup(table.num_classes)  # a clash between void values and classes shows here, not at the first mask
    return Dataset(data.name, place, table, ids, data)


def class_table(data: Data, root: str | Path | None = None) -> ClassTable:
    """The class table of a data set that need not be there, if the table is."""
    place, _ = _choose_root(data, root)
    return load_class_table(data.classes, place)


def _mask_ids(data: Data, root: Path, table: ClassTable) -> MaskIds:
    """What the data set's masks mean, and who reads them."""
    if data.remap is None:
        return MaskIds(data.void_ids, data.first_id, data.unknown_ids)
    mapping = load_mapping(data.remap, root)
    if mapping.target.names != table.names:
        raise VssError(
            f"mapping {mapping.name} tells masks in the classes of {mapping.target.name}, "
            f"not in those of {table.name} (data.remap, data.classes)",
            f"set data.classes to {mapping.target.name}, or take another mapping",
        )
    return MaskIds((IGNORE,), FIRST_ID, "error", mapping)


def plain_data(
    root: str | Path, classes: str | None = None, layout: Literal["vspw", "folders"] = "vspw", val: str = "val"
) -> Data:
    """Describe a data set that no recipe describes.

    Parameters
    ----------
    root
        Its folder.
    classes
        Class table; none: ``classes.json`` or ``classes.yaml`` in the folder, else VSPW's. With VSPW's own classes
        stray mask values are void, as the official evaluation takes them (a few of its files hold some).
    layout
        How it lies on disk.
    val
        The split to evaluate on.
    """
    place = Path(os.path.expanduser(root))
    if classes is None:
        found = [name for name in ("classes.json", "classes.yaml", "classes.yml") if (place / name).is_file()]
        classes = found[0] if found else "vspw124"
    unknown: Literal["error", "void"] = "void" if classes == "vspw124" else "error"
    name = place.resolve().name or "data"
    return Data(name=name, root=str(place), layout=layout, classes=classes, val=val, unknown_ids=unknown)


def how_to_get(data: Data) -> str:
    """The hint for data that is not there: who publishes it, how to point to it, what runs without it."""
    published = f"its owners publish it at {data.publisher}; " if data.publisher else ""
    point = f"set {data.root_env} or give --data FOLDER" if data.root_env else "give --data FOLDER"
    without = f"; without it: vss train --recipe {data.without}" if data.without else ""
    return f"{published}{point}{without}"


def open_input(path: str | Path) -> list[Video]:
    """Open one's own frames.

    Parameters
    ----------
    path
        A video file, a folder of images, a folder of such folders or of video files, or anything in VSPW's layout.

    Returns
    -------
    list of Video
        In name order, each called after its folder or file.

    Raises
    ------
    VssError
        There is nothing, or nothing that could be frames.
    """
    place = Path(os.path.expanduser(path))
    if place.is_file():
        if place.suffix.lower() in IMAGE_SUFFIXES:
            raise VssError(f"{place} is a single image", "give the folder that holds it, or a video file")
        return [FileVideo(place)]
    if not place.is_dir():
        raise VssError(f"input {place} is not there", "give a video file or a folder of images")
    name = place.resolve().name
    if name == "origin":
        name = place.resolve().parent.name
    if _has_images(place):
        return [read_video_folder(place, name)]
    children = _visible(place)
    if (place / "data").is_dir() and not _has_images(place / "data"):
        children = _visible(place / "data")  # the root of a data set in VSPW's layout
    videos: list[Video] = []
    for child in children:
        if child.is_dir() and _has_images(child):
            videos.append(read_video_folder(child, child.name))
        elif child.is_file() and child.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(FileVideo(child))
    if not videos:
        raise VssError(
            f"input {place} holds neither images ({', '.join(sorted(IMAGE_SUFFIXES))}) nor folders of them nor videos",
            "give a video file, a folder of images, or a folder of such folders",
        )
    twice = [name for name, times in Counter(video.name for video in videos).items() if times > 1]
    if twice:
        raise VssError(f"input {place} holds more than one video called {_some(twice)}", "rename one of them")
    return videos


def read_video_folder(folder: Path, name: str, reader: MaskReader | None = None) -> FolderVideo:
    """Gather a video's frames: images in ``origin/`` or in the folder itself, masks in ``mask/``.

    A frame is whatever has an image or a mask; what is missing shows when it is needed (or to `check_videos`).

    Parameters
    ----------
    folder, name
        Where the video is, and what to call it.
    reader
        Who knows which files are masks, where they are not called like their frames.

    Raises
    ------
    VssError
        No image and no mask at all, or two files for one stem.
    """
    origin = folder / "origin"
    images = _by_stem(origin if origin.is_dir() else folder, IMAGE_SUFFIXES)
    masks = _masks_by_stem(folder / "mask", reader) if (folder / "mask").is_dir() else {}
    if not images and not masks:
        raise VssError(f"video {name} has no frames: no images in {origin} or {folder}", "put its images there")
    # Files are in name order already; a stem that only has a mask goes where its name belongs.
    stems = list(images) if masks.keys() <= images.keys() else sorted(images.keys() | masks.keys())
    return FolderVideo(name, tuple(Frame(name, stem, images.get(stem), masks.get(stem)) for stem in stems))


def read_list(path: Path) -> list[str]:
    """The lines of a text file, stripped; empty ones are left out.

    Raises
    ------
    VssError
        The file can't be read, has no line, or one twice.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # Windows editors leave a byte-order mark
    except OSError as cause:
        raise VssError(f"list {path} can't be read: {cause.strerror or cause}", "check the path") from cause
    except UnicodeDecodeError as cause:
        raise VssError(f"list {path} is not UTF-8 text", "save it as UTF-8, one entry per line") from cause
    entries = [line.strip() for line in lines if line.strip()]
    if not entries:
        raise VssError(f"list {path} is empty", "write one entry per line")
    twice = [entry for entry, times in Counter(entries).items() if times > 1]
    if twice:
        raise VssError(f"list {path} has {_some(twice)} more than once", "leave each entry once")
    return entries


def _choose_root(data: Data, root: str | Path | None) -> tuple[Path, str]:
    """The folder to take, and which setting says so."""
    if root is not None:
        return Path(os.path.expanduser(root)), "given"
    if data.root_env and os.environ.get(data.root_env):
        return Path(os.path.expanduser(os.environ[data.root_env])), f"from {data.root_env}"
    return Path(os.path.expanduser(data.root)), "data.root"


def _wants_scene(root: Path) -> bool:
    """Whether a folder is for synthetic videos: not there, empty, or drawn (then perhaps of other parameters)."""
    return not root.exists() or (root.is_dir() and (not os.listdir(root) or (root / MARKER).is_file()))


def _list_path(dataset: Dataset, split: str) -> Path:
    path = dataset.root / f"{split}.txt"
    if not path.is_file():
        there = sorted(p.stem for p in _visible(dataset.root) if p.suffix == ".txt")
        splits = f"; there are {', '.join(there)}" if there else ""
        hint = how_to_get(dataset.recipe) if dataset.recipe.publisher else f"list the split's videos in {path.name}"
        raise VssError(f"{dataset.name}: {path}, the list of split {split!r}, is not there{splits}", hint)
    return path


def _refuse_odd_names(names: Sequence[str], path: Path) -> None:
    """A video's name becomes part of paths that are written later, so it must not lead elsewhere."""
    odd = [name for name in names if "/" in name or "\\" in name or name.startswith(".")]
    if odd:
        raise VssError(f"{path} lists {_some(odd)}, which can't be names of video folders", "write one name per line")


def _read_split_folder(dataset: Dataset, split: str) -> list[FolderVideo]:
    folder = dataset.root / split
    if folder.is_dir():
        found = [child for child in _visible(folder) if child.is_dir()]
    else:  # beside the videos of an undivided root there may be other folders
        found = [child for child in _visible(dataset.root) if child.is_dir() and _has_images(child)]
    if not found:
        raise VssError(
            f"{dataset.name}: neither {folder} nor {dataset.root} holds folders of images",
            how_to_get(dataset.recipe),
        )
    return [read_video_folder(child, child.name, dataset.ids.reader) for child in found]


def _visible(folder: Path) -> list[Path]:
    """What a folder holds, in name order, without dot-files."""
    try:
        names = os.listdir(folder)
    except OSError as cause:
        raise VssError(f"folder {folder} can't be read: {cause.strerror}", "check its path and permissions") from cause
    return [folder / name for name in sorted(names) if not name.startswith(".")]


def _has_images(folder: Path) -> bool:
    origin = folder / "origin"
    place = origin if origin.is_dir() else folder
    return any(path.suffix.lower() in IMAGE_SUFFIXES and path.is_file() for path in _visible(place))


def _by_stem(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _visible(folder):
        if path.suffix.lower() not in suffixes:
            continue
        if path.stem in files:
            raise VssError(
                f"{files[path.stem]} and {path.name} are two files for frame {path.stem!r}", "keep one of them"
            )
        files[path.stem] = path
    return files


def _masks_by_stem(folder: Path, reader: MaskReader | None) -> dict[str, Path]:
    if reader is None:
        return _by_stem(folder, frozenset({".png"}))
    found = reader.masks(path.name for path in _visible(folder))
    return {Path(goal).stem: folder / name for goal, name in found.items()}


def _only(videos: Sequence[FolderVideo], keep: Callable[[Frame], bool]) -> list[FolderVideo]:
    """The frames that ``keep`` says yes to; a video that none is left of is gone."""
    kept = [(video.name, tuple(frame for frame in video.frames if keep(frame))) for video in videos]
    return [FolderVideo(name, frames) for name, frames in kept if frames]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
