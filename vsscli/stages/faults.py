"""What is wrong with values of pipelines and recipes, as the functions find that are called hours later."""

from __future__ import annotations

from vsscli.errors import VssError
from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.schema import Recipe
from vsscli.recipes.text import Key
from vsscli.stages.kinds import KINDS


def value_faults(pipeline: Pipeline) -> list[tuple[Key, str]]:
    """What functions of stages would refuse: no metric of such a name, weights that can't be divided by their sum.

    Returns
    -------
    list of tuple
        As of `vsscli.recipes.graph.faults`.
    """
    found: list[tuple[Key, str]] = []
    for name, stage in pipeline.stages.items():
        for key, call in KINDS[type(stage)].checks(stage):
            try:
                call()
            except VssError as error:
                # Hints that name options are of the command line.
                hint = f"; {error.hint}" if error.hint and "--" not in error.hint else ""
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
