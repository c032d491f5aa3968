"""From a prediction to a submission zip, and checking one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from vsscli.context import Context
from vsscli.data.layouts import Dataset, open_dataset, plain_data
from vsscli.data.palettes import legend_of
from vsscli.engine.engine import Engine
from vsscli.pipeline.predicted import Predicted, open_predicted
from vsscli.pipeline.workspace import newest_store
from vsscli.recipes.schema import Recipe
from vsscli.submission.archive import Written, write_submission
from vsscli.submission.check import Checked, check_submission
from vsscli.submission.layout import Layout

SPLIT = "test"


@dataclass(frozen=True)
class Target:
    """What a submission is for: a split of a data set, and the server's layout.

    Parameters
    ----------
    context
        Its workspace is searched for the newest store of the split if no prediction is named.
    prediction
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks.
    recipe
        Defines the data set; `None`: the one that the store names, or whatever is under the root. Its split needs
        images only.
    split
        Which videos; `None`: the store's own split, or ``test``.
    label_offset
        Pixel value of class 0.
    prefix
        Folder in the zip that holds the videos' folders.
    """

    context: Context = field(default_factory=Context)
    prediction: Path | None = None
    split: str | None = None
    recipe: Recipe | None = None
    label_offset: int = 0
    prefix: str = ""

    def predicted(self) -> Predicted:
        """Open the prediction, and find its data set."""
        data = self.recipe.data.name if self.recipe else None
        path = self.prediction or newest_store(self.context.workspace, self.split or SPLIT, data)
        root = self.context.data_root
        return open_predicted(path, data_root=root, split=self.split, recipe=self.recipe, otherwise=SPLIT)

    def data(self) -> tuple[Dataset, str]:
        """Find the data set and the split; by the prediction only if neither recipe nor root is given."""
        root = self.context.data_root
        if self.prediction is None and self.recipe is not None:
            return open_dataset(self.recipe.data, root), self.split or SPLIT
        if self.prediction is None and root is not None:
            return open_dataset(plain_data(root)), self.split or SPLIT
        found = self.predicted()
        return found.dataset, found.split

    def layout(self, dataset: Dataset) -> Layout:
        """Names and values in the zip."""
        return Layout.for_classes(dataset.table.num_classes, self.label_offset, self.prefix)


@dataclass(frozen=True)
class Submission:
    """A zip, and the prediction, data set and split it was made of."""

    written: Written
    prediction: Path
    data: Path
    split: str


@dataclass(frozen=True)
class SubmissionCheck:
    """The result of checking a zip, and what it was compared with."""

    checked: Checked
    data: Path
    split: str


def submit(target: Target, out: Path, *, workers: int | None = None) -> Submission:
    """Pack predictions of every frame of a split into a zip, which is complete or not written at all.

    Raises
    ------
    VssError
        There is nothing to pack, or a frame lacks a prediction of its size; see
        :func:`vsscli.submission.archive.write_submission`.
    """
    talk = target.context.talk
    found = target.predicted()
    layout = target.layout(found.dataset)
    talk.say(f"packing {found.path}, split {found.split!r} of {found.dataset.root}, into {out}")
    videos = found.dataset.split(found.split)
    engine = Engine(workers, target.context.engine)
    written = write_submission(videos, found.labels, out, layout, engine=engine, talk=talk)
    return Submission(written, found.path, found.dataset.root, found.split)


def check(target: Target, file: Path, *, workers: int | None = None) -> SubmissionCheck:
    """Compare a zip with its split. Nothing is unpacked to disk.

    Raises
    ------
    VssError
        The file is not a zip, or the data set is missing. Faults of the zip are in the result.
    """
    talk = target.context.talk
    dataset, split = target.data()
    layout = target.layout(dataset)
    talk.say(f"checking {file} against split {split!r} of {dataset.root}")
    legend = legend_of(dataset.table, layout.offset)
    checked = check_submission(file, dataset.split(split), layout, legend=legend, workers=workers, talk=talk)
    return SubmissionCheck(checked, dataset.root, split)
