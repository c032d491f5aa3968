"""How right reliable pixels are: a store compared with the available masks, as a table, a chart and figures."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsscli.context import Context
from vsscli.engine.engine import LOCAL, Engine
from vsscli.fusion.reliability import Reliability, measure_reliability
from vsscli.fusion.threshold import Threshold
from vsscli.pipeline.learned import learned_frames, learned_remark
from vsscli.pipeline.truth import Masks, open_masks
from vsscli.report.curves import reliability_chart
from vsscli.store.header import MAX_LEVEL
from vsscli.store.reader import Store, open_store
from vsscli.store.remote import beside, put_text

COLUMNS = ("reliable", "threshold", "right", "seldom reliable")


@dataclass(frozen=True)
class ReliabilityReport:
    """The counts, the threshold of the pseudo-labels, and the paths of chart and figures.

    ``learned`` is the number of judged frames that the networks were trained on, which say nothing about others.
    """

    reliability: Reliability
    threshold: Threshold
    chart: Path
    figures: Path
    learned: int = 0

    @property
    def columns(self) -> tuple[str, ...]:
        """`COLUMNS`, marked if judged frames were trained on."""
        return tuple(f"{name} (trained on)" if name == "right" and self.learned else name for name in COLUMNS)

    def to_json(self) -> dict[str, object]:
        """The counts as plain values, and the number of judged frames that were trained on, if any."""
        return self.reliability.to_json() | ({"trained_on": self.learned} if self.learned else {})

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Rows of a table with `COLUMNS`, one for each tenth of the pixels.

        The last column names classes whose share of reliable pixels is less than half of the overall share.
        """
        counts = self.reliability
        coverage, precision = counts.coverage(), counts.precision()
        lines = []
        for level in dict.fromkeys(counts.level_at(percentile) for percentile in range(10, 101, 10)):
            of_class = counts.class_coverage(level)
            seldom = [counts.names[number] for number in np.argsort(of_class) if of_class[number] < coverage[level] / 2]
            names = ", ".join(seldom[:4]) + (f" and {len(seldom) - 4} more" if len(seldom) > 4 else "")
            right = "-" if math.isnan(precision[level]) else f"{precision[level]:.2%}"
            lines.append((f"{coverage[level]:.1%}", f"{level / MAX_LEVEL:.4f}", right, names or "-"))
        return lines

    def class_rows(self) -> list[tuple[str, str, str, str]]:
        """For each class, at the pseudo-labels' threshold: share of all pixels, reliable of these, right of these."""
        counts, levels = self.reliability, _levels(self.threshold)
        share = counts.pixels.sum(0) / counts.pixels.sum()
        columns = (share, counts.class_coverage(levels), counts.class_precision(levels))
        shown = [["-" if math.isnan(value) else f"{value:.1%}" for value in column] for column in columns]
        return list(zip(counts.names, *shown, strict=True))


def report_reliability(
    predictions: Path, threshold: Threshold, *, context: Context = Context(), engine: Engine = LOCAL
) -> ReliabilityReport:
    """Measure a prediction store, and write ``<store>.reliability.svg`` and ``.json`` beside it.

    Parameters
    ----------
    predictions
        A prediction or a fusion.
    threshold
        The threshold to mark in the chart, and to use for the classes' shares.
    context
        Its data root is where the masks are; `None`: where the frames were when they were predicted.
    engine
        Where videos are counted.

    Raises
    ------
    VssError
        As `measure_reliability`, or the data set is missing.
    """
    talk = context.talk
    store = open_store(predictions)
    truth, learned = truth_of(store, context.data_root)
    counts = measure_reliability(store, truth, talk=talk, engine=engine)
    if counts.judged_frames < counts.frames:
        talk.say(f"{counts.judged_frames} of {counts.frames} frames have masks and show how many pixels are right")
    chart, figures = (beside(predictions, f".reliability.{kind}") for kind in ("svg", "json"))
    if learned:
        talk.warn(learned_remark(learned, counts.judged_frames))
    report = ReliabilityReport(counts, threshold, chart, figures, learned)
    put_text(report.chart, draw_reliability(counts, threshold))
    put_text(report.figures, json.dumps(report.to_json(), indent=1) + "\n")
    return report


def draw_reliability(counts: Reliability, threshold: Threshold) -> str:
    """Coverage against precision as SVG; without any masks, coverage against the threshold."""
    return reliability_chart(
        counts.coverage().tolist(),
        counts.precision().tolist(),
        covered=counts.covered(_levels(threshold)),
        threshold=None if threshold.class_levels else threshold.level / MAX_LEVEL,
    )


def _levels(threshold: Threshold) -> int | tuple[int, ...]:
    return threshold.class_levels or threshold.level


def truth_of(store: Store, data_root: Path | None) -> tuple[Masks, int]:
    """The masks of a store's frames (as `open_masks`), and how many of the frames with a mask were trained on."""
    masks = open_masks(store, data_root)
    return masks, len(learned_frames(store.header, masks.dataset, [*masks.frames.values()]))
