"""From checkpoints and unlabelled frames to pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vsscli.context import Context
from vsscli.engine.engine import Engine
from vsscli.engine.part import WHOLE, Part
from vsscli.errors import VssError
from vsscli.fusion.ensemble import normalised_weights
from vsscli.fusion.threshold import (
    PseudoReport,
    Threshold,
    require_percentile,
    threshold_from_percentile,
    write_pseudo,
)
from vsscli.inference.processes import processes_for
from vsscli.names import several
from vsscli.pipeline.ensemble import ensemble
from vsscli.pipeline.predict import Prediction, predict_split
from vsscli.pipeline.predicted import warn_of_missing
from vsscli.pipeline.workspace import Begin, unheard
from vsscli.recipes.pipeline import DEFAULT_PERCENTILE
from vsscli.store.reader import open_store
from vsscli.store.remote import beside, place_of


@dataclass(frozen=True)
class PseudoLabels:
    """A pseudo-label store, the predictions it was made from, and its contents."""

    store: Path
    predictions: Path
    names: tuple[str, ...]
    report: PseudoReport

    def to_json(self) -> dict[str, object]:
        """Plain values for one JSON object."""
        report = self.report
        counts = zip(self.names, report.class_pixels, report.class_reliable, strict=True)
        return {
            "store": str(self.store),
            "predictions": str(self.predictions),
            "threshold": report.threshold.value,
            "percentile": report.threshold.percentile,
            "frames": report.frames,
            "pixels": report.pixels,
            "reliable": report.share,
            "per_class": [{"name": name, "pixels": pixels, "reliable": kept} for name, pixels, kept in counts],
        }


def pseudo(
    models: str | Path | Sequence[str | Path] = (),
    *,
    store: str | Path | None = None,
    split: str = "unlabelled",
    context: Context = Context(),
    tta: bool = False,
    plan: str | None = None,
    weights: Sequence[float] | None = None,
    threshold: float | None = None,
    percentile: float | None = None,
    by_class: bool = False,
    workers: int | None = None,
    force: bool = False,
    begin: Begin = unheard,
) -> PseudoLabels:
    """Predict a split with every model, fuse, and keep the labels of reliable pixels, as ``vss pseudo`` does.

    Cached work is not repeated; if all predictions are cached, no network is loaded.

    Parameters
    ----------
    models
        Checkpoints; several are fused.
    store
        A prediction store to threshold, instead of models.
    split
        "train", "val", "labelled", "unlabelled", or any other list of the data set.
    context
        Where to work, on what data and which device.
    tta, plan
        Test-time augmentation by the recipe's plan, or by another plan, given by name or file.
    weights
        Weights of the models in the fusion; `None`: equal weights.
    threshold, percentile
        A pixel is reliable if its normalised entropy is at most the threshold, or among this percentage of the lowest
        entropies of all pixels. Give at most one; without either, the 80th percentile.
    by_class
        Take the percentile of each class's pixels separately.
    workers
        Processes that fuse and threshold, each with some of the videos; `None`: as many as the cores and the number of
        frames justify. With an engine other than "local" also those that predict, as for
        :func:`vsscli.pipeline.predict.predict_split`.
    force
        Write a new store beside a different one in its place.
    begin
        Called with the place of the pseudo-labels before anything is written there.

    Returns
    -------
    PseudoLabels
        ``store`` and ``predictions``, paths of stores; ``report``, what they hold.

    Raises
    ------
    VssError
        Both models and a store are given, or neither, or a store and how to predict; both thresholds are given; or
        prediction or fusion fails.
    """
    models = several(models)
    if bool(models) == (store is not None):
        raise VssError(
            "pseudo-labels need either models or a store of predictions",
            "for example: vss pseudo --models t.pt s.pt --tta",
        )
    if store is not None and (tta or plan is not None):
        raise VssError("--tta is of models that predict, and a store is thresholded as it is", "leave it out")
    if threshold is not None and percentile is not None:
        raise VssError("--threshold and --percentile exclude each other", "give one of them")
    if threshold is not None and by_class:
        raise VssError(
            "--by-class finds a threshold for each class from a percentile; --threshold gives one for all",
            "leave out one of them",
        )
    # Bad numbers are refused before hours of prediction.
    if weights is not None:
        if len(weights) != len(models):
            what = f"{len(weights)} weights for {len(models)} models"
            raise VssError(what, "give one weight per model, in their order")
        normalised_weights(weights, len(models))
    if threshold is not None:
        Threshold(threshold)
    if percentile is None:
        percentile = DEFAULT_PERCENTILE
    require_percentile(percentile)
    if store is not None:
        predictions = place_of(store)
    else:
        predictions = _predictions(
            models, weights, split=split, context=context, tta=tta, plan=plan, workers=workers, force=force
        )
    engine = Engine(workers, context.engine)
    with processes_for(context).rank_zero_first():
        source = open_store(predictions)
        warn_of_missing(source, context)
        if threshold is not None:
            limit = Threshold(threshold)
        else:
            limit = threshold_from_percentile(source, percentile, by_class=by_class, talk=context.talk, engine=engine)
        named = f"by-class-{limit.percentile:g}" if limit.class_levels else f"{limit.level:03d}"
        out = beside(predictions, f".pseudo-{named}.zarr")
        begin(out, [predictions])
        report = write_pseudo(source, out, limit, talk=context.talk, engine=engine, force=force)
    return PseudoLabels(report.path, predictions, source.header.table.names, report)


def predict_all(
    models: Sequence[str | Path],
    split: str = "unlabelled",
    *,
    context: Context = Context(),
    tta: bool = False,
    plan: str | None = None,
    part: Part = WHOLE,
    workers: int | None = None,
    force: bool = False,
) -> list[Prediction]:
    """Predict a split, or a share of its videos, with every model; the first step of `pseudo`, with its options."""
    how: dict[str, Any] = {"context": context, "tta": tta, "plan": plan, "part": part, "workers": workers}
    how["force"] = force
    paths = [Path(model) for model in models]
    return [predict_split(path, split, along=paths[number:], **how) for number, path in enumerate(paths, 1)]


def _predictions(
    models: Sequence[str | Path],
    weights: Sequence[float] | None,
    *,
    split: str,
    context: Context,
    tta: bool,
    plan: str | None,
    workers: int | None,
    force: bool,
) -> Path:
    """The store of one model's predictions, or of the fusion of several."""
    how: dict[str, Any] = {"context": context, "tta": tta, "plan": plan, "workers": workers, "force": force}
    stores = [made.store for made in predict_all(models, split, **how)]
    if len(stores) == 1:
        return stores[0]
    with processes_for(context).rank_zero_first():
        return ensemble(stores, weights, context=context, workers=workers, force=force).store
