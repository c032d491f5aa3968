"""What is wrong with values of pipelines, as the functions find that are called hours later."""

from __future__ import annotations

from vsscli.errors import VssError
from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.text import Key
from vsscli.stages.kinds import KINDS


def value_faults(pipeline: Pipeline) -> list[tuple[Key, str]]:
    """What functions of stages would refuse, as `vsscli.recipes.graph.faults` gives it: a metric that is none, say."""
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
