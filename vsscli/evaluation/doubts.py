"""Signs that figures are wrong: masks or predictions whose values seem to mean something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from vsscli.data.classes import IGNORE
from vsscli.data.masks import describe_values
from vsscli.data.verdict import Meaning, Remark, judge, judge_absent
from vsscli.evaluation.figures import Figures

MOST = 0.5
"""If more than this share of the labelled pixels are predicted as the class next to their own, that is no accident."""


def doubts(figures: Figures, meaning: Meaning, what: str) -> list[Remark]:
    """Everything that looks wrong about what was scored.

    Parameters
    ----------
    figures
        Includes the values found in masks and predictions.
    meaning
        What the masks' values are declared to mean. Unknown ones counted as void.
    what
        Name of the split in messages.

    Returns
    -------
    list of Remark
        One of them is a fault if no pixel has a class although the requested figures compare classes.
    """
    void = replace(meaning, ids=replace(meaning.ids, unknown="void"))
    found = judge(figures.census, void, what)
    if not len(figures.matrix):
        return [replace(remark, weight="warning") if remark.weight == "fault" else remark for remark in found]
    return [*found, *judge_absent(figures.census, void, what, "note"), *_of_predictions(figures.matrix)]


def _of_predictions(matrix: np.ndarray) -> Iterator[Remark]:
    """Remarks on (C, 256) pixels by class and predicted value."""
    count, total = len(matrix), int(matrix.sum())
    if not total:
        return
    predicted = matrix.sum(axis=0)
    beyond = [int(value) for value in np.flatnonzero(predicted) if count <= value < IGNORE]
    if beyond:
        share = predicted[beyond].sum() / total
        remedy = "write class indices, 0 for the first class"
        if beyond == [count]:
            remedy = "predictions must hold class indices from 0; these seem to start at 1, like masks: subtract 1"
        yield Remark(
            "warning",
            f"predictions hold {describe_values(beyond)}, beyond the {count} classes 0..{count - 1}, in {share:.1%} of "
            "the labelled pixels, which count as wrong",
            remedy,
        )
    if predicted[IGNORE]:
        share = predicted[IGNORE] / total
        what = f"predictions hold {IGNORE}, not a class, in {share:.1%} of the labelled pixels, which count as wrong"
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
                "masks or predictions seem to be shifted: check data.first_id; predictions start at 0",
            )
