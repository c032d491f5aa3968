"""Score a store or a folder of masks against the data set it belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.data.layouts import Dataset
from vsscli.data.masks import noted_first
from vsscli.data.numbering import CONSISTENCY, say_gaps, say_order
from vsscli.data.sound import say_remark
from vsscli.data.verdict import Remark, counted_remedy
from vsscli.data.videos import FolderVideo
from vsscli.engine.engine import Engine
from vsscli.errors import VssError
from vsscli.evaluation.doubts import doubts
from vsscli.evaluation.figures import Figures
from vsscli.evaluation.score import score
from vsscli.metrics.protocols import DEFAULT_PROTOCOL
from vsscli.metrics.registry import DEFAULT_METRICS, compare_neighbours, metric_names, need_masks
from vsscli.pipeline.learned import chosen_frames, chosen_remark, learned_frames, learned_remark, without_masks
from vsscli.pipeline.predicted import open_predicted
from vsscli.pipeline.workspace import newest_store
from vsscli.recipes.load import as_recipe
from vsscli.recipes.schema import Recipe
from vsscli.store.remote import place_of
from vsscli.talk import SILENCE, Talk


@dataclass(frozen=True)
class Evaluation:
    """Figures, what they are figures of, and what makes them doubtful.

    ``figures.values["miou"]`` and so on are fractions. ``learned`` and ``chosen`` count the scored frames that networks
    were trained on, and that the weights of a fusion were fitted on. If these networks were trained on some of the
    frames and not on others, ``held_out`` has the figures of the others.
    """

    figures: Figures
    prediction: Path
    data: Path
    split: str
    warnings: tuple[str, ...] = ()
    learned: int = 0
    chosen: int = 0
    held_out: Evaluation | None = None

    @property
    def marks(self) -> dict[str, int]:
        """Marks of the figures, each with the number of frames that it concerns; marks of no frame are left out."""
        marks = {"trained_on": self.learned, "weights_fitted_on": self.chosen}
        return {name: count for name, count in marks.items() if count}

    def origin(self) -> dict[str, Any]:
        """What they are figures of, as plain values."""
        origin: dict[str, Any] = {"pred": str(self.prediction), "data": str(self.data), "split": self.split}
        origin |= self.marks
        if self.held_out is not None:
            origin["held_out"] = self.held_out.figures.to_json() | self.held_out.marks
        return origin | ({"warnings": list(self.warnings)} if self.warnings else {})

    def table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Columns and rows of the metrics' table, with the marks: the row of held-out frames, if any, comes first."""
        rows = []
        for scored in filter(None, (self.held_out, self)):
            values = (f"{value:.4f}" for value in scored.figures.values.values())
            marked = (f"{scored.marks.get(name, 0)} of {scored.figures.frames} frames" for name in self.marks)
            rows.append((*values, *marked))
        return (*self.figures.values, *(name.replace("_", " ") for name in self.marks)), rows

    def line(self) -> str:
        """The figures in one line, those of held-out frames first."""
        values = ", ".join(f"{name} {value:.4f}" for name, value in self.figures.values.items())
        if self.held_out is not None:
            return f"held out: {self.held_out.line()}; all: {values} on {self.figures.frames} frames"
        return f"{values} on {self.figures.frames} frames"


def evaluate(
    prediction: str | Path | None = None,
    *,
    metrics: str | Sequence[str] = DEFAULT_METRICS,
    split: str | None = None,
    recipe: Recipe | str | Path | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    workers: int | None = None,
    context: Context = Context(),
) -> Evaluation:
    """Score a store or a folder of masks, as ``vss eval`` does.

    Parameters
    ----------
    prediction
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks; `None`: the newest store of an
        evaluation split in the workspace, of the recipe's data set if a recipe is given.
    metrics
        A name such as ``miou``, ``wiou`` or ``vc8``, or several.
    split
        Which videos; `None`: the store's own split, or ``val``.
    recipe
        Defines the data set; `None`: the one that the store names, or whatever is under the context's data root.
    protocol
        Way of counting video consistency.
    workers
        Processes, each with some of the videos; `None`: as many as the cores and the number of frames justify.
    context
        Where to work and on what data.

    Raises
    ------
    VssError
        There is nothing to score, or prediction and data do not fit together.
    """
    talk = context.talk
    metrics = metric_names(metrics)
    recipe = None if recipe is None else as_recipe(recipe)
    if prediction is None:
        path = newest_store(context.workspace, "evaluation", None if recipe is None else recipe.data.name)
    else:
        path = place_of(prediction)
    found = open_predicted(
        path, data_root=context.data_root, split=split, recipe=recipe, otherwise="val", any_classes=True
    )
    dataset = found.dataset
    talk.say(f"scoring {path} on split {found.split!r} of {dataset.name}, protocol {protocol!r}")
    videos = dataset.split(found.split)
    say_order(videos, talk)
    if compare_neighbours(metrics):
        say_gaps({video.name: video.stems for video in videos}, CONSISTENCY, talk)

    def scored(videos: Sequence[FolderVideo], talk: Talk) -> Figures:
        return score(
            videos,
            found.labels,
            dataset.table,
            dataset.ids,
            metrics=metrics,
            protocol=protocol,
            engine=Engine(workers, context.engine),
            talk=talk,
        )

    figures = scored(videos, talk)
    for reason in figures.reasons:
        talk.warn(reason)
    remarks = [*_foreign(videos, dataset), *doubts(figures, dataset.meaning, f"split {found.split!r}")]
    for remark in remarks:
        if remark.weight == "fault":
            raise VssError(remark.what, remark.remedy)
        say_remark(remark, talk)
    warned = [str(remark) for remark in remarks if remark.weight == "warning"]
    judged = [frame for video in videos for frame in video.frames if frame.mask is not None]
    learned = learned_frames(found.header, dataset, judged) if found.header is not None else []
    chosen = chosen_frames(found.header, dataset, judged) if found.header is not None else []
    for doubt in filter(None, (learned_remark(len(learned), len(judged)), chosen_remark(len(chosen), len(judged)))):
        warned.append(doubt)
        talk.warn(doubt)
    of = (path, dataset.root, found.split)
    held_out = None
    if 0 < len(learned) < len(judged) and need_masks(metrics):
        others = scored(without_masks(videos, learned), SILENCE)
        held_out = Evaluation(others, *of, chosen=len({*chosen} - {*learned}))
    return Evaluation(figures, *of, tuple(warned), len(learned), len(chosen), held_out)


def _foreign(videos: Sequence[FolderVideo], dataset: Dataset) -> list[Remark]:
    """Masks whose own note says that they count classes from another number; the first of each video is checked."""
    first = dataset.ids.first
    masks = [next((frame.mask for frame in video.frames if frame.mask is not None), None) for video in videos]
    for mask in masks if dataset.ids.reader is None else ():
        noted = noted_first(mask) if mask is not None else None
        if noted not in (None, first):
            what = f"mask {mask} counts classes from {noted}, by the note that vss left in it; data.first_id is {first}"
            return [Remark("warning", what, counted_remedy(noted or 0, dataset.meaning))]
    return []
