"""Charts of results: how right reliable pixels are, and how trainings went."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from vsscli.report.chart import COLOURS, line_chart

Points = Sequence[Sequence[float]]

SCORES = ("miou", "wiou", "vc8", "vc16")
LEFT_OUT = ("data_time", "step_time", "network_share", "epoch")
"""Figures of a run that a chart says nothing about."""


def reliability_chart(
    coverage: Sequence[float],
    precision: Sequence[float | None],
    *,
    covered: float | None = None,
    threshold: float | None = None,
) -> str:
    """Coverage against precision as SVG; without any precision, coverage against the threshold.

    Parameters
    ----------
    coverage, precision
        Share of all pixels that are reliable, and share of these that are right, by threshold from 0 to 1 in even
        steps; `None` or NaN where unknown.
    covered, threshold
        The coverage of the pseudo-labels and their threshold, to be marked.
    """
    mark = None if covered is None else f"{covered:.1%} reliable"
    known = [
        (float(x), float(y))
        for x, y in zip(coverage, precision, strict=True)
        if x and y is not None and not math.isnan(y)
    ]
    if not known:
        return line_chart(
            "Reliable pixels by threshold",
            [("", [(number / (len(coverage) - 1), float(share)) for number, share in enumerate(coverage)])],
            x_title="threshold: entropy, of its maximum",
            y_title="reliable pixels, of all",
            x_range=(0, 1),
            y_range=(0, 1),
            # Thresholds per class have no single place on the axis.
            mark=None if threshold is None or mark is None else (threshold, mark),
        )
    lowest = min(y for _, y in known)
    return line_chart(
        "How right the reliable pixels are",
        [("", known)],
        x_title="reliable pixels, of all",
        y_title="right, of the reliable ones",
        x_range=(0, 1),
        y_range=(0.95 if lowest >= 0.95 else math.floor(lowest * 10) / 10, 1.0),  # ten steps of round numbers
        mark=None if covered is None or mark is None else (covered, mark),
    )


def training_charts(runs: Sequence[tuple[str, Mapping[str, Points]]]) -> dict[str, str]:
    """Charts as SVG by figure, each with a line for every run that has it at two steps or more.

    Parameters
    ----------
    runs
        Names, and figures by name as pairs of step and value. Only the first few are drawn, as many as a chart has
        colours.
    """
    from vsscli.metrics.registry import title

    names = {name for _, figures in runs for name, points in figures.items() if len(points) > 1}
    first = [name for name in ("loss", *SCORES, "lr") if name in names]
    rest = sorted(name for name in names - {*first, *LEFT_OUT} if name.startswith("loss_"))
    charts = {}
    for name in [*first, *rest]:
        lines = [
            (run, [(float(x), float(y)) for x, y in figures[name] if math.isfinite(y)])
            for run, figures in runs
            if len(figures.get(name, ())) > 1
        ][: len(COLOURS)]
        points = [point for _, line in lines for point in line]
        if not points:
            continue
        share = name in SCORES
        low = min(0.0, *(y for _, y in points))
        top = 1.0 if share else _ceiling(max(y for _, y in points))
        charts[name] = line_chart(
            title(name) if share else name.replace("_", " "),
            lines,
            x_title="step",
            y_title="",
            x_range=(0, _ceiling(max(x for x, _ in points))),
            y_range=(-_ceiling(-low) if low < 0 else 0.0, top if top > low else low + 1),
            x_format="{:,.0f}".format,
            y_format=None if share else "{:.3g}".format,
        )
    return charts


def _ceiling(value: float) -> float:
    """The next number of one digit that a grid of ten divides well: 1, 1.5, 2, 3, 4, 5, 6, 8 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= value * (1 - 1e-9))
