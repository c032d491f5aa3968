"""Checking the values of pipelines with the functions that would otherwise refuse them hours later."""

from __future__ import annotations

from vsscli.errors import VssError
from vsscli.recipes.pipeline import Pipeline
from vsscli.recipes.text import Key
from vsscli.stages.kinds import KINDS


def value_faults(pipeline: Pipeline) -> list[tuple[Key, str]]:
    """Values that the stages' functions would refuse, such as an unknown metric, as `vsscli.recipes.graph.faults`."""
    found: list[tuple[Key, str]] = []
    for name, stage in pipeline.stages.items():
        for key, call in KINDS[type(stage)].checks(stage):
            try:
                call()
            except VssError as error:
                # Hints that name options apply to the command line.
                hint = f"; {error.hint}" if error.hint and "--" not in error.hint else ""
                found.append((("stages", name, *key), f"{error.message}{hint}"))
    return found
