"""What makes figures doubtful: masks or predictions that seem to mean something else than they are taken for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.data.masks import describe_values
from vsscli.data.verdict import Meaning, Remark, judge, judge_absent
from vsscli.evaluation.figures import Figures

MOST = 0.5
"""Share of the labelled pixels that are predicted as the class beside their own, from which on that is no accident."""


def doubts(figures: Figures, meaning: Meaning, what: str) -> list[Remark]:
    """All that is odd about what was scored.

    Parameters
    ----------
    figures
        With what masks and predictions hold.
    meaning
        What the masks' values are said to mean. Those that mean nothing counted as void.
    what
        What to call the split.

    Returns
    -------
    list of Remark
        A fault where no pixel has a class though figures were asked for that compare classes.
    """
    void = replace(meaning, ids=replace(meaning.ids, unknown="void"))
    found = judge(figures.census, void, what)
    if not len(figures.matrix):
        return [replace(remark, weight="warning") if remark.weight == "fault" else remark for remark in found]
    return [*found, *judge_absent(figures.census, void, what, "note"), *_of_predictions(figures.matrix)]


def _of_predictions(matrix: np.ndarray) -> Iterator[Remark]:
    """Of (C, 256) pixels by class and predicted value."""
    count, total = len(matrix), int(matrix.sum())
    if not total:
        return
    predicted = matrix.sum(axis=0)
    beyond = [int(value) for value in np.flatnonzero(predicted) if count <= value < IGNORE]
    if beyond:
        share = predicted[beyond].sum() / total
        remedy = "write class indices, 0 for the first class"
        if beyond == [count]:
            remedy = "predictions hold class indices from 0; these seem to count from 1, as masks do: subtract 1"
        yield Remark(
            "warning",
            f"predictions hold {describe_values(beyond)}, beyond the {count} classes 0..{count - 1}, in {share:.1%} of "
            "the labelled pixels, which count as wrong",
            remedy,
        )
    if predicted[IGNORE]:
        share = predicted[IGNORE] / total
        what = f"predictions hold {IGNORE}, no class, in {share:.1%} of the labelled pixels, which count as wrong"
        yield Remark("warning", what, "predict a class for every pixel")
    rows = np.arange(count)
    right = matrix[rows, rows].sum() / total
    for step, beside in ((1, "after"), (-1, "before")):
        inside = rows[(rows + step >= 0) & (rows + step < IGNORE)]
        share = matrix[inside, inside + step].sum() / total
        if count > 2 and share > MOST and share > right:
            yield Remark(
                "warning",
                f"{share:.1%} of the labelled pixels are predicted as the class {beside} their own, {right:.1%} as "
                "their own",
                "masks or predictions seem to count from another number: see data.first_id; predictions count from 0",
            )
