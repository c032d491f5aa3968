"""What is wrong with values of pipelines and recipes, as the functions find that are called hours later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from vsscli.errors import VssError
from vsscli.fusion.ensemble import normalised_weights
from vsscli.metrics.registry import metric_names
from vsscli.recipes.pipeline import AnyStage, EnsembleStage, EvalStage, Pipeline, SubmitStage
from vsscli.recipes.schema import Recipe
from vsscli.recipes.text import Key
from vsscli.submission.layout import Layout


def value_faults(pipeline: Pipeline) -> list[tuple[Key, str]]:
    """Names of metrics that are none, weights that can't be divided by their sum, folders in a zip that are none.

    Returns
    -------
    list of tuple
        As of `vsscli.recipes.graph.faults`.
    """
    found: list[tuple[Key, str]] = []
    for name, stage in pipeline.stages.items():
        for key, call in _calls(stage):
            try:
                call()
            except VssError as error:
                # The other hints are of the command line.
                hint = f"; {error.hint}" if isinstance(stage, EvalStage) else ""
                found.append((("stages", name, *key), f"{error.message}{hint}"))
    return found


def network_faults(recipe: Recipe) -> list[tuple[Key, str]]:
    """A network that can't be built because nothing is called so: an encoder that timm does not know, a backbone.

    Returns
    -------
    list of tuple
        As of `vsscli.recipes.graph.faults`.
    """
    try:
        recipe.model.require_known()
    except VssError as error:
        return [(("model", recipe.model.named_by), f"{error.message}; {error.hint}")]
    return []


def _calls(stage: AnyStage) -> Iterator[tuple[Key, Callable[[], object]]]:
    match stage:
        case EvalStage():
            yield from ((("metrics", i), partial(metric_names, [name])) for i, name in enumerate(stage.metrics))
        case EnsembleStage() if stage.weights is not None:
            yield ("weights",), partial(normalised_weights, stage.weights, len(stage.of))
        case SubmitStage():
            yield ("prefix",), partial(Layout.for_classes, 1, stage.label_offset, stage.prefix)
