"""The verbs of the command line as functions: the same work, with the same defaults."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from vsscli.api.store import OpenStore
from vsscli.context import Context
from vsscli.metrics.protocols import DEFAULT_PROTOCOL
from vsscli.metrics.registry import DEFAULT_METRICS
from vsscli.pipeline import ensemble as fusion
from vsscli.pipeline import evaluate as scores
from vsscli.pipeline.evaluate import Evaluation
from vsscli.pipeline.pseudo import PseudoLabels, pseudo_label
from vsscli.pipeline.train import train_recipe
from vsscli.recipes.load import load_recipe
from vsscli.recipes.schema import Recipe
from vsscli.stages.job import open_job
from vsscli.stages.run import Ran, run_pipeline
from vsscli.training.begun import TrainResult


def train(
    recipe: Recipe | str | Path,
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    pseudo_labels: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    check: bool = True,
    context: Context | None = None,
) -> TrainResult:
    """Train a network from a recipe, as ``vss train`` does.

    Parameters
    ----------
    recipe, overrides
        As for `load_recipe`; a recipe that is loaded already is taken as it is, without overrides.
    out
        Folder of the run; None: its place in the workspace.
    pseudo_labels, init
        Override the recipe's pseudo-label store and initial checkpoint.
    resume, force
        Continue the run in that folder; or start anew in its place.
    check
        Look at every file that the run will read before the first step.
    context
        Where, on what data and device.

    Returns
    -------
    TrainResult
        ``last`` and ``best``, paths of checkpoints; ``figures`` on the split that the recipe evaluates on.
    """
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, overrides)
    return train_recipe(
        loaded,
        _path(out),
        context=context or Context(),
        pseudo_labels=_path(pseudo_labels),
        init=_path(init),
        resume=resume,
        force=force,
        check=check,
    )


def pseudo(
    models: Sequence[str | Path] = (),
    *,
    store: str | Path | None = None,
    split: str = "unlabelled",
    tta: bool = False,
    plan: str | None = None,
    weights: Sequence[float] | None = None,
    threshold: float | None = None,
    percentile: float | None = None,
    by_class: bool = False,
    force: bool = False,
    context: Context | None = None,
) -> PseudoLabels:
    """Predict a split with every model, fuse, and keep the sure pixels' labels, as ``vss pseudo`` does.

    Parameters
    ----------
    models, store
        Checkpoints; or a store of predictions to threshold instead.
    split, tta, plan
        As for `Model.predict`.
    weights
        Of the models in the fusion; None: all alike.
    threshold, percentile, by_class
        Reliable is a pixel of normalised entropy of at most the threshold, or among this percentage of lowest
        entropies, of all pixels or of each class's. None of both: the 80th percentile.
    force
        Where another store lies, write a new one beside it.
    context
        Where, on what data and device.

    Returns
    -------
    PseudoLabels
        ``store`` and ``predictions``, paths of stores; ``report``, what they hold.
    """
    return pseudo_label(
        [Path(model) for model in models],
        store=_path(store),
        split=split,
        context=context or Context(),
        tta=tta,
        plan=plan,
        weights=weights,
        threshold=threshold,
        percentile=percentile,
        by_class=by_class,
        force=force,
    )


def ensemble(
    stores: Sequence[str | Path],
    weights: Sequence[float] | None = None,
    *,
    out: str | Path | None = None,
    method: Literal["arithmetic", "geometric"] = "arithmetic",
    fit_weights: bool = False,
    temporal: int = 0,
    force: bool = False,
    context: Context | None = None,
) -> OpenStore:
    """Fuse prediction stores of the same frames into one, as ``vss ensemble`` does; no network runs.

    Parameters
    ----------
    stores
        Two or more; one where it is only smoothed.
    weights
        One for each; None: all alike.
    out
        The fused store; None: its place in the workspace.
    method
        Mean of the distributions.
    fit_weights
        Find weights and temperatures on the masks of the split.
    temporal
        Smooth along time, over so many frames before and behind.
    force
        Where another store lies, write a new one beside it.
    context
        Where.
    """
    named = [Path(store) for store in stores]
    where = context or Context()
    how: dict[str, Any] = {"method": method, "fit": fit_weights, "temporal": temporal, "force": force}
    fused = fusion.ensemble(named, weights, context=where, out=_path(out), **how)
    return OpenStore(fused.store)


def evaluate(
    prediction: str | Path | None = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    split: str | None = None,
    recipe: Recipe | str | Path | None = None,
    protocol: str = DEFAULT_PROTOCOL,
    workers: int | None = None,
    context: Context | None = None,
) -> Evaluation:
    """Score a store or a folder of masks, as ``vss eval`` does.

    Parameters
    ----------
    prediction
        A prediction store, or a folder of ``<video>/<stem>.png`` class-index masks; None: the newest store of an
        evaluation split in the workspace.
    metrics
        Names such as ``miou``, ``wiou`` and ``vc8``.
    split
        Which videos; None: the store's own, or the recipe's evaluation split.
    recipe
        Says what the data set is; None: the store, or what lies under the context's data root.
    protocol
        Way of counting.
    workers
        Threads that decode; None: one a core.
    context
        Where, and on what data.

    Returns
    -------
    Evaluation
        ``figures.values["miou"]`` and the like, fractions.
    """
    loaded = recipe if isinstance(recipe, Recipe) or recipe is None else load_recipe(recipe)
    return scores.evaluate(
        context=context or Context(),
        prediction=_path(prediction),
        split=split,
        recipe=loaded,
        metrics=metrics,
        protocol=protocol,
        workers=workers,
    )


def run(
    pipeline: str | Path,
    stages: Sequence[str] = (),
    *,
    overrides: Sequence[str] = (),
    until: str | None = None,
    force: Sequence[str] = (),
    context: Context | None = None,
) -> Ran:
    """Run the stages of a pipeline that are not done, as ``vss run`` does.

    Parameters
    ----------
    pipeline
        A YAML file, or one that ships with vss.
    stages, until
        Stages to run with all they need, or the last one; none of both: all.
    overrides
        ``key.key=value`` each.
    force
        Stages to do anew though they are done.
    context
        Where, on what data and devices.
    """
    chosen = context or Context()
    job = open_job(pipeline, overrides, context=chosen)
    return run_pipeline(job, names=stages, until=until, force=force)


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)
