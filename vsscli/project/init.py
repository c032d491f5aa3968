"""From a folder of clips and labels to a project: class table, description of the data, recipes, a pipeline."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from vsscli.context import Context
from vsscli.data.classes import IGNORE, ClassTable, class_table_of, find_class_table, load_class_table, parse_classes
from vsscli.data.classfiles import counts_void
from vsscli.data.clips import ALL
from vsscli.data.config import Data
from vsscli.data.content import Digests
from vsscli.data.folders import IMAGE_SUFFIXES
from vsscli.data.layouts import open_dataset
from vsscli.data.masks import MaskIds
from vsscli.data.videos import FolderVideo
from vsscli.data.walk import kinds
from vsscli.errors import VssError
from vsscli.exchange.colour import labelmap_in
from vsscli.exchange.png import numbers_in, require_classes
from vsscli.exchange.source import open_source_files
from vsscli.files import write_text
from vsscli.inside import Inside, require_folder
from vsscli.names import plain_name
from vsscli.pipeline.incoming import Imported, import_labels
from vsscli.project import files
from vsscli.project.holdout import choose_held_out
from vsscli.project.sizing import Size, default_size, measured_size, start_recipe
from vsscli.project.survey import Survey, survey
from vsscli.project.tables import colours_in, hexadecimal, names_in, table_of_names
from vsscli.recipes.load import load_recipe
from vsscli.structured import json_or_none
from vsscli.talk import SILENCE, Talk

IMPORTED = "imported.json"
"""In the folder of labels: what was read into it, by digest, so that corrected labels are not overwritten."""

BY_FRAME = {"png": ".png", "colour": ".png", "voc": ".png", "labelme": ".json"}
"""Formats with a file for each frame: those that were read before are not read again."""

Ask = Callable[[str, str], str]
"""Asks a question, and has an answer for whoever says nothing."""


def take_default(question: str, answer: str) -> str:
    """The `Ask` that asks nobody."""
    return answer


@dataclass
class Project:
    """What `init_project` left.

    Attributes
    ----------
    folder, name
        Where, and what it is called.
    written
        Files that are new or other than they were.
    videos, frames, labelled, held_out
        How many there are; labelled frames that are held out are among the labelled.
    classes
        Names of the classes.
    imported
        What came of each source of labels that was read.
    predicted
        Frames that the pipeline predicts in all.
    size
        The steps of the student, and why so many; `None` without labels, or if they were decided before.
    """

    folder: Path
    name: str
    written: list[str] = field(default_factory=list)
    videos: int = 0
    frames: int = 0
    labelled: int = 0
    held_out: int = 0
    classes: tuple[str, ...] = ()
    imported: list[Imported] = field(default_factory=list)
    predicted: int = 0
    size: Size | None = None


def init_project(
    folder: str | Path,
    *,
    classes: str | None = None,
    minutes: float = 20.0,
    first_frame: int | None = None,
    measure: bool = True,
    ask: Ask = take_default,
    context: Context = Context(),
) -> Project:
    """Look at a folder and make it a project; look again at one that is a project already, and add what is new.

    Parameters
    ----------
    folder
        Where videos, photos and labels are, at any depth.
    classes
        A class table in any form that `vsscli.data.classfiles` knows; without, the one in the folder, else one made of
        the names or colours in the labels.
    minutes
        What training may take on this machine, in all.
    first_frame
        As for :func:`vsscli.import_labels`.
    measure
        Take some training steps to find out how many fit into that time.
    ask
        Asks what the folder does not say.
    context
        Its device and talk count.

    Raises
    ------
    VssError
        There is no video in the folder; labels name classes or colours that the class table lacks, or belong to no
        frame.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise VssError(f"there is no folder {folder}", "name the folder that your clips are in")
    require_folder(folder, "project")
    workspace = context.workspace.name
    skip = (*files.WRITTEN, files.LABELS, files.EXPORTED, files.NEXT, workspace)
    found = survey(folder, skip)
    before = _before(folder)
    videos = _union(_still_whole(before.videos, found.videos), found.videos)
    stills = _union(before.stills, found.stills)
    if not videos and not stills:
        left = f"; there are {kinds(found.others)}" if found.others else ""
        raise VssError(
            f"{folder} holds no video, no frames and no photos{left}", "put clips or folders of images there"
        )
    project = Project(folder, plain_name(folder.resolve().name))
    table = _class_table(folder, found, classes, ask, context.talk)
    project.classes = table.names
    described = files.Described(project.name, videos, stills, before.held_out, 0, 0)
    there = {path.name: path.read_bytes() for path in map(folder.joinpath, files.WRITTEN) if path.is_file()}
    context = replace(context, data_root=folder)
    try:
        if classes is not None or files.CLASSES not in there:
            _write(project, {files.CLASSES: files.class_table(table)})
        if files.DATASET not in there:
            described = replace(described, first=_first(folder, found, classes, table))
        _write(project, {files.DATASET: _dataset(folder, described)})
        _import(project, found, first_frame, context)
        _describe(project, described, context.talk)
    except BaseException:
        # Else the next call would take a table that did not fit for the user's choice.
        for name in project.written:
            if name in there:
                Inside(folder).write(folder / name, there[name])
            else:
                Inside(folder).unlink(folder / name)
        raise
    for name in found.lossy:
        context.talk.warn(
            f"{name} looks like masks in a lossy format, which mixes colours: left out; export them as PNG"
        )
    if found.others:
        context.talk.say(f"left out: {kinds(found.others)} ({', '.join(found.others[:3])})")
    _recipes(project, minutes, measure, context)
    return project


