"""Fitting the weights of a fusion on the masks of a split; no network runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.errors import VssError
from vsscli.files import write_text
from vsscli.fusion.fit import Fit, fit_weights, sweep
from vsscli.fusion.mix import Method
from vsscli.fusion.sources import require_alike
from vsscli.pipeline.ensemble import require_possible
from vsscli.pipeline.truth import Masks, open_masks
from vsscli.report.chart import line_chart
from vsscli.store.reader import Store, open_store


def find_weights(
    stores: Sequence[Path], *, context: Context = Context(), split: str | None = None
) -> tuple[Fit, dict[str, Any]]:
    """Fit weights and temperatures for a fusion of stores on the labelled frames of a split.

    Returns
    -------
    tuple
        The fit, and the data set and split that it was made on, as the fusion's header notes them.

    Raises
    ------
    VssError
        The stores can't be fused, or there are too few labelled frames.
    """
    sources, masks = _open(stores, context.data_root, split)
    note = {"data": masks.dataset.noted.model_dump(mode="json"), "split": masks.split}
    return fit_weights(sources, [*masks.frames], masks.label, talk=context.talk), note


def plot_sweep(
    stores: Sequence[Path],
    out: Path,
    *,
    context: Context = Context(),
    split: str | None = None,
    method: Method = "arithmetic",
    beside: Sequence[str] = (),
) -> list[tuple[float, float]]:
    """Plot mIoU against the weight of the first of two stores. Returns the points, weight and mIoU.

    ``beside`` names options of a fusion that were given as well, which is refused.
    """
    if beside:
        raise VssError(f"--sweep plots a curve and fuses nothing, so {beside[0]} has no meaning", "leave it out")
    sources, masks = _open(stores, context.data_root, split)
    points = sweep(sources, [*masks.frames], masks.label, method=method, talk=context.talk)
    low, high = min(miou for _, miou in points), max(miou for _, miou in points)
    room = max(0.1 * (high - low), 0.001)
    best, top = max(points, key=lambda point: point[1])
    first, second = (source.path.name.removesuffix(".zarr") for source in sources)
    chart = line_chart(
        "What the weight decides",
        [(f"{first} against {second}", points)],
        x_title=f"weight of {first}",
        y_title="mIoU",
        x_range=(0.0, 1.0),
        y_range=(low - room, high + room),
        mark=(best, f"{top:.2%} at {best:.0%}"),
    )
    write_text(out, chart)
    return points


def _open(stores: Sequence[Path], data_root: Path | None, split: str | None) -> tuple[list[Store], Masks]:
    """Two or more stores that can be fused, and the masks of their frames."""
    require_possible(len(stores))
    sources = [open_store(path) for path in stores]
    require_alike(sources)
    return sources, open_masks(sources[0], data_root, split)
