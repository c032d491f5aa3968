"""All metrics by name. A new metric is a file here and a line in `METRICS`."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from vsscli.errors import VssError
from vsscli.metrics.boundary import BoundaryIoU
from vsscli.metrics.calibration import CalibrationError
from vsscli.metrics.confusion import ConfusionMatrix
from vsscli.metrics.consistency import VideoConsistency
from vsscli.metrics.metric import Metric, Setting
from vsscli.metrics.warp import WarpedConsistency
from vsscli.names import several

METRICS: tuple[type[Metric], ...] = (
    ConfusionMatrix,
    VideoConsistency,
    BoundaryIoU,
    CalibrationError,
    WarpedConsistency,
)

DEFAULT_METRICS = ("miou", "wiou", "vc8", "vc16")


def metric_names(asked: str | Sequence[str]) -> tuple[str, ...]:
    """Check the names of metrics.

    Returns
    -------
    tuple
        The names in lower case, without repetitions, in the order given.

    Raises
    ------
    VssError
        A name is unknown, or there are none.
    """
    names = tuple(dict.fromkeys(name.lower() for name in several(asked)))
    known = [name for metric in METRICS for name in metric.names]
    if not names:
        raise VssError("no metrics were given", f"name some of {', '.join(known)}")
    for name in names:
        if metric_of(name) is None:
            near = get_close_matches(name, known, n=2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"metrics: {', '.join(known)} (vcN for any N)"
            raise VssError(f"unknown metric {name!r}", hint)
    return names


def metric_of(name: str) -> type[Metric] | None:
    """The metric that computes a figure."""
    return next((metric for metric in METRICS if metric.answers(name)), None)


def need_masks(names: Sequence[str]) -> bool:
    """Whether any of some figures compares with ground truth."""
    return any(metric is not None and not metric.without_truth for metric in map(metric_of, names))


def compare_neighbours(names: Sequence[str]) -> bool:
    """Whether any of some figures compares frames with the next ones, so that gaps in time matter."""
    return any(metric is not None and metric.gaps for metric in map(metric_of, names))


def build_metrics(names: Sequence[str], setting: Setting) -> list[Metric]:
    """The accumulators that compute some figures, each once, in the order of `METRICS`."""
    asked = [(metric, [name for name in names if metric.answers(name)]) for metric in METRICS]
    return [metric.build(own, setting) for metric, own in asked if own]


def title(name: str) -> str:
    """The usual spelling of a figure or a column: mIoU for ``miou``, VC8 for ``vc8``."""
    titles = (shown for metric in METRICS for shown in metric.titles)
    return next((shown for shown in titles if shown.lower() == name), name.upper())