def _before(folder: Path) -> Data:
    """What the project's description of its data says already."""
    path = folder / files.DATASET
    if not path.is_file():
        return Data(layout="files", videos=(".",)).model_copy(update={"videos": ()})
    return load_recipe(path).data


def _dataset(folder: Path, described: files.Described) -> str:
    """What ``dataset.yaml`` should hold: what is there already stays."""
    path = folder / files.DATASET
    return files.extended(path.read_text(encoding="utf-8"), described) if path.is_file() else files.dataset(described)


def _union(before: Sequence[str], found: Sequence[str]) -> list[str]:
    return list(dict.fromkeys([*before, *found]))


def _still_whole(before: Sequence[str], found: Sequence[str]) -> list[str]:
    """What the description said, without folders that need a pattern now because masks came to be below them."""
    patterns = [Path(name) for name in found if Path(name).name.startswith("*.")]
    apart = {p.parent.as_posix() for p in patterns if p.parent.parts or p.suffix.lower() in IMAGE_SUFFIXES}
    return [name for name in before if glob.escape(name) not in apart]


def _class_table(folder: Path, found: Survey, named: str | None, ask: Ask, talk: Talk) -> ClassTable:
    """The class table that is named, or there already, or what the labels say."""
    own = folder / files.CLASSES
    source = named or (files.CLASSES if own.is_file() else found.classes)
    if source is not None:
        table = load_class_table(source, folder)
        if source == found.classes:  # named after its file: labelmap
            table = replace(table, name=plain_name(folder.resolve().name))
        talk.say(f"classes: {', '.join(table.names)} (from {source})")
        return table
    for name, _ in found.labels:
        with open_source_files(folder / name) as labels:
            inside = labelmap_in(labels)
        if inside is not None:
            return class_table_of(plain_name(folder.resolve().name), parse_classes(inside[1], inside[0]))
    rows: list[dict[str, object]] = []
    for name, form in found.labels:
        if form == "colour":
            counts = colours_in(folder / name)
            whole = sum(counts.values())
            for colour, pixels in counts.most_common():
                if any(row["colour"] == list(colour) for row in rows):
                    continue
                shown = hexadecimal(colour)
                asked = f"name of the class that is painted {shown}, {pixels / whole:.1%} of what is labelled in {name}"
                rows.append({"name": ask(asked, f"class_{shown[1:]}"), "colour": list(colour)})
        elif form == "png":
            raise VssError(
                f"{folder / name} holds masks of numbers, and no file says which classes these are",
                "write the names of the classes into classes.txt, one a line, in the order of their numbers from 0, or "
                "name a class table: --classes FILE",
            )
        else:
            rows += [row for row in table_of_names(names_in(folder / name, form)) if row not in rows]
    if not rows:
        if (folder / "data.yaml").is_file() and any(folder.rglob("labels/**/*.txt")):
            raise VssError(
                f"{folder} holds labels of YOLO, which are read once there is a project",
                "run `vss init --classes data.yaml`, then in that folder `vss import .`, then `vss init` again",
            )
        raise VssError(
            f"{folder} holds neither labels nor a class table",
            "write the names of your classes into classes.txt, one a line, or name a class table: --classes FILE",
        )
    table = class_table_of(plain_name(folder.resolve().name), parse_classes(rows, "the labels"))
    talk.say(f"classes: {', '.join(table.names)} (from the labels; `vss classes rename OLD NEW` renames one)")
    return table


