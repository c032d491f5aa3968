"""From a prediction to labels in another program's format."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.data.folders import some
from vsscli.errors import VssError
from vsscli.exchange.answers import StoreAnswers
from vsscli.exchange.catalogue import writer_of
from vsscli.exchange.functions import CVAT, Answering, function_text
from vsscli.exchange.items import Choices
from vsscli.exchange.matching import skipping_warning, skips_numbers
from vsscli.exchange.sink import Sink
from vsscli.files import write_text
from vsscli.pipeline.frames import every_video
from vsscli.pipeline.outgoing import Selection, outgoing
from vsscli.pipeline.predicted import noted_dataset
from vsscli.pipeline.workspace import newest_store
from vsscli.recipes.load import as_recipe
from vsscli.recipes.schema import Recipe
from vsscli.store.header import read_header
from vsscli.threads import results_in_order


@dataclass(frozen=True)
class Exported:
    """What was written: where, of what, how many frames, the share of pixels without a class, and what the format
    lost, by name."""

    out: Path
    prediction: Path
    frames: int
    void: float
    figures: dict[str, float] = field(default_factory=dict)


def export_labels(
    form: str,
    out: str | Path,
    *,
    prediction: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    selection: Selection = Selection(),
    choices: Choices = Choices(),
    force: bool = False,
    workers: int | None = None,
    context: Context = Context(),
) -> Exported:
    """Write predicted labels in a format, as ``vss export`` does.

    Parameters
    ----------
    form
        A name of `vsscli.exchange.catalogue.FORMATS`.
    out
        A folder, a zip, or the one file of a format that has one.
    prediction
        A prediction store, or a folder of ``<video>/<stem>.png`` index masks.
    recipe
        Says what the classes of such masks are.
    selection, choices
        What is written, and how.
    force
        Whether what is there may be replaced.
    workers
        Threads that read; `None`: one per core.
    context
        Its workspace is where the newest prediction is looked for when none is named; its data root is where frames
        lie.

    Raises
    ------
    VssError
        There is nothing to write, the format can't hold it, or something is in the way.
    """
    write, what = writer_of(form)
    out = Path(out)
    if choices.polygons and not what.polygons:
        raise VssError(f"--to {form} has no polygons", "leave --polygons out")
    if out.suffix.lower() == ".zip" and not what.zipped:
        raise VssError(f"--to {form} writes no zip", "name a folder with --out")
    path = newest_store(context.workspace) if prediction is None else Path(prediction)
    known = None if recipe is None else as_recipe(recipe)
    given = outgoing(path, selection, context, known, images=choices.overlay or what.numbered)
    if what.numbered and given.skipping:
        context.talk.warn(skipping_warning(given.skipping))
    context.talk.say(f"writing {given.frames} frames of {path} as {form} to {out}")
    void = pixels = 0
    with Sink(out, single=what.single, force=force, made=True) as sink:
        writer = write(sink, given.table, choices)
        try:
            with (
                context.talk.track("export", given.frames) as advance,
                closing(results_in_order(given.items, workers)) as items,
            ):
                for item in items:
                    writer.add(item)
                    void += int(np.count_nonzero(item.label >= given.table.num_classes))
                    pixels += item.label.size
                    advance(1)
            figures = writer.finish()
        except BaseException as error:
            writer.close(error)
            raise
        writer.close(None)
    return Exported(out, path, given.frames, void / max(1, pixels), figures)


def export_function(
    kind: str,
    out: str | Path,
    *,
    prediction: str | Path | None = None,
    model: str | Path | None = None,
    min_certainty: float = 0.0,
    force: bool = False,
    context: Context = Context(),
) -> Answering:
    """Write a Python file that answers an annotation tool, as ``vss export --to cvat-function`` does.

    Parameters
    ----------
    kind
        "cvat-function" or "label-studio-backend".
    out
        The file.
    prediction, model
        What answers: a prediction store, or a checkpoint whose network is run; `None` for both: the newest prediction
        of the context's workspace.
    min_certainty
        Pixels of a store that are less sure are void.
    force
        Whether a file that is there may be replaced.

    Raises
    ------
    VssError
        What answers can't be opened, or a file is in the way.
    """
    out = Path(out)
    if out.exists() and not force:
        raise VssError(f"{out} is there already", "give another --out, or --force to replace it")
    if model is not None:
        if prediction is not None:
            raise VssError("--model and --pred: either answers", "leave out one of them")
        from vsscli.pipeline.source import open_model  # with torch: a second, which those who name a store are spared

        open_model(Path(model), talk=context.talk)
        answering = Answering(model=Path(model))
    else:
        path = newest_store(context.workspace) if prediction is None else Path(prediction)
        StoreAnswers(path, min_certainty)
        answering = Answering(store=path)
        if kind == CVAT:
            _warn_of_skipping(path, context)
    answering = replace(answering, min_certainty=min_certainty)
    write_text(out, function_text(kind, answering))
    return answering


def _warn_of_skipping(path: Path, context: Context) -> None:
    """Warn of videos whose frames' places are not their numbers, by which CVAT's function finds those of a video's
    task, because a store alone does not know the places; silent without the data set."""
    with suppress(VssError):
        videos = every_video(noted_dataset(path, read_header(path), context.data_root))
        if skipping := [video.name for video in videos if skips_numbers(video.stems)]:
            context.talk.warn(
                f"the names of frames of {some(skipping)} skip numbers, and in the task of a video the function takes "
                "frame N for the one whose name has number N: right if the task's video has the frames between them, "
                "wrong if it has these frames alone; `--to cvat-video` counts these"
            )
