"""Compare two predictions of the same frames, with and without ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vsscli.context import Context
from vsscli.data.masks import to_classes
from vsscli.data.videos import FolderVideo
from vsscli.errors import VssError
from vsscli.evaluation.difference import Difference, difference
from vsscli.inside import require_folder
from vsscli.pipeline.learned import learned_frames, learned_remark
from vsscli.pipeline.predicted import Predicted, open_predicted
from vsscli.recipes.load import as_recipe
from vsscli.recipes.schema import Recipe
from vsscli.report.difference import difference_picture
from vsscli.report.overlay import save_picture
from vsscli.store.remote import place_of


@dataclass(frozen=True)
class Comparison:
    """Two predictions by their short names, how they differ, pictures of the frames where they differ most, and doubts
    about the figures."""

    names: tuple[str, str]
    paths: tuple[Path, Path]
    split: str
    difference: Difference
    pictures: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()

    def by_class(self) -> list[dict[str, Any]]:
        """The labelled classes, from the largest gain of the second prediction to its largest loss."""
        found = self.difference
        rows = [
            {
                "name": name,
                "pixels": int(found.pixels[index]),
                "first": float(found.iou[0, index]),
                "second": float(found.iou[1, index]),
                "difference": float(found.iou[1, index] - found.iou[0, index]),
                "spread": float(found.spread[index]),
            }
            for index, name in enumerate(found.names)
            if found.pixels[index]
        ]
        return sorted(rows, key=lambda row: -row["difference"])


def compare(
    first: str | Path,
    second: str | Path,
    *,
    split: str | None = None,
    recipe: Recipe | str | Path | None = None,
    pictures: int = 0,
    out: str | Path | None = None,
    workers: int | None = None,
    context: Context = Context(),
) -> Comparison:
    """Compare two predictions, as ``vss compare`` does.

    Parameters
    ----------
    first, second
        Prediction stores, or folders of ``<video>/<stem>.png`` class-index masks, of the same frames and classes.
    split
        Which videos; `None`: the split of the first store, or ``val``.
    recipe
        Defines the data set; `None`: the one that the first store names, or whatever is under the context's data root.
    pictures
        How many frames to draw, those with the largest differences.
    out
        Folder for these; `None`: ``pictures/<first>-<second>`` in the workspace.
    workers
        Threads that decode; `None`: one per core.

    Raises
    ------
    VssError
        The predictions are of other frames or classes.
    """
    known = None if recipe is None else as_recipe(recipe)
    opened = [
        open_predicted(
            place_of(path), data_root=context.data_root, split=split, recipe=known, otherwise="val", any_classes=True
        )
        for path in (first, second)
    ]
    one, other = opened
    names = _short_names(one.path, other.path)
    _require_same(one, other)
    folder = Path(out) if out is not None else context.workspace / "pictures" / "-".join(names)
    require_folder(folder, "--out")
    videos = one.dataset.split(one.split)
    context.talk.say(f"comparing {one.path} and {other.path} on split {one.split!r} of {one.dataset.name}")
    found = difference(
        videos,
        (one.labels, other.labels),
        one.dataset.table,
        one.dataset.ids,
        most=pictures,
        workers=workers,
        talk=context.talk,
    )
    drawn = _draw(opened, videos, found, names, folder, context) if pictures else []
    return Comparison(names, (one.path, other.path), one.split, found, tuple(drawn), tuple(_doubts(opened, videos)))


def _require_same(one: Predicted, other: Predicted) -> None:
    if one.dataset.table.names != other.dataset.table.names:
        raise VssError(
            f"{one.path} has the classes of {one.dataset.table.name}, {other.path} those of {other.dataset.table.name}",
            "compare predictions of the same classes",
        )
    if one.header is not None and other.header is not None and one.split != other.split:
        raise VssError(
            f"{one.path} predicts split {one.split!r}, {other.path} split {other.split!r}",
            "compare predictions of the same frames, or name a split that both hold with --split",
        )


def _short_names(one: Path, other: Path) -> tuple[str, str]:
    """The last parts of two paths in which they differ."""
    first, second = ([*path.parts[:-1], path.name.removesuffix(".zarr")] for path in (one, other))
    for part, against in zip(reversed(first), reversed(second), strict=False):
        if part != against:
            return part, against
    return "first", "second"


def _draw(
    opened: list[Predicted],
    videos: list[FolderVideo],
    found: Difference,
    names: tuple[str, str],
    folder: Path,
    context: Context,
) -> list[Path]:
    table, ids = opened[0].dataset.table, opened[0].dataset.ids
    drawn = []
    with context.talk.track("draw", len(found.most), "picture") as advance:
        for place in found.most:
            video = videos[place.video]
            frame = video.frames[place.index]
            if frame.image is None:
                raise VssError(f"frame {frame.address} has no image to draw on", "leave --pictures out")
            labels = {
                name: one.labels.label(frame.video, place.index, frame.stem)
                for name, one in zip(names, opened, strict=True)
            }
            truth = None if frame.mask is None else to_classes(ids.read(frame.mask), ids, table.num_classes, frame.mask)
            drawn.append(folder / frame.video / f"{frame.stem}.png")
            image = np.asarray(video.read(place.index))
            save_picture(drawn[-1], difference_picture(image, labels, truth, table))
            advance(1)
    return drawn


def _doubts(opened: list[Predicted], videos: list[FolderVideo]) -> list[str]:
    judged = [frame for video in videos for frame in video.frames if frame.mask is not None]
    said = []
    for one in opened:
        if one.header is not None and (learned := learned_frames(one.header, one.dataset, judged)):
            said.append(f"{one.path}: {learned_remark(len(learned), len(judged))}")
    return said