def _first(folder: Path, found: Survey, named: str | None, table: ClassTable) -> int:
    """The number of the first class in masks that do not name theirs: 0, or where 0 is void 1: the labelmap says so, or
    the last class would have no number otherwise. Masks that are in the project's folder of labels already are read
    where they are, so they must be numbers of classes.
    """
    numbers = [_numbers(folder / name) for name, form in found.labels if form == "png"]
    own = _numbers(folder / files.LABELS) if (folder / files.LABELS).is_dir() else set()
    source = named or found.classes
    void = source is not None and counts_void(find_class_table(source, folder))
    first = int(void or any(table.num_classes in each for each in (*numbers, own)))
    require_classes(own, MaskIds((*range(first), IGNORE), first), table, folder / files.LABELS)
    return first


def _numbers(source: Path) -> set[int]:
    with open_source_files(source) as labels:
        return numbers_in(labels)


def _write(project: Project, texts: dict[str, str]) -> None:
    """Write those files that are not as they should be."""
    for name in files.written(project.folder, texts):
        write_text(project.folder / name, texts[name])
        project.written = [*dict.fromkeys([*project.written, name])]


def _import(project: Project, found: Survey, first_frame: int | None, context: Context) -> None:
    """Read labels into the project's masks, but what was read before and has not changed.

    The first time all are read, but those that give other labels to frames that have some already. What comes later may
    be a prediction that was exported, and is only named.
    """
    record = project.folder / files.LABELS / IMPORTED
    noted = json_or_none(record)
    known = {name: held for name, held in (noted.items() if isinstance(noted, dict) else ()) if isinstance(held, dict)}
    recipe, later = project.folder / files.DATASET, bool(known)
    for name, form in found.labels:
        if later and name not in known:
            context.talk.say(f"{name} looks like labels ({form}): `vss import {name}` reads it")
            continue
        source = project.folder / name
        digests = _digests(source)
        same = {path for path, digest in digests.items() if known.get(name, {}).get(path) == digest}
        labels = (
            {path for path in digests if path.lower().endswith(BY_FRAME.get(form, ()))} if source.is_dir() else set()
        )
        if labels <= same if labels else len(same) == len(digests):
            continue
        read = partial(
            import_labels,
            source,
            project.folder / files.LABELS,
            form=form,
            recipe=recipe,
            without=labels & same,
            first_frame=first_frame,
        )
        if not later and project.imported and (fault := _fault(read, context)):
            context.talk.warn(f"{name} looks like labels ({form}), and was left out: {fault}")
            continue
        done = read(context=context)
        for stray in done.unmatched[:5]:
            context.talk.warn(f"{name}: no frame of the videos is called {stray!r}")
        if len(done.unmatched) > 5:
            context.talk.warn(f"{name}: and {len(done.unmatched) - 5} more that belong to no frame")
        for what, count in done.left_out.items():
            context.talk.warn(f"{name}: left out: {count} {what}")
        for what, count in done.remarks.items():
            context.talk.warn(f"{name}: {count} {what}")
        project.imported.append(done)
        known[name] = digests
    if known:
        write_text(record, json.dumps(known, indent=1) + "\n")


