"""Stages as a graph: its faults, the order of running, and what chosen stages need."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from vsscli.errors import VssError
from vsscli.recipes.pipeline import AnyStage, EnsembleStage, Pipeline, PredictStage
from vsscli.recipes.text import Key


def faults(pipeline: Pipeline) -> list[tuple[Key, str]]:
    """Faults between stages.

    Returns
    -------
    list of tuple
        For each fault its key, from the top of the file, and what is wrong there.
    """
    found: list[tuple[Key, str]] = []
    stages = pipeline.stages
    for name, stage in stages.items():
        for key, other, kinds in stage.taken():
            place: Key = ("stages", name, *key)
            if other not in stages:
                found.append((place, f"there is no stage {other!r}{_nearest(other, stages, kinds)}"))
                continue
            if stages[other].do not in kinds:
                found.append((place, f"{other!r} is {_a(stages[other].do)} stage, not {_a(' or '.join(kinds))} stage"))
            if stages[other].optional and not stage.optional:
                found.append((place, f"{other!r} is optional, so a stage that takes it must be optional too"))
    circle = _circle(stages)
    if circle:
        return [*found, (("stages", circle[0]), f"the stages take each other in a circle: {' → '.join(circle)}")]
    return [*found, *_mixed(stages)]


def in_order(stages: Mapping[str, AnyStage]) -> list[str]:
    """The stages, each after everything it takes, otherwise in the order of the file; needs stages without faults."""
    ordered: list[str] = []

    def append(name: str) -> None:
        if name not in ordered:
            for other in stages[name].takes():
                append(other)
            ordered.append(name)

    for name in stages:
        append(name)
    return ordered


def upstream(stages: Mapping[str, AnyStage], name: str) -> set[str]:
    """A stage and all stages that it takes, directly or through others."""
    found, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting += stages[one].takes()
    return found


def chosen(pipeline: Pipeline, names: Sequence[str] = (), until: str | None = None) -> list[str]:
    """The stages to run, in order.

    Parameters
    ----------
    pipeline
        Without faults.
    names
        Stages to run with everything they need; none: all that are not optional.
    until
        The last stage: those after it in the order of running are left out.

    Raises
    ------
    VssError
        There is no such stage; suggests the nearest name.
    """
    stages = pipeline.stages
    for name in (*names, *([] if until is None else [until])):
        require_stage(pipeline, name)
    order = in_order(stages)
    wanted = set(names) or {name for name in order if not stages[name].optional}
    if until is not None:
        if not names:
            wanted |= {until}
        wanted = {name for name in wanted if order.index(name) <= order.index(until)} | ({until} if names else set())
    needed = set().union(*(upstream(stages, name) for name in wanted))
    return [name for name in order if name in needed]


def require_stage(pipeline: Pipeline, name: str) -> None:
    """Refuse the name of an unknown stage."""
    if name not in pipeline.stages:
        near = difflib.get_close_matches(name, pipeline.stages, n=1)
        raise VssError(
            f"pipeline {pipeline.name} has no stage {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
            f"its stages: {', '.join(pipeline.stages)}",
        )


def _mixed(stages: Mapping[str, AnyStage]) -> Iterator[tuple[Key, str]]:
    """Ensembles of predictions of different splits, and weights fitted on predictions of other networks."""
    for name, stage in stages.items():
        if not isinstance(stage, EnsembleStage):
            continue
        for key, names in (("of", stage.of), ("fit_on", stage.fit_on or ())):
            splits = [(number, one, prediction.split) for number, one, prediction in _first(stages, names)]
            for number, other, split in splits[1:]:
                if split != splits[0][2]:
                    what = f"{other!r} is of split {split!r}, {splits[0][1]!r} of {splits[0][2]!r}"
                    yield ("stages", name, key, number), f"{what}: only predictions of the same frames can be fused"
        for number, (other, fused) in enumerate(zip(stage.fit_on or (), stage.of, strict=False)):
            fitted, used = (" and ".join(one.model for one in predictions(stages, source)) for source in (other, fused))
            if fitted and used and fitted != used:
                what = f"{other!r} is of {fitted}, {fused!r} of {used}"
                yield ("stages", name, "fit_on", number), f"{what}: weights must be fitted on the same networks"


def _first(stages: Mapping[str, AnyStage], names: Sequence[str]) -> Iterator[tuple[int, str, PredictStage]]:
    """For each prediction or fusion its number, its name and its first prediction, if that is known."""
    for number, name in enumerate(names):
        for prediction in predictions(stages, name)[:1]:
            yield number, name, prediction


def predictions(stages: Mapping[str, AnyStage], name: str) -> list[PredictStage]:
    """The predictions that a stage is fused from, or itself if it is one, in order and each once."""
    found: dict[str, AnyStage | None] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found[one] = stage = stages.get(one)
        if isinstance(stage, EnsembleStage):
            waiting += reversed(stage.of)
    return [stage for stage in found.values() if isinstance(stage, PredictStage)]


def _circle(stages: Mapping[str, AnyStage]) -> list[str]:
    """A circle of stages, each taking the next, from the first in the file back to itself; empty if there is none."""
    try:
        TopologicalSorter({name: [*filter(stages.get, stage.takes())] for name, stage in stages.items()}).prepare()
    except CycleError as error:
        circle = error.args[1][:0:-1]  # each is taken by the next
        first = circle.index(min(circle, key=[*stages].index))
        return [*circle[first:], *circle[: first + 1]]
    return []


def _nearest(name: str, stages: Mapping[str, AnyStage], kinds: Sequence[str] = ()) -> str:
    """The stage with the most similar name, preferably of a suitable kind; else all suitable stages."""
    suitable = [other for other, stage in stages.items() if not kinds or stage.do in kinds]
    near = difflib.get_close_matches(name, suitable, n=1) or difflib.get_close_matches(name, stages, n=1)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f" (there are {', '.join(suitable)})" if suitable else ""


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