def _fault(read: Callable[..., Imported], context: Context) -> str:
    """Why labels can't be read beside those that were read before; empty if they can."""
    try:
        trial = read(dry_run=True, context=replace(context, talk=SILENCE))
    except VssError as error:
        return str(error)
    both = [*trial.changed, *trial.unchanged]
    return f"{len(both)} of its frames have labels already, such as {both[0]}" if both else ""


def _digests(source: Path) -> dict[str, str]:
    """What a source of labels holds, by file."""
    digests = Digests()
    if source.is_file():
        return {source.name: digests.of(source)}
    with open_source_files(source) as files:
        return dict(zip(files.names, digests.of_all(map(files.place, files.names)), strict=True))


def _describe(project: Project, described: files.Described, talk: Talk) -> None:
    """Choose what is held out, unless that is chosen already, and count."""
    data = load_recipe(project.folder / files.DATASET).data
    videos = open_dataset(data, project.folder, talk).split(ALL)
    masked = [frame for video in videos for frame in video.frames if frame.mask is not None]
    project.videos, project.frames, project.labelled = len(videos), sum(map(len, videos)), len(masked)
    held = tuple(described.held_out) or choose_held_out(videos)
    if held and not described.held_out:
        talk.say(f"held out, to measure on: {', '.join(held)}")
    elif masked and not held:
        talk.say(f"nothing is held out: {len(masked)} labelled frames are few; add labels and run `vss init` again")
    described = replace(described, held_out=held, frames=project.frames, labelled=project.labelled)
    _write(project, {files.DATASET: _dataset(project.folder, described)})
    val: list[FolderVideo] = []
    if held:
        data = load_recipe(project.folder / files.DATASET).data
        val = open_dataset(data, project.folder, talk).split("val")
        project.held_out = sum(frame.mask is not None for video in val for frame in video.frames)
    to_train, to_score = project.frames - sum(map(len, val)), sum(map(len, val))
    unlabelled = to_train - (project.labelled - project.held_out)
    project.predicted = unlabelled + 2 * to_score + project.frames


def _recipes(project: Project, minutes: float, measure: bool, context: Context) -> None:
    """Write the recipes and the pipeline, with as many steps as the time allows. Those that are there are the user's,
    unless they are as they were written before there were labels, or without measuring."""
    start, scored = start_recipe(context.device), project.held_out > 0

    def texts(size: Size, *, scored: bool) -> dict[str, str]:
        return {
            files.STUDENT: files.student(start, size),
            files.RETRAINED: files.retrained(size),
            files.PIPELINE: files.pipeline(project.name, scored=scored),
        }

    def unmeasured(*, scored: bool) -> Size:
        return default_size(start, scored=scored, why="as in the recipe that this one extends; not measured")

    known = [texts(unmeasured(scored=each), scored=each) for each in (False, True)]
    ours = {
        name
        for name in known[0]
        if not (project.folder / name).is_file()
        or any(not files.written(project.folder, {name: one[name]}) for one in known)
    }

    def write(size: Size) -> None:
        _write(project, {name: text for name, text in texts(size, scored=scored).items() if name in ours})

    size = unmeasured(scored=scored)
    write(size)
    if not project.labelled:
        context.talk.say("no labels yet: label some frames, then run `vss init` again")
    elif files.STUDENT in ours and measure:
        context.talk.say("measuring how fast this machine trains and predicts")
        size = measured_size(project.folder / files.STUDENT, minutes, project.predicted, context, scored=scored)
        write(size)
    project.size = size if project.labelled and files.STUDENT in ours else None
